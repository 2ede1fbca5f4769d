"""The standard sets: what the YAML defines, how it is made and kept, the hard images, the calibration of the bins."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

for package in ("mujoco", "manifold3d", "numba", "tqdm", "sklearn", "faster_coco_eval"):
    pytest.importorskip(package)

from instseg_ros.bop import BopDataset  # noqa: E402
from instseg_ros.cli import main  # noqa: E402
from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.evaluation import calibrate_bins  # noqa: E402
from instseg_ros.evaluation.calibrate_bins import Reached, choose, paper_pixels, score  # noqa: E402
from instseg_ros.evaluation.hard import hard_file, read_hard, store_hard  # noqa: E402
from instseg_ros.evaluation.image_set import open_dataset  # noqa: E402
from instseg_ros.methods.classical.segmenter import write_classical_model  # noqa: E402
from instseg_ros.synthesis import benchmark as sets  # noqa: E402
from instseg_ros.synthesis import parts  # noqa: E402
from instseg_ros.synthesis.benchmark import benchmark_names, read_benchmark  # noqa: E402

SHIPPED = sets._file(None)
SMALL = "insta10-sim-small"
TABLE_1 = {"nut": 0.64, "stopper": 0.297, "cylinder": 0.7, "bolt": 0.18, "cone": 0.35, "connector": 0.554, "plug5": 0.628,
           "obj01": 0.208, "obj14": 0.496, "obj05": 0.59}  # fmt: skip


def write_config(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump(yaml.safe_load(SHIPPED.read_text()) | changes, sort_keys=False))
    return path


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped definition with 8 test and 2 other images a part, and a cache of its own; answers the cache folder."""
    counts = {name: {"train": 2, "val": 2, "test": 8, "noise": "none"} for name in benchmark_names()}
    config = write_config(tmp_path / "sets.yaml", sets=counts)
    monkeypatch.setattr(sets, "_file", lambda path: config)
    monkeypatch.setenv("INSTSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*words: object) -> int:
    return main([str(word) for word in words])


# what is defined


def test_shipped_sets_are_the_ones_of_the_issue():
    large, small = read_benchmark("insta10-sim"), read_benchmark(SMALL)
    assert large.counts == {"train": 10000, "val": 100, "test": 400}
    assert small.counts == {"train": 1000, "val": 50, "test": 100}
    assert list(large.parts) == list(parts.PARTS) and small.parts == large.parts
    assert {name: part.kmeans_paper for name, part in large.parts.items()} == TABLE_1
    assert np.mean(list(TABLE_1.values())) == pytest.approx(0.464, abs=5e-4)  # the mean that Table 1 prints
    assert len({part.seed for part in large.parts.values()}) == 10
    recipe = large.recipe("nut", "val")
    assert recipe.instances == (5, 5) and recipe.camera == "insta10" and recipe.bin == (large.parts["nut"].bin,) * 2
    assert read_benchmark("insta10-sim-d435").recipe("nut", "val").noise == "d435"
    for name, part in large.parts.items():
        assert 0.5 < part.bin / parts.load_part(name).diameter < 2


def test_digest_changes_with_the_test_images_only(tmp_path: Path):
    counts = yaml.safe_load(SHIPPED.read_text())["sets"]
    counts[SMALL]["train"] += 1
    same = read_benchmark(SMALL, write_config(tmp_path / "same.yaml", sets=counts))
    other = read_benchmark(SMALL, write_config(tmp_path / "other.yaml", seed=5))
    assert same.digest() == read_benchmark(SMALL).digest() != other.digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": []}, "must hold the keys"),
        ({"extra": 1}, "must hold the keys"),
        ({"parts": {"gear": {"bin": 0.1, "kmeans_paper": 0.5}}}, "unknown part 'gear'"),
        ({"parts": {"nut": {"kmeans_paper": 0.5}}}, "not as it should be"),
        ({"parts": {"nut": {"bin": "wide", "kmeans_paper": 0.5}}}, "not as it should be"),
        ({"hard_share": 1.5}, "hard_share must lie between"),
    ],
)
def test_bad_definition_is_one_sentence(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        read_benchmark(SMALL, write_config(tmp_path / "bad.yaml", **changes))


# made, kept, evaluated


def test_evaluate_makes_and_keeps_the_images_and_scores_the_hard_ones(tiny: Path, tmp_path: Path, capsys):
    words = ["evaluate", "--benchmark", SMALL, "--part", "nut,cone", "--baseline", "kmeans", "--count", 5, "--foreground", "truth"]
    assert run(*words, "--no-intervals", "--json", tmp_path / "r.json") == 0
    assert "all, hard" in capsys.readouterr().out
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["images"] == 16 and set(result["per_part"]) == {"nut", "cone"} and result["data"] == f"{SMALL}/test (nut, cone)"
    assert len({tuple(image["key"]) for image in result["per_image"]}) == 16
    assert result["hard"]["images"] == 4 and result["hard"]["per_part"]["nut"]["images"] == 2
    for part in ("nut", "cone"):  # told the same as the rule, k-means scores the same: its worst quarter is the hard one
        scores = sorted(image["mIoU"] for image in result["per_image"] if image["part"] == [part])
        assert max(scores[:2]) <= min(scores[2:])
        hard = result["hard"]["per_part"][part]
        assert hard["mIoU"] == pytest.approx(np.mean(scores[:2]), abs=0.05) and hard["mIoU"] < result["per_part"][part]["mIoU"]

    files = {path: path.stat().st_mtime_ns for path in tiny.rglob("*.png")}
    assert len(files) > 16
    assert run(*words, "--limit", 3, "--no-intervals", "--json", tmp_path / "again.json") == 0
    assert json.loads((tmp_path / "again.json").read_text())["images"] == 3
    assert files == {path: path.stat().st_mtime_ns for path in tiny.rglob("*.png")}


def test_model_is_evaluated_on_the_parts_of_its_card(tiny: Path, tmp_path: Path, capsys):
    model = tmp_path / "model"
    write_classical_model(model, "components")
    card = yaml.safe_load((model / "model.yaml").read_text())
    for named, code in (({"parts": ["cone", "gear"]}, 0), ({"parts": ["gear"]}, 2), ({}, 2)):
        (model / "model.yaml").write_text(yaml.safe_dump(card | {"training": named}))
        words = ["evaluate", "--benchmark", SMALL, "--model", model, "--device", "cpu", "--no-intervals"]
        assert run(*words, "--json", tmp_path / "r.json") == code
        if code:
            assert "name one or more with --part" in capsys.readouterr().err
        else:
            assert json.loads((tmp_path / "r.json").read_text())["parts"] == ["cone"]


def test_synth_writes_the_set_that_evaluate_reads(tiny: Path, tmp_path: Path):
    assert run("synth", "benchmark", SMALL, "--part", "nut", "--out", tmp_path / "set", "--json", tmp_path / "s.json") == 0
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["images"] == 12 and summary["parts"]["nut"]["hard_test"] == 2
    assert [len(BopDataset(tmp_path / "set" / "nut", split)) for split in ("train", "val", "test")] == [2, 2, 8]
    assert len(open_dataset(tmp_path / "set" / "nut", None).hard) == 2  # --data knows the hard images too
    words = ["evaluate", "--benchmark", SMALL, "--data", tmp_path / "set", "--part", "nut", "--baseline", "components"]
    assert run(*words, "--no-intervals") == 0
    assert not tiny.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "--baseline", "kmeans"], "give --data DIR, --benchmark"),
        (["evaluate", "--baseline", "kmeans", "--benchmark", "insta11"], "unknown benchmark 'insta11'"),
        (["evaluate", "--baseline", "kmeans", "--benchmark", SMALL, "--part", "gear"], "has no part 'gear'"),
        (["evaluate", "--baseline", "kmeans", "--benchmark", SMALL, "--split", "val"], "--split val does not go with"),
        (["synth", "benchmark", SMALL, "--split", "all", "--out", "x"], "unknown split 'all'"),
    ],
)
def test_bad_words_are_one_line(tiny: Path, capsys, words: list[str], message: str):
    assert run(*words) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_cache_that_cannot_be_written_is_named(tiny: Path, tmp_path: Path, capsys):
    tiny.write_text("a file where the folder should be")
    assert run("evaluate", "--benchmark", SMALL, "--part", "nut", "--baseline", "kmeans") == 2
    assert "INSTSEG_CACHE" in capsys.readouterr().err


def test_hard_images_are_computed_once_for_a_rule(tiny: Path, tmp_path: Path):
    assert run("synth", "benchmark", SMALL, "--part", "cone", "--split", "test", "--out", tmp_path / "set") == 0
    dataset = BopDataset(tmp_path / "set" / "cone", "test")
    first = hard_file(dataset).stat().st_mtime_ns
    assert store_hard(dataset, 5, 0.25) == read_hard(dataset) and hard_file(dataset).stat().st_mtime_ns == first
    assert len(store_hard(dataset, 5, 0.5)) == 4


# calibration


def reached(bin: float, hard: float, hidden: float = 0.0, rejected: float = 0.0) -> Reached:
    return Reached(bin, hard, hard, hard, hidden, rejected)


def test_the_nearest_sensible_bin_is_chosen():
    measured = [reached(0.04, 0.4, hidden=0.5), reached(0.05, 0.5, rejected=0.9), reached(0.06, 0.6), reached(0.08, 0.8)]
    assert choose(measured, 0.75).bin == 0.08
    assert choose(measured, 0.2).bin == 0.06  # out of reach: the hardest bin that is one
    with pytest.raises(InputError, match="fewer instances"):
        choose(measured[:2], 0.5)


def test_the_paper_looks_at_the_middle_at_64():
    rows, columns = (axis.ravel() for axis in paper_pixels((224, 224)))
    assert len(rows) == len(columns) == 64 and rows[0] == 6 and rows[-1] == 217 and set(np.diff(rows)) <= {3, 4}


def test_a_wide_bin_is_easier_and_scores_repeat():
    benchmark = read_benchmark("insta10-sim")
    wide = score(benchmark.recipe("cylinder", "val", bin=0.12, scenes=4), 0.25)
    narrow = score(benchmark.recipe("cylinder", "val", bin=0.04, scenes=4), 0.25)
    assert narrow.all < wide.all and narrow.hard <= narrow.all and wide.hidden == 0 and wide.sensible
    assert wide == score(benchmark.recipe("cylinder", "val", bin=0.12, scenes=4), 0.25)


def test_calibration_prints_lines_for_the_yaml(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(calibrate_bins, "HALF_SIDES", (1.0,))
    assert calibrate_bins.main(["--part", "nut", "--images", "2"]) == 0
    lines = yaml.safe_load(capsys.readouterr().out)
    assert lines["nut"]["bin"] == 0.057 and lines["nut"]["kmeans_paper"] == 0.64 and 0 < lines["nut"]["kmeans_hard"] <= 1
    assert calibrate_bins.main(["--part", "gear"]) == 2
