"""The evaluator node: right answers score 1, in real processes; what is late, doubled or wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_scenes import SHAPE, scene, scenes, write_bag

from instseg_ros.bags import Bag
from instseg_ros.bags import topics as names
from instseg_ros.errors import InputError

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("rosbags", reason="needs the package rosbags")
pytest.importorskip("faster_coco_eval", reason="needs the package faster-coco-eval")

from instseg_ros.nodes.pairing import MAX_OPEN, Collected, Pairing
from instseg_ros.nodes.scoring import Scoring
from instseg_ros.processes import parameter_arguments

TESTS = str(Path(__file__).parent)


def ros(**parameters):
    return ["--ros-args", *parameter_arguments(parameters)]


def test_right_answers_score_one_over_dds(spawn, ros_env, tmp_path):
    bag, out = write_bag(tmp_path / "bag", 12, jpeg=True), tmp_path / "out"
    oracle = spawn("oracle", env={"PYTHONPATH": os.pathsep.join([TESTS, ros_env["PYTHONPATH"]])})
    evaluator = spawn("instseg_ros.nodes.evaluator", *ros(out=str(out), picture_every=4))
    answers = ["/instseg/masks", "/evaluator/scored"]
    player = spawn("instseg_ros.nodes.bag_player", *ros(bag=str(bag), lockstep=True, answers=answers, subscribers=2))
    assert player.wait() == 0, player.output
    assert evaluator.wait() == 0, evaluator.output
    oracle.stop()
    result = json.loads((out / "metrics.json").read_text())
    frames = {
        key: result["frames"][key] for key in ("seen", "answered", "scored", "unanswered", "duplicates", "refused")
    }
    assert frames == {"seen": 12, "answered": 12, "scored": 12, "unanswered": 0, "duplicates": 0, "refused": 0}
    assert result["player"]["answered"] == 12
    for key in ("AP", "AP50", "AR100", "mIoU", "count_accuracy", "order_accuracy", "amodal_AP"):
        assert result[key] == pytest.approx(1.0), key
    assert result["centroid_mm_median"] == pytest.approx(0.0, abs=1e-3)
    assert sorted(result["per_part"]) == ["cone", "nut"]
    assert result["latency_ms"]["count"] == 12 and result["latency_ms"]["median"] > 0
    pictures = sorted(out.glob("*.png"))
    assert [p.name for p in pictures] == ["0001.png", "0005.png", "0009.png"]
    assert cv2.imread(str(pictures[0])).shape[1] > 2 * SHAPE[1]
    assert "mIoU 1.000" in evaluator.output


def test_a_run_without_truth_gives_latency_and_counts_on_ctrl_c(spawn, ros_env, tmp_path):
    bag, out = write_bag(tmp_path / "bag", 5, truth=False), tmp_path / "out"
    evaluator = spawn("instseg_ros.nodes.evaluator", *ros(out=str(out), exit_when_done=False))
    player = spawn("instseg_ros.nodes.bag_player", *ros(bag=str(bag), rate=10.0))
    assert player.wait() == 0, player.output
    evaluator.wait_for("0 of 5 frames answered")
    assert evaluator.stop() == 1, "no frame was answered"
    result = json.loads((out / "metrics.json").read_text())
    assert result["frames"]["seen"] == result["frames"]["unanswered"] == 5
    assert "AP" not in result


# ---------------------------------------------------------------------------------------------------------- pairing


def test_pairing_waits_for_what_is_published():
    expected = {"depth", "masks"}
    pairing = Pairing(lambda: expected, once="masks", now=iter(range(100)).__next__)
    assert pairing.add("depth", 1, "d1") == []
    assert pairing.add("depth", 2, "d2") == []
    expected.add("truth")
    assert pairing.add("masks", 2, "m2") == []
    (done,) = pairing.add("truth", 2, "t2")
    assert done.messages == {"depth": "d2", "masks": "m2", "truth": "t2"} and done.arrived == {
        "depth": 1,
        "masks": 2,
        "truth": 3,
    }
    assert pairing.add("masks", 2, "again") == [] and pairing.duplicates == 1
    assert [frame.stamp_ns for frame in pairing.flush()] == [1]


def test_pairing_starts_anew_when_a_bag_is_looped():
    pairing = Pairing(lambda: {"depth", "masks"}, once="masks")
    for _ in range(2):
        assert pairing.add("depth", 1, "d") == []
        assert len(pairing.add("masks", 1, "m")) == 1
    assert pairing.duplicates == 0


def test_pairing_keeps_a_bounded_number_of_frames():
    pairing = Pairing(lambda: {"depth", "masks"}, once="masks")
    given_up = [frame.stamp_ns for stamp in range(MAX_OPEN + 3) for frame in pairing.add("depth", stamp, "")]
    assert given_up == [0, 1, 2] and len(pairing.flush()) == MAX_OPEN


# ---------------------------------------------------------------------------------------------------------- scoring

KINDS = {
    names.DEPTH: "depth",
    names.COLOR: "color",
    names.TRUTH_MASKS: "true_masks",
    names.TRUTH_LAYERS: "true_layers",
    names.TRUTH_INSTANCES: "true_instances",
}


@pytest.fixture
def messages(tmp_path):
    """CDR bytes of the first scene, by the evaluator's names; the truth is also the answer."""
    with Bag(write_bag(tmp_path / "one", 1)) as bag:
        found = {KINDS[m.topic]: m.data for m in bag.messages() if m.topic in KINDS}
    found |= {"masks": found["true_masks"], "instances": found["true_instances"], "layers": found["true_layers"]}
    return found


def collected(messages: dict[str, bytes]) -> Collected:
    return Collected(1, messages, {kind: 0.25 if kind == "masks" else 0.2 for kind in messages})


def test_one_frame(messages, tmp_path):
    scoring = Scoring(tmp_path, every=1, part_names={3: "nut", 7: "cone"})
    assert scoring.add(collected(messages)) == "cone, nut: 2 found, 2 true, mIoU 1.00   50 ms"
    picture = cv2.imread(str(tmp_path / "0001.png"))[..., ::-1]
    _, truth = scene(0)
    answer, true = picture[-SHAPE[0] :, : SHAPE[1]], picture[-SHAPE[0] :, -SHAPE[1] :]
    np.testing.assert_array_equal(answer, true)  # the same colours for matching instances
    assert (answer[truth.labels == 1].mean(0) != answer[truth.labels == 0].mean(0)).any()
    assert scoring.result()["latency_ms"]["median"] == 50


def test_without_truth_there_is_latency_only(messages):
    scoring = Scoring()
    kinds = ("depth", "masks", "instances", "layers")
    assert scoring.add(collected({kind: messages[kind] for kind in kinds})) == "2 parts found   50 ms"
    result = scoring.result()
    assert result["frames"] == {"seen": 1, "answered": 1, "unanswered": 0, "scored": 0, "without_truth": 1}
    assert "AP" not in result


def test_without_an_answer(messages):
    scoring = Scoring()
    assert scoring.add(collected({"depth": messages["depth"]})) == ""
    assert scoring.result()["frames"]["unanswered"] == 1 and scoring.result()["latency_ms"]["median"] is None


def test_messages_that_do_not_belong_together(messages, tmp_path):
    from dataclasses import replace

    from instseg_ros.bags import BagWriter

    frame, truth = next(scenes(1))
    small = replace(truth, labels=truth.labels[:24].copy(), layers=None, masks=None)
    with BagWriter(tmp_path / "small") as writer:
        writer.write(replace(frame, depth=frame.depth[:24].copy(), color=None), small)
    with Bag(tmp_path / "small") as bag:
        other = {KINDS[m.topic]: m.data for m in bag.messages() if m.topic in KINDS}
    for change, text in (
        (
            {"true_masks": other["true_masks"], "true_layers": other["true_masks"]},
            "evaluate at the size of the camera image",
        ),
        ({"true_layers": other["true_masks"]}, "they must be of one image"),
        ({"instances": other["true_masks"]}, "no PointCloud2"),
        ({"masks": messages["depth"], "layers": messages["depth"]}, "has no row"),
    ):
        with pytest.raises(InputError, match=text):
            Scoring().add(collected(messages | change))
