"""``instseg experiment layered-…``: the table by hand, steps replaced by the truth, and a tiny grid, interrupted and taken up again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("pytorch_lightning")
pytest.importorskip("matplotlib")
pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval (extra eval)")

from instseg_ros.cli import main  # noqa: E402
from instseg_ros.evaluation.shapes import KEYS, ceiling, drawn_image, evaluate_shapes, of_segmenter, to_cells, with_truth  # noqa: E402
from instseg_ros.evaluation.shapes_report import shapes_figure, shapes_table  # noqa: E402
from instseg_ros.methods.layered.network import LayeredConfig, LayeredEmbeddings, Prediction  # noqa: E402
from instseg_ros.methods.layered.segmenter import LayeredSegmenter, Thresholds  # noqa: E402
from instseg_ros.methods.layered.stack import without_hidden  # noqa: E402
from instseg_ros.synthesis.shapes import SHAPES  # noqa: E402
from instseg_ros.training import experiment_layered  # noqa: E402
from instseg_ros.training.experiment_layered import EXPERIMENTS  # noqa: E402

NETWORK = {
    "classes": list(SHAPES), "embedding": 4, "backbone": "small", "width": 16, "blocks": [1, 1, 1], "rates": [1], "context": 8,
    "skip": 8, "eighth": 8, "decoder": 8, "head": [], "joint_heads": True, "position": 4.0,
}  # fmt: skip
TINY = {"network": NETWORK, "data": {"images": 2}, "trainer": {"batch_size": 2, "epochs": 1, "workers": 0}}


def row(variant: str, instances: int, score: float, seed: int | None = 0) -> dict:
    figures = dict.fromkeys(KEYS, score) | {"AR_partial": None, "images": 7}
    return {"variant": variant, "instances": instances, "seed": seed, "figures": figures, "steps": 1, "seconds": 1.0}


ROWS = [row("2 layers", 6, 0.5), row("2 layers", 6, 0.7, 1), row("3 layers", 6, 0.8), row("2 layers", 12, 0.2)]


def test_the_table_holds_means_and_deviations_over_seeds_and_the_papers_figures():
    lines = shapes_table("layered-ceilings", "Title", ROWS).splitlines()
    assert lines[0].startswith("Title. 7 test images") and "seeds 0, 1" in lines[0]
    assert lines[2].startswith("| N |  | AP | AP50 |")
    # (0.5 + 0.7) / 2 and the standard deviation 0.2 / √2; Table 2 of the paper behind it.
    assert lines[4].startswith("| 6 | 2 layers | 0.600 ± 0.141 |") and lines[4].endswith("| 0.858 / 0.863 / 0.741 |")
    assert lines[5].startswith("| 6 | 3 layers | 0.800 |") and " – " in lines[5]
    assert lines[6].startswith("| 12 | 2 layers | 0.200 |") and len(lines) == 7
    assert shapes_table("layered-layers", "Title", ROWS[:1]).splitlines()[-1].endswith("|  |")


def test_the_figure_has_a_curve_for_each_variant():
    panels = shapes_figure("Title", ROWS).axes
    assert [panel.get_title() for panel in panels] == ["AP", "AR100", "AR heavy"]
    assert [text.get_text() for text in panels[0].get_legend().get_texts()] == ["2 layers", "3 layers"]
    points = [container.lines[0].get_xydata().tolist() for container in panels[2].containers]
    assert points[0] == [[6, pytest.approx(0.6)], [12, 0.2]] and points[1] == [[6, 0.8]]


def test_every_ablation_of_the_paper_is_there():
    assert {v.change["network"]["layers"] for v in EXPERIMENTS["layered-layers"].variants} == {2, 3, 4}
    capacity = EXPERIMENTS["layered-embedding"]
    assert [v.change["network"]["embedding"] for v in capacity.variants] == [1, 2, 3, 4, 5, 6, 16]
    assert capacity.instances == (6, 12, 18, 24, 30) and all(v.change["data"]["classes"] == ["rectangle"] for v in capacity.variants)


# --- steps replaced by the truth


class Confused(LayeredSegmenter):
    """A network that tells apart every instance of image 3 with N = 2, but calls all of them circles and sees a frame around it all."""

    def __init__(self) -> None:
        super().__init__(LayeredEmbeddings(LayeredConfig(**NETWORK | {"layers": 3})), Thresholds(), torch.device("cpu"))
        self.cells = without_hidden(to_cells(drawn_image(2, 3)[1]))[:3].astype(np.int64)

    def predict(self, frame) -> Prediction:
        stack = torch.from_numpy(self.cells)
        kind = (stack > 0).long()
        kind[0, :2] = kind[0, -2:] = 1
        semantic = torch.nn.functional.one_hot(kind, 4).float().permute(0, 3, 1, 2)[None] * 20
        return Prediction(semantic, (1.0 * stack[None, :, None]).expand(-1, -1, 4, -1, -1))  # four channels: 4 apart in L1


def test_true_classes_and_clusters_mend_what_is_wrong_with_them():
    frame, truth = drawn_image(2, 3)
    segmenter = Confused()
    whole = ceiling(3)(frame, truth)[0]

    def masks(stack: np.ndarray) -> set[bytes]:
        return {(to_cells(stack) == k).any(0).tobytes() for k in range(1, stack.max() + 1) if (to_cells(stack) == k).any()}

    def of(**options: bool) -> tuple[np.ndarray, np.ndarray]:
        return with_truth(segmenter, 2, **options)(frame, truth)

    plain, score = of()
    assert masks(plain) != masks(whole) and np.array_equal(plain, of_segmenter(segmenter.segment)(frame, truth)[0])
    for stack, score in (of(true_classes=True), of(true_clusters=True), of(true_classes=True, true_clusters=True)):
        assert masks(stack) == masks(whole)
    assert of(true_clusters=True)[1].max() > 0.99, "circles they are said to be, and surely"
    shares = of(true_classes=True)[1]
    assert (shares > 0.9).sum() <= 2 < (shares < 0.1).sum(), "only the two circles are what the network takes them for"


def test_a_network_of_rectangles_is_looked_at_with_rectangles():
    found = evaluate_shapes({"ceiling": ceiling(4)}, 3, 2, classes=("rectangle",))["ceiling"]
    assert found["instances"] == 6 and found["AR100"] > 0.9


# --- the command


@pytest.fixture
def tiny(tmp_path) -> list[str]:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    return ["--config", str(config), "--steps", "1", "--device", "cpu", "--limit", "2", "--instances", "1"]


def test_an_interrupted_experiment_goes_on_and_gives_the_same(tiny, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    command = ["experiment", "layered-layers", "--out", str(out), *tiny]
    trained, fit = [], experiment_layered.fit_layered

    def counting(data, folder, config, **options):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append((config["network"]["layers"], config["data"]["instances"], options["limit_steps"]))
        return fit(data, folder, config, **options)

    monkeypatch.setattr(experiment_layered, "fit_layered", counting)
    assert main(command) == 130
    assert trained == [(2, [1], 1), (3, [1], 1)]
    half = json.loads((out / "layered-layers.json").read_text())["rows"]
    monkeypatch.setattr(experiment_layered, "fit_layered", fit)
    assert main(command) == 0
    rows = json.loads((out / "layered-layers.json").read_text())["rows"]
    assert rows[:2] == half and [r["variant"] for r in rows] == ["2 layers", "3 layers", "4 layers"]
    assert all(r["figures"]["images"] == 2 and r["figures"]["instances"] <= 6 for r in rows)
    assert (out / "layered-layers.md").read_text().count("\n| ") == 5 and (out / "layered-layers.png").stat().st_size > 10000
    model = out / "4-layers" / "n1" / "seed0"
    assert (model / "model.yaml").is_file() and not (model / "run").exists()
    assert main(["experiment", "layered-truth", "--model", str(model), "--out", str(out / "truth"), "--limit", "2", "--instances", "1"]) == 0
    names = [r["variant"] for r in json.loads((out / "truth" / "layered-truth.json").read_text())["rows"]]
    assert names == ["network", "true classes", "true clusters", "both: 4 layers"]
    capsys.readouterr()
    assert main([*command, "--limit", "1"]) == 2 and "another" in capsys.readouterr().err


def test_one_dimension_of_rectangles_trains(tiny, tmp_path, monkeypatch):
    only = EXPERIMENTS["layered-embedding"]
    monkeypatch.setitem(EXPERIMENTS, "layered-embedding", type(only)(only.title, only.instances, only.variants[:1]))
    assert main(["experiment", "layered-embedding", "--out", str(tmp_path / "out"), *tiny]) == 0
    (only,) = json.loads((tmp_path / "out" / "layered-embedding.json").read_text())["rows"]
    assert only["variant"] == "C = 1" and only["figures"]["instances"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["layered-layers", "--parts", "bolt"], "--parts"),
        (["layered-layers", "--model", "layered-shapes"], "--model is for layered-truth"),
        (["layered-ceilings", "--steps", "3"], "--steps"),
        (["layered-ceilings", "--instances", "6,none"], "'6,none'"),
        (["layered-truth", "--model", "clusternet-bin"], "not a model of Layered Embeddings"),
        (["mtml-toy", "--instances", "6"], "--instances is for layered"),
    ],
)
def test_bad_requests_are_one_line(words, message, tmp_path, capsys):
    assert main(["experiment", *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
