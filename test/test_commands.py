"""The commands evaluate, segment, models: what they write, and bad input in one line with exit status 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_bop import K, SHAPE, write_small_bop

from instseg_ros.cli import main
from instseg_ros.depth_files import output_names, parse_intrinsics, read_frame
from instseg_ros.errors import InputError
from instseg_ros.methods.classical.segmenter import write_classical_model

INTRINSICS = "120,120,63.5,47.5"


@pytest.fixture(scope="module")
def bop(tmp_path_factory) -> Path:
    return write_small_bop(tmp_path_factory.mktemp("bop"))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    write_classical_model(tmp_path_factory.mktemp("models") / "edges", "components")
    return tmp_path_factory.getbasetemp() / "models0" / "edges"


@pytest.fixture
def depth(tmp_path) -> Path:
    image = np.full(SHAPE, 600, np.uint16)
    image[20:50, 20:50], image[60:80, 80:110] = 540, 560
    cv2.imwrite(str(tmp_path / "depth.png"), image)
    np.save(tmp_path / "depth_m.npy", (image / 1000).astype(np.float32)[..., None])
    return tmp_path / "depth.png"


def fails(capsys, *words: object) -> str:
    """Run a command that must end with status 2, one line on stderr and no traceback; returns the line."""
    assert main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"instseg {words[0]}: ")
    return lines[0]


# evaluate


def test_evaluate_boxes(bop, model, tmp_path, capsys):
    pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval (extra eval)")
    json_file, pictures = tmp_path / "r.json", tmp_path / "pictures"
    words = ["evaluate", "--model", model, "--data", bop, "--json", json_file, "--pictures", pictures, "--device", "cpu"]
    assert main([str(w) for w in [*words, "--bop", tmp_path / "ours_boxes-test.json"]]) == 0
    result = json.loads(json_file.read_text())
    assert result["AP"] == pytest.approx(1) and result["mIoU"] > 0.95 and result["count_accuracy"] == 1
    assert result["centroid_mm_median"] < 0.5 and result["order_accuracy"] is None
    assert (result["images"], result["instances"], result["parts"]) == (4, 14, ["bolt", "nut"])
    assert result["per_part"]["nut"]["instances"] == 7 and result["per_image"][2]["key"] == [1, 0]
    assert {"best", "median", "worst"} == result["pictures"].keys()
    for relative in result["pictures"].values():
        assert cv2.imread(str(tmp_path / relative)).shape[1] == 3 * 320 + 2 * 6
    rows = json.loads((tmp_path / "ours_boxes-test.json").read_text())
    assert len(rows) == 14 and {row["category_id"] for row in rows if row["scene_id"] == 1} == {2}
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in table] == ["part", "all", "bolt", "nut"]


def test_evaluate_with_baselines_uses_the_same_images(bop, model, tmp_path):
    pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval (extra eval)")
    pytest.importorskip("sklearn", reason="needs the package scikit-learn (extra eval)")
    words = ["--data", bop, "--limit", 2, "--count", "truth", "--no-intervals", "--json", tmp_path / "r.json"]
    assert main([str(w) for w in ["evaluate", "--model", model, "--baseline", "kmeans,components", *words]]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["method"] == "edges" and list(result["baselines"]) == ["kmeans", "components"]
    keys = [[image["key"] for image in r["per_image"]] for r in (result, *result["baselines"].values())]
    assert keys[0] == keys[1] == keys[2] == [[0, 0], [1, 1]]
    assert result["baselines"]["kmeans"]["given"]["count"] == "truth" and "given" not in result
    assert result["baselines"]["kmeans"]["count_accuracy"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "BOP"], "give --model DIR, --baseline NAME"),
        (["--data", "/nowhere", "--baseline", "components"], "/nowhere is not a folder"),
        (["--data", "BOP", "--split", "dev", "--baseline", "components"], "no split 'dev'; it has test"),
        (["--data", "BOP", "--baseline", "magic"], "unknown baseline 'magic': choose components, kmeans"),
        (["--data", "BOP", "--baseline", "components", "--limit", "0"], "--limit must be at least 1, got 0"),
        (["--data", "BOP", "--baseline", "kmeans", "--count", "many"], "--count must be .*'many'"),
        (["--data", "BOP", "--model", "/nowhere"], "/nowhere does not exist"),
        (["--data", "BOP", "--model", "MODEL", "--device", "tpu7"], "'tpu7' is"),
    ],
)
def test_evaluate_bad_input(words, message, bop, model, capsys):
    import re

    words = [{"BOP": bop, "MODEL": model}.get(word, word) for word in words]
    assert re.search(message, fails(capsys, "evaluate", *words))


def test_evaluate_broken_image_is_named(bop, model, tmp_path, capsys):
    copy = shutil.copytree(bop, tmp_path / "bop")
    image = copy / "test" / "000001" / "depth" / "000000.png"
    image.write_bytes(image.read_bytes()[:100])
    json_file = tmp_path / "r.json"
    assert str(image) in fails(capsys, "evaluate", "--model", model, "--data", copy, "--json", json_file)
    assert not json_file.exists()


# segment


def test_segment_depth_files(depth, model, tmp_path):
    out = tmp_path / "out"
    words = ["segment", depth, depth.with_name("depth_m.npy"), "--model", model, "--intrinsics", INTRINSICS, "--out", out]
    assert main([str(w) for w in [*words, "--json", tmp_path / "all.json"]]) == 0
    names = sorted(p.name for p in out.iterdir())
    assert names == sorted(f"{n}{s}" for n in ("depth", "depth_m") for s in (".json", "_labels.png", "_overlay.png"))
    labels = cv2.imread(str(out / "depth_labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == np.uint16 and labels[30, 30] == 1 and labels[70, 90] == 2 and labels[0, 0] == 0
    assert np.array_equal(labels, cv2.imread(str(out / "depth_m_labels.png"), cv2.IMREAD_UNCHANGED))
    rows = json.loads((out / "depth.json").read_text())["instances"]
    assert rows[0]["centroid_m"][2] == pytest.approx(0.54, abs=1e-3) and rows[0]["depth_order"] == 0
    assert rows[0]["visible_fraction"] is None and rows[0]["pixels"] == pytest.approx(900, rel=0.03)
    assert len(json.loads((tmp_path / "all.json").read_text())["images"]) == 2


def test_segment_bop_images_find_their_camera(bop, model, tmp_path):
    scene = bop / "test" / "000000"
    words = ["segment", scene / "depth" / "000000.png", scene / "rgb" / "000001.png", "--model", model, "--out", tmp_path]
    assert main([str(w) for w in words]) == 0
    assert len(json.loads((tmp_path / "000000_000000.json").read_text())["instances"]) == 3
    assert len(json.loads((tmp_path / "000000_000001.json").read_text())["instances"]) == 4


def test_depth_scale_and_color(depth, tmp_path):
    cv2.imwrite(str(tmp_path / "color.png"), np.full((2 * SHAPE[0], 2 * SHAPE[1], 3), (10, 20, 30), np.uint8))
    frame = read_frame(depth, intrinsics=K, depth_scale=0.0005, color=tmp_path / "color.png")
    assert frame.depth[0, 0] == pytest.approx(0.3) and frame.color[0, 0].tolist() == [30, 20, 10]
    assert frame.color.shape == (*SHAPE, 3)


def bad_files(tmp_path: Path) -> dict[str, Path]:
    """Files that are not depth."""
    paths = {name: tmp_path / name for name in ("text.png", "cut.png", "gray8.png", "rgb.png", "cut.npy", "words.npy", "cube.npy", "empty.npy")}
    paths["text.png"].write_text("not a picture")
    cv2.imwrite(str(paths["cut.png"]), np.full(SHAPE, 600, np.uint16))
    paths["cut.png"].write_bytes(paths["cut.png"].read_bytes()[:60])
    cv2.imwrite(str(paths["gray8.png"]), np.zeros(SHAPE, np.uint8))
    cv2.imwrite(str(paths["rgb.png"]), np.zeros((*SHAPE, 3), np.uint8))
    np.save(paths["cut.npy"], np.ones(SHAPE, np.float32))
    paths["cut.npy"].write_bytes(paths["cut.npy"].read_bytes()[:200])
    np.save(paths["words.npy"], np.array([["a", "b"]]))
    np.save(paths["cube.npy"], np.ones((4, 5, 6), np.float32))
    np.save(paths["empty.npy"], np.ones((0, 6), np.float32))
    return paths


@pytest.mark.parametrize("name", ["text.png", "cut.png", "gray8.png", "rgb.png", "cut.npy", "words.npy", "cube.npy", "empty.npy"])
def test_segment_names_a_file_that_is_no_depth(name, model, tmp_path, capfd):
    file = bad_files(tmp_path)[name]
    words = ["segment", file, "--model", model, "--intrinsics", INTRINSICS, "--out", tmp_path / "out"]
    assert main([str(w) for w in words]) == 2
    assert f"instseg segment: {file} " in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_npy_with_pickle_is_refused(model, tmp_path, capsys):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object))
    message = fails(capsys, "segment", tmp_path / "evil.npy", "--model", model, "--intrinsics", INTRINSICS, "--out", tmp_path)
    assert "evil.npy is not a readable NPY array" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["DEPTH"], "camera of .* is unknown: give --intrinsics"),
        (["/nowhere.png", "--intrinsics", INTRINSICS], "/nowhere.png does not exist"),
        (["DEPTH", "--intrinsics", "1,2,3"], "four numbers fx,fy,cx,cy in pixels, got '1,2,3'"),
        (["DEPTH", "--intrinsics", "0,600,1,1"], "positive focal lengths, got '0,600,1,1'"),
        (["DEPTH", "--intrinsics", INTRINSICS, "--depth-scale", "0"], "--depth-scale must be positive .*got 0.0"),
        (["DEPTH", "--intrinsics", INTRINSICS, "--color", "/no.png"], "color image /no.png does not exist"),
        (["DEPTH", "DEPTH", "--intrinsics", INTRINSICS, "--color", "a.png"], "1 times for 2 files"),
        (["DEPTH", "DEPTH", "--intrinsics", INTRINSICS], "given twice"),
    ],
)
def test_segment_bad_input(words, message, depth, model, tmp_path, capsys):
    import re

    words = [depth if word == "DEPTH" else word for word in words]
    assert re.search(message, fails(capsys, "segment", *words, "--model", model, "--out", tmp_path / "out"))


def test_segment_color_of_other_proportions(depth, model, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((96, 256, 3), np.uint8))
    words = ["--color", tmp_path / "wide.png", "--intrinsics", INTRINSICS, "--model", model, "--out", tmp_path]
    assert "256 × 96, the depth 128 × 96: align them first" in fails(capsys, "segment", depth, *words)


def test_segment_without_permission_leaves_nothing(depth, model, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    words = ["--intrinsics", INTRINSICS, "--model", model, "--out", tmp_path / "taken"]
    assert "cannot write" in fails(capsys, "segment", depth, *words)
    assert (tmp_path / "taken").read_text() == "a file"


def test_output_names_stay_apart():
    assert output_names(["a/depth_0.npy", "b/depth_0.npy", "b/depth_1.npy"]) == ["a_depth_0", "b_depth_0", "depth_1"]
    with pytest.raises(InputError, match="given twice"):
        output_names(["a/x.png", "a/x.png"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30))
def test_any_intrinsics_give_a_camera_or_one_sentence(text):
    try:
        camera = parse_intrinsics(text)
    except InputError as error:
        assert "\n" not in str(error) or "\n" in text
    else:
        assert camera.shape == (3, 3) and np.isfinite(camera).all()


# models


def test_models_lists_good_and_broken(model, tmp_path, capsys):
    shutil.copytree(model, tmp_path / "good")
    shutil.copytree(model, tmp_path / "broken")
    (tmp_path / "broken" / "model.yaml").write_text("method: [")
    assert main(["models", str(tmp_path), "--json", str(tmp_path / "list.json")]) == 0
    out = capsys.readouterr().out
    assert "good  (classical" in out and "broken: " in out
    listed = {m["name"]: m for m in json.loads((tmp_path / "list.json").read_text())["models"]}
    assert listed["good"]["method"] == "classical" and "not valid YAML" in listed["broken"]["error"]


def test_models_of_an_empty_and_a_missing_folder(tmp_path, capsys):
    assert main(["models", str(tmp_path)]) == 0
    assert "no models" in capsys.readouterr().out
    assert "does not exist" in fails(capsys, "models", tmp_path / "nowhere")
