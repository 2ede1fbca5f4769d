"""``instseg bench``: the figures' keys and meaning; the figures themselves are no test's business."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bag_scenes import write_bag

from instseg_ros import cli
from instseg_ros.methods.classical.segmenter import write_classical_model

pytest.importorskip("rosbags", reason="needs the package rosbags")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Options with a model and a bag of three frames."""
    folder = tmp_path_factory.mktemp("bench")
    write_classical_model(folder / "model")
    return ["--model", str(folder / "model"), "--bag", str(write_bag(folder / "bag", 3))]


def bench(kind, material, tmp_path, frames):
    file = tmp_path / "result.json"
    assert cli.main(["bench", kind, *material, "--frames", str(frames), "--json", str(file)]) == 0
    return json.loads(file.read_text())


def test_segment(material, tmp_path, capsys):
    result = bench("segment", material, tmp_path, 4)
    assert (
        result["segment"]["count"] == result["frames"] == 4 and result["segment_ms"] == result["segment"]["median"] > 0
    )
    assert result["size"] == [48, 64] and result["machine"]["cores"] >= 1
    assert "segment_ms" in capsys.readouterr().out


def test_ros(material, tmp_path, ros_env, monkeypatch):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    for name in ("ROS_DOMAIN_ID", "PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, ros_env[name])
    result = bench("ros", material, tmp_path, 22)
    assert result["frames"] == 24 - 10 and result["unanswered"] == 0  # whole passes, without those for warming up
    assert result["end_to_end_ms"] == result["end_to_end"]["median"]
    assert result["ros_share_ms"] == pytest.approx(result["end_to_end_ms"] - result["segment_ms"], abs=1e-2)
    assert 0 < result["bare_share_ms"] < 1e3


def test_swap(tmp_path, ros_env, monkeypatch):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from instseg_ros.benchmarks import swap

    write_classical_model(tmp_path / "model")
    material = ["--model", str(tmp_path / "model"), "--bag", str(write_bag(tmp_path / "bag", 3))]
    for name in ("ROS_DOMAIN_ID", "PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, ros_env[name])
    monkeypatch.setattr(swap, "RATE", 10.0)
    result = bench("swap", material, tmp_path, 15)
    assert result["swaps"] == 3 and result["frames"] >= 3 * 5
    assert result["latency_ms"]["count"] + result["latency_near_swaps_ms"]["count"] == result["frames"] - result["unanswered"]


def test_swap_counts_frames_without_an_answer_and_where_they_were():
    from instseg_ros.benchmarks.swap import summary

    sent = [[i, float(i)] for i in range(20)]
    lost = (2, 9, 10, 17)
    report = {
        "rate_hz": 1.0,
        "sent": sent,
        "answers": [[i, i + 0.1] for i in range(20) if i not in lost] + [[19, 50.0]],  # an answer that came twice
        "swaps": [[4.5, 4.6], [8.5, 10.2], [14.0, 14.5]],
    }
    found = summary(report, [(t, 2**20 * (100 if t < 16 else 120)) for t in range(25)])
    assert (found["unanswered"], found["unanswered_near_swaps"], found["longest_gap_frames"]) == (4, 2, 2)
    assert found["latency_ms"]["median"] == found["latency_near_swaps_ms"]["max"] == pytest.approx(100)
    assert (found["rss_mb_after_2_swaps"], found["rss_mb_end"]) == (100, 120)


@pytest.mark.parametrize(
    ("kind", "frames", "text"),
    [
        ("ros", "10", "--frames must be above 10"),
        ("soak", "99", "--frames must be at least 100"),
        ("swap", "14", "--frames must be at least 15"),
        ("segment", "0", "at least 1"),
        ("synth", "39", "--frames must be at least 40"),
    ],
)
def test_too_few_frames(material, capsys, kind, frames, text):
    assert cli.main(["bench", kind, *material, "--frames", frames]) == 2
    assert text in capsys.readouterr().err


def test_soak_compares_memory_after_50_frames_with_the_end(monkeypatch):
    from instseg_ros.benchmarks import Options, nodes, soak

    answered = np.arange(200) * 0.1
    clock = iter(np.arange(0, 20, 0.1))
    # 30 MB while loading and warming up, then 100 MB that grow by 1 %.
    memory = iter(np.where(np.arange(200) < 40, 30, np.linspace(99.7, 101, 200)) * 2**20)

    def play(options, frames, watch):
        for _ in range(200):
            watch(7)
        report = {"answered_at_s": answered.tolist(), "segmenter": {}, "unanswered": 0}
        return nodes.Run(report, 20, (48, 64))

    monkeypatch.setattr(soak, "play", play)
    monkeypatch.setattr(soak, "resident_bytes", lambda pid: next(memory))
    monkeypatch.setattr(soak.time, "monotonic", lambda: next(clock))
    result = soak.run(Options(frames=200))
    assert result["rss_mb_after_50"] == pytest.approx(100.1, abs=0.1)
    assert result["rss_mb_end"] == pytest.approx(100.9, abs=0.1)
    assert result["growth_percent"] == pytest.approx(0.8, abs=0.15)
    assert result["frames"] == 200 and result["seconds"] == 19.9


def test_synth_compares_memory_after_a_tenth_with_the_end(monkeypatch):
    pytest.importorskip("mujoco")
    from instseg_ros.benchmarks import Options, synth

    runs = []
    megabytes = iter([*np.linspace(240, 241, 5), *np.linspace(250, 255, 50)])  # the first ones: while it warms up

    def generate(recipe, root, progress=lambda images: None):
        runs.append((recipe.camera, recipe.scenes))
        for _ in range(recipe.scenes // 20):
            progress(20)

    monkeypatch.setattr(synth, "generate", generate)
    monkeypatch.setattr(synth, "resident_bytes", lambda pid: next(megabytes) * 2**20)
    result = synth.run(Options(frames=1000, camera="insta10"))
    assert runs == [("insta10", 10), ("insta10", 1000)]
    assert result["resident_mb_224x224"] == {
        "at_10_percent": 241.0, "at_100_percent": pytest.approx(254.5, abs=0.1), "highest": pytest.approx(254.5, abs=0.1),
        "growth_percent": pytest.approx(5.6, abs=0.1),
    }  # fmt: skip
    assert result["images_per_minute_224x224"] > 0 and "images_per_minute_640x480" not in result


def test_memory_counts_workers(tmp_path):
    pytest.importorskip("mujoco")
    import subprocess
    import sys

    from instseg_ros.benchmarks.synth import _resident_mb

    before = _resident_mb()
    code = "import time; block = bytearray(100 << 20); print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        assert 100 < _resident_mb() - before < 150
    finally:
        child.kill()
        child.wait()
