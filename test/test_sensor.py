"""The depth camera's noise against its formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from instseg_ros.synthesis.noise_fields import normal, smooth_normal
from instseg_ros.synthesis.sensor import SensorParams, add_noise, incidence_cosine, noise_sigma, second_imager_shadow

K = np.array([[615.0, 0, 319.5], [0, 615, 239.5], [0, 0, 1]])
SHAPE = (480, 640)
QUIET = SensorParams(
    subpixel=0, disparity_step=0, depth_unit=0, edge_shift=0, edge_loss=0, grazing=0, blobs=0, speckle=0, shadow=False
)


def plane(z: float) -> np.ndarray:
    return np.full(SHAPE, z, np.float32)


def step(left: float, right: float) -> np.ndarray:
    depth = plane(left)
    depth[:, 320:] = right
    return depth


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_everything_off_changes_nothing() -> None:
    depth = step(0.7, 0.5)
    depth[3, 4] = np.nan
    noisy = add_noise(depth, K, rng(), QUIET)
    assert np.array_equal(np.isnan(noisy), np.isnan(depth)) and np.nanmax(np.abs(noisy - depth)) < 1e-6
    assert noisy.dtype == np.float32 and noisy is not depth


@pytest.mark.parametrize("z", [0.3, 0.5, 1.0, 2.0])
def test_range_noise_follows_the_square_of_the_range(z: float) -> None:
    params = replace(QUIET, subpixel=0.07)
    spread = np.std([add_noise(plane(z), K, rng(s), params) for s in range(4)])
    assert spread == pytest.approx(z * z * 0.07 / (424 * 0.05), rel=0.05)
    params = replace(params, disparity_step=1 / 32, depth_unit=0.001)
    slope = plane(z) + np.linspace(-0.005, 0.005, 640, dtype=np.float32)  # all phases of the quanta
    spread = np.std([add_noise(slope, K, rng(s), params) - slope for s in range(4)])
    assert spread == pytest.approx(float(noise_sigma(z, params)), rel=0.08)


def test_disparity_comes_in_steps() -> None:
    ramp = np.linspace(0.4, 1.2, 640, dtype=np.float32)[None].repeat(480, 0)
    noisy = add_noise(ramp, K, rng(), replace(QUIET, disparity_step=1 / 32))
    steps = 424 * 0.05 / np.unique(noisy).astype(np.float64) * 32
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    at_one_metre = np.diff(np.unique(noisy[(noisy > 0.98) & (noisy < 1.02)]))
    assert at_one_metre == pytest.approx(1 / 32 / (424 * 0.05), rel=0.05)


def test_noise_is_correlated_as_told() -> None:
    error = add_noise(plane(0.6), K, rng(), replace(QUIET, subpixel=0.07, correlation=2.0, white=0.0)) - np.float32(0.6)
    for lag in (1, 2, 4):
        expected = np.exp(-(lag**2) / (4 * 2.0**2))  # white noise after a Gaussian filter
        assert (error[:, lag:] * error[:, :-lag]).mean() / error.var() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("near", "far"), [(0.5, 0.6), (0.45, 0.75)])
def test_shadow_lies_left_of_the_near_surface_and_has_the_right_width(near: float, far: float) -> None:
    width = 615 * 0.05 * (1 / near - 1 / far)
    hidden = second_imager_shadow(step(far, near), 615, 0.05)  # near surface on the right
    lost = np.flatnonzero(hidden[100])
    assert lost.max() == 319 and abs(len(lost) - width) <= 1
    assert not second_imager_shadow(step(near, far), 615, 0.05).any()


def test_grazing_surfaces_are_lost_and_frontal_ones_are_not() -> None:
    v = np.arange(480)
    for degrees, low, high in ((0, 0, 0.001), (60, 0, 0.001), (86, 0.9, 1)):
        # A plane turned about the image's x axis: z (1 + tan(a) (v − cy) / f) = z0.
        slope = np.tan(np.radians(degrees)) * (v - 239.5) / 615
        z = (0.6 / (1 + slope)).astype(np.float32)
        depth = np.broadcast_to(z[:, None], SHAPE).copy()
        use = np.abs(slope) < 0.3
        cosine = incidence_cosine(depth, K)[use][2:-2, 300:340]
        ray = np.stack([np.zeros(480), (v - 239.5) / 615, np.ones(480)], -1)
        exact = np.abs(ray @ [0, np.sin(np.radians(degrees)), np.cos(np.radians(degrees))]) / np.linalg.norm(ray, axis=1)
        assert np.allclose(cosine, exact[use][2:-2, None], atol=0.02)
        lost = np.isnan(add_noise(depth, K, rng(), replace(QUIET, grazing=0.15)))[use][2:-2, 300:340].mean()
        assert low <= lost <= high, degrees


def test_share_of_lost_pixels() -> None:
    noisy = [np.isnan(add_noise(plane(0.6), K, rng(s), replace(QUIET, blobs=0.02))).mean() for s in range(8)]
    assert np.mean(noisy) == pytest.approx(0.02, rel=0.2)
    noisy = [np.isnan(add_noise(plane(0.6), K, rng(s), replace(QUIET, speckle=0.002))).mean() for s in range(8)]
    assert np.mean(noisy) == pytest.approx(0.002, rel=0.2)


def test_dark_and_overexposed_surfaces_are_lost() -> None:
    color = np.full((*SHAPE, 3), 120, np.uint8)
    color[:, :200], color[:, 440:] = 2, 255
    lost = np.isnan(add_noise(plane(0.6), K, rng(), QUIET, color))
    assert lost[:, :190].all() and lost[:, 450:].mean() > 0.75 and not lost[:, 210:430].any()


def test_edges_wander_and_mix() -> None:
    depth = step(0.6, 0.5)
    noisy = add_noise(depth, K, rng(), replace(QUIET, edge_shift=0.8, edge_correlation=1.5, flying=0.25))
    away = np.abs(np.arange(640) - 319.5) > 6
    assert np.abs(noisy - depth)[:, away].max() < 1e-6
    near = noisy[:, ~away]
    flying = (near > 0.51) & (near < 0.59)
    assert 0.1 < flying.sum() / 480 < 2  # flying pixels a row
    last = np.array([np.flatnonzero(row > 0.55).max() for row in noisy])
    assert 0.4 < last.std() < 2


def test_repeatable_and_different() -> None:
    depth = step(0.6, 0.5)
    a, b, c = (add_noise(depth, K, rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(a, b, equal_nan=True) and not np.array_equal(a, c, equal_nan=True)
    assert np.array_equal(depth, step(0.6, 0.5)), "the input must not change"


def test_nothing_there_stays_nothing() -> None:
    assert np.isnan(add_noise(np.full(SHAPE, np.nan, np.float32), K, rng())).all()
    one = np.full((1, 1), 0.5, np.float32)
    assert add_noise(one, K, rng()).shape == (1, 1)


def test_jittered_parameters_stay_valid() -> None:
    for seed in range(50):
        noisy = add_noise(step(0.6, 0.5)[200:300], K, rng(seed), SensorParams().jittered(rng(seed)))
        assert np.isnan(noisy).mean() < 0.3 and (noisy[np.isfinite(noisy)] > 0.3).all()


@pytest.mark.parametrize(("sigma", "white"), [(1, 0), (2, 0.1), (2, 0), (3.7, 0), (8, 0)])
def test_smooth_fields_have_unit_variance(sigma: float, white: float) -> None:
    fields = np.stack([smooth_normal((200, 300), sigma, rng(s), white) for s in range(30)])
    assert fields.shape == (30, 200, 300) and fields.dtype == np.float32
    assert fields.std() == pytest.approx(1, abs=0.05) and abs(fields.mean()) < 0.05
    assert normal((3, 4, 5), rng()).shape == (3, 4, 5)
