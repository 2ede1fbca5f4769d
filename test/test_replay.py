"""``instseg replay``: each frame once, the same scores each time, and the scores that the nodes get over DDS."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bag_scenes import scenes, write_bag

from instseg_ros import cli
from instseg_ros.clouds import INSTANCE_DTYPE, instance_table, instances_from, read_cloud
from instseg_ros.geometry import deproject, depth_order, label_moments
from instseg_ros.instances import Instances
from instseg_ros.methods import Segmenter

pytest.importorskip("rosbags", reason="needs the package rosbags")
pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval")


class Threshold(Segmenter):
    """Everything nearer than 0.58 m, one instance a height: right for bag_scenes."""

    def __init__(self) -> None:
        self.stamps: list[int] = []

    @classmethod
    def from_model(cls, model, device):
        return cls()

    def segment(self, frame):
        self.stamps.append(frame.stamp_ns)
        labels = np.zeros(frame.shape, np.uint16)
        labels[np.abs(frame.depth - 0.5) < 0.01] = 1
        labels[np.abs(frame.depth - 0.55) < 0.01] = 2
        centroid, covariance, _ = label_moments(labels, deproject(frame.depth, frame.K), 2)
        return Instances(
            labels,
            np.array([0.9, 0.8], np.float32),
            centroid.astype(np.float32),
            covariance.astype(np.float32),
            np.full(2, np.nan, np.float32),
            depth_order(labels, frame.depth, 2),
        )


@pytest.fixture
def segmenter(monkeypatch):
    """The segmenter that every model directory gives here."""
    segmenter = Threshold()
    monkeypatch.setattr("instseg_ros.methods.segmenter.load_segmenter", lambda directory, device: segmenter)
    return segmenter


def replay(bag, tmp_path, *options):
    file = tmp_path / "result.json"
    assert cli.main(["replay", str(bag), "--model", "any", "--json", str(file), *options]) == 0
    return json.loads(file.read_text())


def test_each_frame_once_and_right_answers_score_one(segmenter, tmp_path, capsys):
    result = replay(write_bag(tmp_path / "bag", 8), tmp_path, "--pictures", str(tmp_path / "pictures"), "--every", "4")
    assert segmenter.stamps == [frame.stamp_ns for frame, _ in scenes(8)]
    assert result["frames"] == {"bag": 8, "segmented": 8, "scored": 8, "parts_found": 16}
    assert result["AP"] == result["mIoU"] == 1.0
    assert result["centroid_mm_median"] == pytest.approx(0, abs=1e-3)
    assert result["segment_ms"]["count"] == 8
    assert [entry["key"] for entry in result["per_image"]] == segmenter.stamps
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["0001.png", "0005.png"]
    assert "8 frames" in capsys.readouterr().out


def test_two_runs_agree(segmenter, tmp_path):
    bag = write_bag(tmp_path / "bag", 4)
    first, second = replay(bag, tmp_path), replay(bag, tmp_path)
    for result in (first, second):
        for key in ("segment_ms", "seconds"):
            del result[key]
        for scores in (*result["per_part"].values(), *result["per_image"]):
            del scores["seconds"]
    assert first == second


def test_without_truth(segmenter, tmp_path, capsys):
    result = replay(write_bag(tmp_path / "bag", 3, truth=False), tmp_path, "--limit", "2")
    assert result["frames"] == {"bag": 3, "segmented": 2, "scored": 0, "parts_found": 4}
    assert "AP" not in result and "no truth in the bag: 4 parts found in 2 frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--depth", "/nope"], "no depth topic /nope; it holds"),
        (["--every", "-1"], "--every must be at least 1"),
    ],
)
def test_bad_input_is_one_line(segmenter, tmp_path, capsys, options, text):
    bag = write_bag(tmp_path / "bag", 1)
    assert cli.main(["replay", str(bag), "--model", "any", *options]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_color_that_is_missing(segmenter, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Threshold, "needs_color", True)
    with_color = write_bag(tmp_path / "bag", 1)
    assert cli.main(["replay", str(with_color), "--model", "any"]) == 0
    from dataclasses import replace

    from instseg_ros.bags import BagWriter

    with BagWriter(tmp_path / "gray") as writer:
        writer.write(replace(next(scenes(1))[0], color=None))
    assert cli.main(["replay", str(tmp_path / "gray"), "--model", "any"]) == 2
    assert "has no colour" in capsys.readouterr().err


def test_instance_tables_round_trip():
    frame, truth = next(scenes(1))
    instances = Threshold().segment(frame)
    again = instances_from(instances.labels, instance_table(instances))
    for name in ("labels", "score", "centroid", "covariance", "visible_fraction", "depth_order", "layers"):
        np.testing.assert_array_equal(getattr(again, name), getattr(instances, name))


def test_the_nodes_publish_the_same_table():
    answers = pytest.importorskip("instseg_ros.nodes.answers", reason="needs ROS 2")
    frame, _ = next(scenes(1))
    instances = Threshold().segment(frame)
    published = read_cloud(answers.instances_cloud(frame, instances))
    assert published.dtype == INSTANCE_DTYPE and published.tobytes() == instance_table(instances).tobytes()


def test_the_demo_over_dds_gives_the_scores_of_the_replay(spawn, tmp_path):
    """What `make demo` runs: three processes, each frame answered once; the same bag and model, online and offline."""
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from instseg_ros.methods.classical.segmenter import write_classical_model

    write_classical_model(tmp_path / "model")
    bag, out, file = write_bag(tmp_path / "bag", 6, jpeg=True), tmp_path / "out", tmp_path / "offline.json"
    demo = spawn("instseg_ros.nodes.demo", "--bag", bag, "--model", tmp_path / "model", "--out", out)
    assert cli.main(["replay", str(bag), "--model", str(tmp_path / "model"), "--json", str(file)]) == 0
    assert demo.wait(120) == 0, demo.output
    online, offline = json.loads((out / "metrics.json").read_text()), json.loads(file.read_text())
    frames = {key: online["frames"][key] for key in ("seen", "answered", "scored", "unanswered", "duplicates")}
    assert frames == {"seen": 6, "answered": 6, "scored": 6, "unanswered": 0, "duplicates": 0}
    for result in (online, offline):
        for scores in result["per_image"]:
            del scores["seconds"]
    assert online["per_image"] == offline["per_image"]
    for key in ("AP", "AP50", "AR100", "mIoU", "count_accuracy", "centroid_mm_median"):
        assert online[key] == pytest.approx(offline[key], rel=1e-5), key
    assert sorted(path.name for path in out.iterdir()) == ["0001.png", "0006.png", "logs", "metrics.json"]
    for text in ("bag_player → segmenter → evaluator", "6 answered", "mIoU", "latency", "what next"):
        assert text in demo.output


@pytest.mark.parametrize(("option", "text"), [("--model", "demo: model directory"), ("--bag", "demo: ")])
def test_a_demo_without_model_or_bag_is_one_line(tmp_path, capsys, option, text):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from instseg_ros.methods.classical.segmenter import write_classical_model
    from instseg_ros.nodes import demo

    write_classical_model(tmp_path / "model")
    options = {"--model": str(tmp_path / "model"), "--bag": str(tmp_path / "bag"), "--out": str(tmp_path / "out")}
    options[option] = str(tmp_path / "absent")
    assert demo.main([word for pair in options.items() for word in pair]) == 2
    error = capsys.readouterr().err
    assert text in error and "absent" in error and error.count("\n") == 1
