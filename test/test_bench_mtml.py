"""``instseg bench mtml`` at small sizes: what grows is measured, and drawn."""

import json

import pytest

from instseg_ros.benchmarks import mtml
from instseg_ros.cli import main


def test_sizes_and_figure(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(mtml, "MILLIONS", (0.002, 0.01))
    monkeypatch.setattr(mtml, "ASKED", (0.01, 10.0))
    command = ["bench", "mtml", "--frames", "1", "--device", "cpu", "--picture", str(tmp_path / "cost.png"), "--json", str(tmp_path / "r.json")]
    assert main(command) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    for row, millions in zip(result["sizes"], (0.002, 0.01)):
        x, y, z = row["grid"]
        assert x * y * z == pytest.approx(millions * 1e6, rel=0.1) and x / z == pytest.approx(92 / 40, rel=0.2)
        assert row["occupied"] == int(0.05 * x * y * z) and row["seconds"] > 0 and row["memory_mb"] > 0
    assert result["sizes"][0]["memory_mb"] <= result["sizes"][1]["memory_mb"]  # a peak
    assert (tmp_path / "cost.png").stat().st_size > 5000
    assert main(["bench", "mtml", "--model", "clusternet-bin"]) == 2
    assert "model of mtml" in capsys.readouterr().err


def test_the_figure_shows_every_size():
    pytest.importorskip("matplotlib")
    rows = [{"millions": m, "seconds": 2 * m, "cpu_seconds": m, "memory_mb": 100 + m} for m in (1.0, 4.0)]
    left, right = mtml.cost_figure(rows, "test").axes
    assert left.lines[0].get_xydata().tolist() == [[1, 2], [4, 8]] and right.lines[0].get_ydata().tolist() == [101, 104]
