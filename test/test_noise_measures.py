"""Measures of depth noise on images whose noise is known; ``instseg bench noise`` on frames of a known camera."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

for package in ("mujoco", "manifold3d", "numba", "rosbags", "matplotlib"):
    pytest.importorskip(package)

from instseg_ros.cli import main  # noqa: E402
from instseg_ros.synthesis.edge_noise import edge_shape, hole_rates  # noqa: E402
from instseg_ros.synthesis.noise_fields import smooth_normal  # noqa: E402
from instseg_ros.synthesis.plane_noise import correlation_length, disparity_constant, plane_residuals  # noqa: E402
from instseg_ros.synthesis.sensor import SensorParams, add_noise  # noqa: E402

SHAPE, CONSTANT = (240, 320), 21.2
K = np.array([[615.0, 0, 159.5], [0, 615, 119.5], [0, 0, 1]])


def tilted(z: float = 0.7) -> np.ndarray:
    """Disparity (px) of a plane turned about both axes of the image."""
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return CONSTANT / z + 0.01 * (u - 160) + 0.02 * (v - 120)


def depth(disparity: np.ndarray) -> np.ndarray:
    return (CONSTANT / disparity).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_plane_noise_is_the_noise_that_was_added(sigma: float) -> None:
    residuals = plane_residuals([depth(tilted() + rng().normal(0, sigma, SHAPE))], CONSTANT)
    rows = residuals.noise((0.5, 1.0), CONSTANT)
    assert len(rows) == 1 and rows[0].windows == len(residuals.z) > 100
    assert rows[0].px == pytest.approx(sigma, rel=0.03) and rows[0].z == pytest.approx(0.7, rel=0.05)
    assert rows[0].mm == pytest.approx(1e3 * sigma * rows[0].z ** 2 / CONSTANT, rel=0.03)
    assert np.abs(residuals.correlation(0)[1:]).max() < 0.05 and residuals.correlation(1)[0] == pytest.approx(1)
    assert correlation_length(residuals.correlation(1)) < 1


def test_correlation_along_rows_and_columns() -> None:
    noise = cv2.GaussianBlur(rng().normal(0, 1, SHAPE), (0, 0), sigmaX=3.0, sigmaY=1.0)
    residuals = plane_residuals([depth(tilted() + 0.05 * noise / noise.std())], CONSTANT)
    for axis, sigma in ((1, 3.0), (0, 1.0)):  # white noise after a Gaussian filter: exp(−lag² / 4σ²), 1/e at 2σ
        assert residuals.correlation(axis)[1] == pytest.approx(np.exp(-1 / (4 * sigma**2)), abs=0.03)
        assert correlation_length(residuals.correlation(axis)) == pytest.approx(2 * sigma, rel=0.15)


def test_what_is_no_plane_does_not_count_as_noise() -> None:
    disparity = tilted() + rng().normal(0, 0.05, SHAPE)
    calm = plane_residuals([depth(disparity)], CONSTANT)
    disparity[60:110, 60:140] += 3
    holed = depth(disparity)
    holed[150, 200] = np.nan
    found = plane_residuals([holed], CONSTANT)
    assert 20 < len(found.z) < len(calm.z) and np.abs(found.patch).max() < 0.5
    assert found.noise((0.5, 1), CONSTANT)[0].px == pytest.approx(0.05, rel=0.05)


def test_neighbours_are_equal_where_nothing_dithers_the_steps() -> None:
    step, shares = 1 / 32, []
    for white in (0.0, 0.02):
        disparity = tilted() + 0.06 * smooth_normal(SHAPE, 6.0, rng(), 0.0) + white * rng(1).normal(size=SHAPE)
        shares.append(plane_residuals([depth(np.rint(disparity / step) * step)], CONSTANT).equal_neighbours(step))
    assert shares[0] > 0.6 > 0.4 > shares[1]


def test_flat_things_without_planes_are_empty() -> None:
    assert len(plane_residuals([np.full(SHAPE, np.nan, np.float32), np.ones((20, 20), np.float32)], CONSTANT).z) == 0


def test_steps_of_disparity_are_found() -> None:
    constant = 1043.05
    wide = np.random.default_rng(0).uniform(constant / 1.6, constant / 0.5, SHAPE)  # steps of ranges between 0.5 and 1.6 m
    measured = np.rint(constant / np.rint(wide) / 1e-3) * 1e-3
    assert disparity_constant([measured.astype(np.float32)], 1e-3) == pytest.approx(constant, rel=2e-4)
    assert disparity_constant([(constant / wide).astype(np.float32)], 1e-3) is None  # every value occurs


def test_holes_next_to_and_away_from_edges() -> None:
    image = np.full(SHAPE, 0.8, np.float32)
    image[:, 160:] = 0.6
    image[20:220, 150:160] = np.nan  # as a shadow left of a near surface
    image[100:110, 40:50] = np.nan  # no edge near
    image[:, :5] = np.nan  # beyond the border of the second imager's view: not counted
    rates = hole_rates([image])
    near, away = rates.pixels
    assert rates.next_to_edges == pytest.approx(2000 / near) and rates.away == pytest.approx(100 / away)
    assert near + away == image.size - 5 * 240
    # The edge runs where the nearest reading changes, in the middle of the shadow, and 16 px to both sides lie next to it.
    assert 33 * 240 <= near <= 36 * 240
    assert hole_rates([np.full(SHAPE, np.nan, np.float32)]).pixels == (0, 0)


def steps(place: np.ndarray, blur: float = 0.0) -> np.ndarray:
    """A far surface left of the column ``place`` (H,) of each row, a near one right of it."""
    image = np.where(np.arange(SHAPE[1]) < place[:, None], 0.8, 0.6)
    return (cv2.GaussianBlur(image, (0, 0), sigmaX=blur, sigmaY=1e-3) if blur else image).astype(np.float32)


def test_edge_width_and_jitter() -> None:
    straight = edge_shape([steps(np.full(SHAPE[0], 160))])
    assert straight.width == pytest.approx(np.full(240, 0.8), abs=1e-4) and straight.jitter == pytest.approx(0, abs=1e-6)
    blurred = edge_shape([steps(np.full(SHAPE[0], 160), blur=1.0)])
    assert np.median(blurred.width) == pytest.approx(2 * 1.2816, rel=0.05)  # between the 10 % and 90 % quantiles of a Gaussian
    assert np.all(np.diff(blurred.profile) > -1e-6)
    ragged = edge_shape([steps(160 + rng().integers(-1, 2, SHAPE[0]))])
    assert ragged.jitter == pytest.approx(np.sqrt(2 / 3), rel=0.15)
    assert np.median(edge_shape([steps(np.full(SHAPE[0], 160)).T.copy()]).width) == pytest.approx(0.8, abs=1e-3)
    assert np.isnan(edge_shape([np.ones(SHAPE, np.float32)]).jitter)


# the command


def frames(folder: Path, shape: tuple[int, int] = SHAPE) -> list[str]:
    """Two PNGs of a tilted table with a box, measured by a D435 with f · B = 32 px m."""
    files = []
    for seed in (1, 2):
        z = (32 / (32 / 0.9 + 0.08 * (np.arange(shape[0])[:, None] - 120) + np.zeros(shape))).astype(np.float32)
        z[60:90, 60:100] *= 0.8
        z = add_noise(z, K, rng(seed), SensorParams(focal=640.0))
        files.append(str(folder / f"{shape[0]}_{seed}.png"))
        cv2.imwrite(files[-1], np.nan_to_num(z * 1000).astype(np.uint16))
    return files


def test_bench_noise_finds_the_same_noise_in_frames_of_its_own_model(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--real", *frames(tmp_path), "--intrinsics", "615,615,159.5,119.5", "--frames", "2"]
    words += ["--picture", str(tmp_path / "p.png"), "--json", str(tmp_path / "r.json")]
    assert main(["bench", "noise", *words]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "|  | real (2 frames) | simulated (2 frames) |" and all(line.count("|") == 4 for line in table)
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["focal_baseline_px_m"] == pytest.approx(32, rel=1e-3) and result["focal_baseline_from"] == "the steps of its depth"
    real, simulated = ([row["px"] for row in result[name]["noise"]] for name in ("real", "simulated"))
    assert np.mean(real) == pytest.approx(0.055, rel=0.15) and np.mean(simulated) == pytest.approx(0.055, rel=0.15)
    assert result["real"]["edge_width_px_quartiles"][1] == pytest.approx(0.8, abs=0.1)
    assert cv2.imread(str(tmp_path / "p.png")).shape[1] > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give real depth frames"),
        (["--real", "none.png", "--intrinsics", "1,1,1,1"], "none.png does not exist"),
        (["--real", "A", "B", "--intrinsics", "615,615,159,119"], "frames of one camera"),
        (["--real", "A", "--intrinsics", "615,615,159,119", "--stereo", "5"], "--stereo must be"),
        (["--real", "A", "--intrinsics", "615,615,159,119", "--depth-scale", "1"], "nothing nearer than 2 m"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    names = {"A": frames(tmp_path)[0], "B": frames(tmp_path, (200, 320))[0]}
    assert main(["bench", "noise", *(names.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
