"""``instseg experiment mtml-toy``: the table by hand, and the whole grid at a tiny size, interrupted and taken up again."""

import json

import pytest
import yaml

pytest.importorskip("pytorch_lightning")
pytest.importorskip("matplotlib")

from instseg_ros.cli import main  # noqa: E402
from instseg_ros.evaluation.voxel_report import voxel_figure, voxel_table  # noqa: E402
from instseg_ros.training import experiment_mtml  # noqa: E402

TINY = {
    "network": {"stem": 2, "middle": 2, "width": 2, "up": 4, "head": 8, "embedding": 2},
    "trainer": {"batch_size": 1, "epochs": 1, "workers": 0, "checkpoint_every": 1},
}


def cell(method: str, noise: float, seed: int | None, a: float, b: float) -> dict:
    scores = {name: {"AP": value / 2, "AP50": value, "AP25": value} for name, value in (("a", a), ("b", b), ("mean", (a + b) / 2))}
    return {"method": method, "noise": noise, "seed": seed, "scores": scores, "test_scenes": 7, "seconds": 1.0}


CELLS = [
    cell("connected components", 0.0, None, 0.5, 0.7), cell("connected components", 0.3, None, 0.1, 0.1),
    cell("embedding only", 0.0, 0, 0.8, 0.8), cell("multi-task", 0.0, 0, 0.9, 0.8), cell("multi-task", 0.3, 0, 0.6, 0.6),
    cell("embedding only", 0.0, 1, 0.8, 0.6), cell("multi-task", 0.0, 1, 0.9, 0.8), cell("multi-task", 0.3, 1, 0.5, 0.6),
]  # fmt: skip


def test_the_table_holds_means_deviations_and_the_paired_gain():
    lines = voxel_table(CELLS).splitlines()
    assert "7 test scenes, seeds 0, 1" in lines[0]
    assert lines[2] == "| wrong blocks |  | a AP50 | b AP50 | mean AP50 | mean AP | mean AP25 |"
    assert lines[4] == "| 0% | connected components | 50.0 | 70.0 | 60.0 | 30.0 | 60.0 |"
    assert lines[5] == "| 0% | embedding only | 80.0 ± 0.0 | 70.0 ± 14.1 | 75.0 ± 7.1 | 37.5 ± 3.5 | 75.0 ± 7.1 |"
    assert lines[8] == "| 30% | embedding only | – | – | – | – | – |"
    # Seed 0: 85 − 80, seed 1: 85 − 70; with 30 % there is no pair.
    assert lines[11:] == ["- 0% wrong: multi-task − embedding only +10.0 ± 7.1 AP50, 2 seeds"]


def test_the_figure_has_a_curve_and_a_bar_for_each_method():
    left, right = voxel_figure(CELLS).axes
    assert [t.get_text() for t in left.get_legend().get_texts()] == ["connected components", "embedding only", "multi-task"]
    curves = {c.get_label(): c.lines[0].get_xydata().tolist() for c in left.containers}
    assert curves["multi-task"] == [[0.0, pytest.approx(85.0)], [0.3, pytest.approx(57.5)]]
    assert curves["embedding only"] == [[0.0, pytest.approx(75.0)]]
    heights = [[round(bar.get_height()) for bar in c] for c in right.containers if hasattr(c, "patches")]
    assert heights == [[50, 70], [80, 70], [90, 80]]


@pytest.fixture
def command(tmp_path) -> list[str]:
    root = tmp_path / "voxels"
    for split, scenes in (("train", "2"), ("test", "3")):
        assert main(["synth", "voxels", "--scenes", scenes, "--instances", "2-3", "--split", split, "--out", str(root)]) == 0
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    options = ["--data", str(root), "--config", str(config), "--steps", "1", "--limit", "2", "--seeds", "1", "--device", "cpu"]
    return ["experiment", "mtml-toy", "--out", str(tmp_path / "out"), *options]


def test_an_interrupted_experiment_goes_on_and_gives_the_same(command, tmp_path, monkeypatch, capsys):
    out, trained, fit = tmp_path / "out", [], experiment_mtml.fit_mtml

    def counting(data, folder, config, **options):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append((config["data"]["noise"], config.get("loss", {}).get("direction", 1.0), options["seed"]))
        return fit(data, folder, config, **options)

    monkeypatch.setattr(experiment_mtml, "fit_mtml", counting)
    assert main(command) == 130
    assert trained == [(0.0, 0.0, 0), (0.0, 1.0, 0), (0.1, 0.0, 0)]
    half = json.loads((out / "mtml-toy.json").read_text())["cells"]
    assert [c["method"] for c in half[:6]] == ["semantic label as instance", "connected components"] * 3

    monkeypatch.setattr(experiment_mtml, "fit_mtml", lambda *a, **k: (trained.append(a[2]["data"]["noise"]), fit(*a, **k))[1])
    assert main(command) == 0
    assert trained[3:] == [0.1, 0.3, 0.3]  # what was missing
    cells = json.loads((out / "mtml-toy.json").read_text())["cells"]
    assert cells[:9] == half and len(cells) == 12 and all(c["test_scenes"] == 2 for c in cells)
    text = (out / "mtml-toy.md").read_text()
    assert text.count("\n| ") == 14 and text.count("- ") >= 3 and (out / "mtml-toy.png").stat().st_size > 10000
    only = yaml.safe_load((out / "noise-0.0" / "embedding-only" / "seed0" / "model.yaml").read_text())
    assert only["thresholds"]["direction"] is False and only["training"]["noise"] == 0.0

    capsys.readouterr()
    assert main([*command, "--steps", "2"]) == 2
    assert "choose another --out" in capsys.readouterr().err.splitlines()[-1]


def test_noises_can_be_chosen_and_added_later(command, tmp_path):
    assert main([*command, "--noise", "0.3"]) == 0
    first = json.loads((tmp_path / "out" / "mtml-toy.json").read_text())["cells"]
    assert {c["noise"] for c in first} == {0.3} and len(first) == 4
    assert main([*command, "--noise", "0.3,0"]) == 0
    cells = json.loads((tmp_path / "out" / "mtml-toy.json").read_text())["cells"]
    assert [c["noise"] for c in cells] == [0.0, 0.0, 0.3, 0.3, 0.0, 0.0, 0.3, 0.3]
    assert [c for c in cells if c["noise"] == 0.3] == first  # read back, not trained again


@pytest.mark.parametrize("change", [["--noise", "1.5"], ["--noise", "much"], ["--noise", "nan"], ["--seeds", "0"], ["--parts", "bolt"], ["--workers", "2"], ["--config", "none"]])
def test_bad_requests_are_one_line(tmp_path, change, capsys):
    assert main(["experiment", "mtml-toy", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *change]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and change[1 if change[0] == "--config" else 0] in lines[0]


def test_noise_is_for_this_experiment_alone(tmp_path, capsys):
    assert main(["experiment", "insegan-ablation", "--noise", "0.1", "--out", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "--noise is for mtml-toy" in lines[0]
