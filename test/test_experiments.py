"""``instseg experiment``: the table by hand, and a whole grid at a tiny size, interrupted and taken up again."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from depth_scenes import write_bop

pytest.importorskip("pytorch_lightning")
pytest.importorskip("matplotlib")

from instseg_ros.cli import main  # noqa: E402
from instseg_ros.evaluation.experiment_report import experiment_figure, experiment_table  # noqa: E402
from instseg_ros.methods.model_directory import read_config  # noqa: E402
from instseg_ros.training import experiments  # noqa: E402
from instseg_ros.training.cells import changed, slug  # noqa: E402
from instseg_ros.training.config import read_training_config  # noqa: E402
from instseg_ros.training.fit_insegan import RunConfig  # noqa: E402

TINY = {
    "network": {"kind": "3d", "size": 32, "instances": 2, "latent": 8, "template": 4, "template_channels": 4, "volume": 8,
                "volume_channels": 4, "features": 8},
    "trainer": {"batch_size": 4, "epochs": 2, "checkpoint_every": 1, "validation_images": 2},
}  # fmt: skip


def cell(part: str, variant: str, seed: int, score: float, hard: float | None, trained: int = 10) -> dict:
    scores = {"mIoU": score, "mIoU_best": score + 0.1, "count_accuracy": 1.0}
    return {
        "part": part, "variant": variant, "seed": seed, **scores, "test_images": 4, "train_images": trained, "seconds": 1.0,
        "hard": None if hard is None else scores | {"mIoU": hard, "mIoU_best": hard + 0.1},
    }  # fmt: skip


CELLS = [
    cell("bolt", "k-means", 0, 0.5, 0.4, trained=0), cell("nut", "k-means", 0, 0.7, 0.6, trained=0),
    cell("bolt", "1", 0, 0.6, 0.5), cell("bolt", "1", 1, 0.8, 0.7), cell("nut", "1", 0, 0.9, 0.8), cell("bolt", "2", 0, 0.3, None),
]  # fmt: skip


def test_the_table_holds_means_and_deviations_over_seeds():
    lines = experiment_table("Title", CELLS).splitlines()
    assert lines[0].startswith("Title. ") and "4 test images a part, seeds 0, 1." in lines[0]
    assert lines[2] == "|  | bolt hard | bolt all | nut hard | nut all | mean hard | mean all |"
    assert lines[4] == "| k-means | 0.400 | 0.500 | 0.600 | 0.700 | 0.500 (0.600) | 0.600 (0.700) |"
    # Two seeds: (0.5 + 0.7) / 2 and their standard deviation 0.2 / √2; over the parts: (0.6 + 0.8) / 2.
    assert lines[5] == "| 1 | 0.600 ± 0.141 | 0.700 ± 0.141 | 0.800 | 0.900 | 0.700 (0.800) | 0.800 (0.900) |"
    assert lines[6] == "| 2 | – | 0.300 | – | – | – | – |"


@pytest.mark.parametrize("axis", ["", "instances"])
def test_the_figure_has_a_curve_or_bars_for_each_part(axis):
    left, right = experiment_figure("Title", axis, CELLS).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["bolt", "nut"]
    dashed = [line.get_ydata()[0] for line in right.lines if line.get_linestyle() == "--"]
    assert dashed == [0.5, 0.7]
    if axis:
        points = [container.lines[0].get_xydata().tolist() for container in right.containers]
        assert points[1] == [[1.0, 0.9]] and points[0][0] == pytest.approx([1.0, 0.7]) and points[0][1] == [2.0, 0.3]
    else:
        assert [bar.get_height() for bar in right.containers[1]] == pytest.approx([0.7, 0.3])  # the first is the error bars'


def test_every_experiment_of_the_paper_is_there():
    ablation, instances, data = (experiments.EXPERIMENTS[name] for name in ("insegan-ablation", "insegan-instances", "insegan-data"))
    losses = [variant.change["loss"] for variant in ablation.variants]
    assert {loss["matching"] for loss in losses} == {"ot", "hungarian", "greedy"}
    assert {(loss["intermediate"], loss["perceptual"]) for loss in losses} == {(1, 1), (1, 0), (0, 0)}
    assert [v.change["network"]["kind"] for v in ablation.variants if "network" in v.change] == ["2d"]
    assert [v.change["network"]["instances"] for v in instances.variants] == [1, 2, 3, 4, 5, 6, 7]
    assert [v.share for v in data.variants] == [0.1, 0.25, 0.5, 1.0]


def test_every_remedy_is_a_switch_of_the_improved_configuration():
    experiment = experiments.EXPERIMENTS["insegan-remedies"]
    assert experiment.config == "insegan_improved" and experiment.variants[0].change == {}
    improved = read_training_config(experiment.config)
    whole = asdict(RunConfig.read(improved))
    for variant in experiment.variants[1:]:
        switched = asdict(RunConfig.read(changed(improved, variant.change)))
        for section, values in variant.change.items():  # each key is known and differs from what the configuration has
            assert values.keys() == {key for key in whole[section] if whole[section][key] != switched[section][key]}, variant.name
        assert {name for name in whole if whole[name] != switched[name]} == variant.change.keys(), variant.name
    names = [v.name for v in experiment.variants]
    assert len(set(map(slug, names))) == len(names)


@pytest.fixture
def tiny(tmp_path) -> list[str]:
    """Arguments of an experiment on 24 training and 2 test images."""
    write_bop(tmp_path / "data" / "box", 24)
    write_bop(tmp_path / "data" / "box", 2, "test")
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    return ["--parts", "box", "--data", str(tmp_path / "data"), "--config", str(config), "--steps", "1", "--device", "cpu"]


def test_an_interrupted_experiment_goes_on_and_gives_the_same(tiny, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = ["experiment", "insegan-data", "--out", str(out), *tiny]
    trained = []
    fit = experiments.fit_insegan

    def counting(images, folder, *rest, **options):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append((Path(folder).parent.name, len(images)))
        return fit(images, folder, *rest, **options)

    monkeypatch.setattr(experiments, "fit_insegan", counting)
    assert main(command) == 130
    assert trained == [("0.1", 2), ("0.25", 6)]
    half = json.loads((out / "insegan-data.json").read_text())["cells"]
    assert [c["variant"] for c in half] == [experiments.KMEANS, "0.1", "0.25"]

    monkeypatch.setattr(experiments, "fit_insegan", lambda *a, **k: (trained.append(k["seed"]), fit(*a, **k))[1])
    assert main(command) == 0
    assert len(trained) == 4  # the two that were missing
    cells = json.loads((out / "insegan-data.json").read_text())["cells"]
    assert cells[:3] == half and [c["train_images"] for c in cells] == [0, 2, 6, 12, 24]
    assert all(0 <= c["mIoU"] <= c["mIoU_best"] <= 1 and c["test_images"] == 2 for c in cells)
    assert (out / "insegan-data.md").read_text().count("\n| ") == 7 and (out / "insegan-data.png").stat().st_size > 10000
    assert (out / "box" / "1.0" / "seed0" / "model.yaml").is_file() and not (out / "box" / "images").exists()

    capsys.readouterr()
    assert main([*command, "--limit", "1"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.splitlines()[-1].startswith("instseg experiment: ") and "another" in error


def test_the_time_of_a_training_survives_breaks_in_it_and_behind_it(tiny, tmp_path, monkeypatch):
    """Broken off in the training, then between training and scoring: the parts of the training are added up, nothing else."""
    experiment = experiments.Experiment("Title", (experiments.Variant("one"),))
    monkeypatch.setitem(experiments.EXPERIMENTS, "insegan-data", experiment)
    command = ["experiment", "insegan-data", "--out", str(tmp_path / "out"), *tiny]
    clock = [100.0]
    monkeypatch.setattr(experiments, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    fit, score = experiments.fit_insegan, experiments._score

    def broken(*_, **__):
        clock[0] += 5
        raise KeyboardInterrupt

    def whole(*args, **options):
        clock[0] += 20
        return fit(*args, **options)

    def unscored(plan, part, answer, keep=None):
        clock[0] += 1000
        if keep:
            raise KeyboardInterrupt
        return score(plan, part, answer, keep)

    monkeypatch.setattr(experiments, "fit_insegan", broken)
    assert main(command) == 130
    monkeypatch.setattr(experiments, "fit_insegan", whole)
    monkeypatch.setattr(experiments, "_score", unscored)
    assert main(command) == 130
    monkeypatch.setattr(experiments, "fit_insegan", broken)  # is not called again
    monkeypatch.setattr(experiments, "_score", score)
    assert main(command) == 0
    assert [c["seconds"] for c in json.loads((tmp_path / "out" / "insegan-data.json").read_text())["cells"]] == [0.0, 25.0]


EXPLICIT = {
    "network": {"kind": "explicit", "size": 32, "instances": 2, "width": 4},
    "template": {"rounds": 1, "images": 4, "rotations": 24, "steps": 2, "trial_images": 2, "resolution": 12, "polish": 1},
    "pool": {"images": 6, "rotations": 24, "steps": 2},
    "trainer": {"batch_size": 4, "epochs": 2, "validation_images": 2},
    "thresholds": {"search": True, "refine_steps": 2},
}


def test_switches_of_the_answer_train_nothing(tiny, tmp_path, monkeypatch, capsys):
    (tmp_path / "explicit.yaml").write_text(yaml.safe_dump(EXPLICIT))
    tiny[tiny.index("--config") + 1] = str(tmp_path / "explicit.yaml")
    keep = ("all remedies", "no search", "neither (encoder alone)", "no polish of the template")
    experiment = experiments.EXPERIMENTS["insegan-remedies"]
    variants = tuple(v for v in experiment.variants if v.name in keep)
    monkeypatch.setitem(experiments.EXPERIMENTS, "insegan-remedies", replace(experiment, variants=variants))
    trained, fit = [], experiments.fit_insegan
    monkeypatch.setattr(experiments, "fit_insegan", lambda *a, **k: (trained.append(a[1].parent.name), fit(*a, **k))[1])
    out = tmp_path / "out"
    assert main(["experiment", "insegan-remedies", "--out", str(out), *tiny]) == 0
    assert trained == ["all-remedies", "no-polish-of-the-template"]
    models = {folder: read_config(out / "box" / folder / "seed0") for folder in ("all-remedies", "no-search", "neither-encoder-alone")}
    whole = models["all-remedies"]
    for folder, change in (("no-search", {"search": False}), ("neither-encoder-alone", {"search": False, "refine_steps": 0})):
        assert models[folder]["weights_sha256"] == whole["weights_sha256"]
        assert models[folder]["thresholds"] == whole["thresholds"] | change
    assert not list(out.rglob("answers.npz"))

    # The trained one varied as a given model: the same figures, no training.
    command = ["experiment", "insegan-remedies", "--model", str(out / "box" / "all-remedies" / "seed0"), "--parts", "box"]
    command += ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "given"), "--device", "cpu"]
    assert main(command) == 0 and len(trained) == 2
    first, again = (json.loads((folder / "insegan-remedies.json").read_text())["cells"] for folder in (out, tmp_path / "given"))
    same = [cell for cell in first if cell["variant"] != "no polish of the template"]
    assert [c["variant"] for c in again] == [experiments.KMEANS, *keep[:3]]
    assert [c | {"seconds": 0} for c in again] == [c | {"seconds": 0} for c in same]
    assert (tmp_path / "given" / "insegan-remedies.png").stat().st_size > 10000

    capsys.readouterr()
    assert main([*command, "--seeds", "2"]) == 2
    assert "--model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [(["--seeds", "0"], "--seeds"), (["--steps", "0"], "--steps"), (["--parts", "cog"], "cog"), (["--config", "none"], "none")],
)
def test_bad_requests_are_one_line(tiny, tmp_path, change, message, capsys):
    assert main(["experiment", "insegan-data", "--out", str(tmp_path / "out"), *tiny, *change]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_benchmark_is_made_and_one_training_run_of_it(tiny, tmp_path, monkeypatch):
    """Without --data: images of the standard set (here a small one) are made in the cache, the hard ones found."""
    pytest.importorskip("mujoco")
    from instseg_ros.synthesis import benchmark

    read = benchmark.read_benchmark
    small = {"train": 24, "val": 1, "test": 4}
    monkeypatch.setattr(benchmark, "read_benchmark", lambda name: replace(read(name), counts=small))
    monkeypatch.setenv("INSTSEG_CACHE", str(tmp_path / "cache"))
    out, at = tmp_path / "out", tiny.index("--data")
    command = ["experiment", "insegan-instances", "--out", str(out), *tiny[:at], *tiny[at + 2 :], "--parts", "nut"]
    assert main(command) == 0
    cells = json.loads((out / "insegan-instances.json").read_text())["cells"]
    assert [c["variant"] for c in cells] == [experiments.KMEANS, *map(str, range(1, 8))]
    assert all(c["hard"] is not None and c["test_images"] == 4 for c in cells)
    networks = [yaml.safe_load((out / "nut" / str(n) / "seed0" / "model.yaml").read_text())["network"] for n in range(1, 8)]
    assert [network["instances"] for network in networks] == list(range(1, 8))
