"""The whole way of a user without CAD and labels: record a bag of the bin, train on it, run the model in the node."""

from __future__ import annotations

import json
import signal

import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")
pytest.importorskip("pytorch_lightning", reason="needs requirements/train.txt")
pytest.importorskip("mujoco", reason="needs requirements/synth.txt")

from instseg_ros.bags import Bag  # noqa: E402
from instseg_ros.cli import main  # noqa: E402
from instseg_ros.processes import parameter_arguments  # noqa: E402

FRAMES = 205
TINY = {  # the shipped configuration's method with next to no budget: it has to run, not to be good
    "network": {"kind": "explicit", "size": 32, "instances": 4, "width": 8},
    "template": {"rounds": 1, "images": 8, "rotations": 48, "steps": 6, "trial_images": 2, "resolution": 16},
    "pool": {"images": 16, "rotations": 48, "steps": 4},
    "trainer": {"batch_size": 8, "epochs": 4, "validation_images": 4},
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_an_unlabelled_bag_to_answers_of_the_node(tmp_path, spawn):
    bag, model, report = tmp_path / "bag", tmp_path / "model", tmp_path / "report.json"
    synth = ["synth", "bins", "--part", "nut", "--instances", "4", "--camera", "insta10", "--noise", "d435", "--bin", "0.05,0.05"]
    assert main([*synth, "--scenes", str(FRAMES), "--out", str(tmp_path / "set"), "--bag", str(bag), "--no-truth"]) == 0
    with Bag(bag) as held:
        assert not any(topic.startswith("/truth") for topic in held.types)

    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    assert main(["train", "insegan", "--bag", str(bag), "--instances", "4", "--config", str(config), "--out", str(model)]) == 0
    card = yaml.safe_load((model / "model.yaml").read_text())
    assert card["training"]["source"] == "bag" and card["training"]["distinct"] >= 200 and card["normalisation"]["size"] == 32
    assert not (model / "run" / "images").exists()

    node = spawn("instseg_ros", "up", "--model", model, "--device", "cpu")
    node.wait_for("segmenting what arrives on", timeout=120)
    parameters = {"bag": str(bag), "lockstep": True, "answer_timeout": 30.0, "report": str(report)}
    player = spawn("instseg_ros.nodes.bag_player", "--ros-args", *parameter_arguments(parameters))
    assert player.wait(timeout=900) == 0, player.output
    told = json.loads(report.read_text())
    counts = {key: told[key] for key in ("frames", "played", "answered", "unanswered", "duplicates")}
    assert counts == {"frames": FRAMES, "played": FRAMES, "answered": FRAMES, "unanswered": 0, "duplicates": 0}
    assert node.stop(signal.SIGINT) == 0 and "Traceback" not in node.output
