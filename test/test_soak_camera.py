"""``instseg bench soak --minutes``: camera, segmenter and subscriber as processes, every frame accounted for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bag_scenes import write_bag

from instseg_ros import cli
from instseg_ros.benchmarks import soak_camera
from instseg_ros.methods.classical.segmenter import write_classical_model


def test_every_frame_is_accounted_for(ros_env, monkeypatch, tmp_path):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from rclpy.utilities import get_rmw_implementation_identifier

    get_rmw_implementation_identifier()  # ROS' Fast DDS before that of pyrealsense2
    needs = "needs the package pyrealsense2 and the system package libusb-1.0-0"
    pytest.importorskip("pyrealsense2", reason=needs, exc_type=ImportError)
    for name in ("ROS_DOMAIN_ID", "PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, ros_env[name])
    monkeypatch.setattr(soak_camera, "PERIOD", 0.1)
    write_classical_model(tmp_path / "model")
    file = tmp_path / "result.json"
    words = ["--model", str(tmp_path / "model"), "--bag", str(write_bag(tmp_path / "bag", 3)), "--minutes", "0.05"]
    assert cli.main(["bench", "soak", *words, "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    accounting, segmenter = result["accounting"], result["accounting"]["segmenter"]
    assert accounting["camera_unaccounted"] == accounting["segmenter_unaccounted"] == accounting["answers_not_heard"] == 0
    assert accounting["camera"]["published"] >= segmenter["depth_images"] >= segmenter["received"] >= segmenter["answered"] > 0
    assert accounting["lost_between"] == accounting["camera"]["published"] - segmenter["depth_images"]
    assert 0 < result["age_of_answers_s"]["median"] <= result["age_of_answers_s"]["oldest"]
    assert all(memory["end"] > 10 for memory in result["rss_mb"].values()) and set(result["rss_mb"]) == {"camera", "segmenter"}


def test_memory_after_the_first_minute_is_compared_with_the_end():
    times = np.arange(0.0, 300.0, 0.25)
    memory = np.interp(times, [0, 30, 90, 300], [100, 400, 500, 505])  # loading, warming up, then a little more
    counts = {"frames": 10, "published": 8, "incomplete": 1, "failed": 0, "dropped": 0, "reconnects": 0}
    report = {
        "first_answer_at_s": 30.0, "end_at_s": 270.0, "answers_heard": 3, "age_s": {"oldest": 0.5}, "skipped": {"skipped_stale": 1},
        "camera": counts, "method": "m",
        "segmenter": {"received": 7, "answered": 4, "replaced_by_newer": 1, "skipped": 1, "depth_images": 7},
    }  # fmt: skip
    result = soak_camera.summary(report, {"camera": np.column_stack([times, memory])})
    assert result["rss_mb"]["camera"]["settled"] == pytest.approx(500.4, abs=0.3)
    assert result["rss_mb"]["camera"]["end"] == pytest.approx(504.2, abs=0.3)
    assert result["rss_mb"]["camera"]["growth_percent"] == pytest.approx(0.8, abs=0.1)
    assert result["rss_mb"]["camera"]["each_minute"] == pytest.approx([499.6, 501.4, 502.9, 504.3], abs=0.1)
    accounting = result["accounting"]
    assert (accounting["camera_unaccounted"], accounting["lost_between"]) == (1, 1)
    assert (accounting["segmenter_unaccounted"], accounting["answers_not_heard"]) == (1, 1)
    assert (result["minutes"], result["settled_after_s"]) == (4.0, 60.0)
    short = soak_camera.summary({**report, "end_at_s": 90.0}, {"camera": np.column_stack([times, memory])})
    assert short["settled_after_s"] == 30.0 and short["rss_mb"]["camera"]["settled"] == pytest.approx(466.5, abs=0.5)


def test_swings_within_a_frame_are_no_growth():
    times = np.arange(0.0, 300.0, 0.25)
    at_the_peak = np.random.default_rng(0).random(len(times)) < np.linspace(0.2, 0.8, len(times))
    swing = np.where(at_the_peak, 50.0, 0.0)
    assert soak_camera._memory(np.column_stack([times, 500 + swing]), 30, 270, 60)["growth_percent"] == 0


@pytest.mark.parametrize(("minutes", "text"), [("0.04", "at least 0.05"), ("-1", "positive"), ("nan", "positive")])
def test_too_short_is_refused(capsys, minutes, text):
    assert cli.main(["bench", "soak", "--minutes", minutes]) == 2
    assert text in capsys.readouterr().err
