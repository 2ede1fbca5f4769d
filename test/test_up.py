"""``instseg up`` passes on what the launch file would."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from instseg_ros.methods.classical.segmenter import write_classical_model  # noqa: E402


def test_a_layered_model_beside_the_model_is_passed_on(spawn, tmp_path):
    write_classical_model(tmp_path / "model")
    child = spawn("instseg_ros", "up", "--model", tmp_path / "model", "--amodal-model", tmp_path / "no-layers")
    child.wait_for("no-layers")
    child.stop(signal.SIGINT)
