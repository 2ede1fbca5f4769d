"""Random images, fast: drawing a normal number per pixel would cost more than everything else a sensor does."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.special import ndtri

_QUANTILES = ndtri((np.arange(256) + 0.5) / 256)
_QUANTILES = (_QUANTILES / _QUANTILES.std()).astype(np.float32)
"""One standard normal value a byte: 256 steps up to 2.9 σ."""


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Float32 standard normal noise, white, in 256 steps: a tenth of the time of ``rng.standard_normal``."""
    data = np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8)
    return cv2.LUT(data.reshape(shape[0], -1), _QUANTILES).reshape(shape)


def smooth_normal(shape: tuple[int, int], sigma: float, rng: np.random.Generator, white: float = 0.0) -> np.ndarray:
    """(H, W) float32 normal noise of unit variance, correlated like a Gaussian filter of ``sigma`` pixels leaves it.

    ``white`` is the share of the variance that stays uncorrelated. Wide filters work on a coarse grid.
    """
    step = max(int(sigma / 1.25), 1) if white == 0 else 1
    h, w = -(-shape[0] // step) + 1, -(-shape[1] // step) + 1
    noise = normal((h, w), rng)
    kernel = gaussian_kernel(sigma / step)
    gain = np.sqrt(1 - white) / (kernel**2).sum()  # of the separable filter, in each direction Σk²
    smooth = cv2.sepFilter2D(noise, -1, kernel * np.float32(gain), kernel, borderType=cv2.BORDER_REFLECT)
    if white > 0:
        # The two parts share their source: scale the sum by the norm of the kernel that adds them.
        centre = gain * kernel.max() ** 2
        total = 1 - white + white + 2 * np.sqrt(white) * centre
        smooth += noise * np.float32(np.sqrt(white))
        smooth *= np.float32(1 / np.sqrt(total))
    if step > 1:
        smooth = cv2.resize(smooth, (w * step, h * step), interpolation=cv2.INTER_CUBIC)
        smooth *= np.float32(_upsampling_gain(sigma / step, step))
    return smooth[: shape[0], : shape[1]]


def gaussian_kernel(sigma: float) -> np.ndarray:
    """(2r + 1, 1) float32 Gaussian filter of sum 1, r = ⌈3σ⌉."""
    radius = max(int(np.ceil(3 * sigma)), 1)
    return cv2.getGaussianKernel(2 * radius + 1, max(sigma, 1e-3), cv2.CV_32F)


_GAINS: dict[tuple[float, int], float] = {}


def _upsampling_gain(sigma: float, step: int) -> float:
    """What keeps the variance 1 when a smooth field is enlarged by cubic interpolation: found from the filters themselves."""
    key = round(sigma, 3), step
    if key not in _GAINS:
        kernel = gaussian_kernel(sigma)
        impulse = np.zeros((1, 8 * len(kernel) + 32), np.float32)
        impulse[0, impulse.shape[1] // 2] = 1
        response = cv2.sepFilter2D(impulse, -1, kernel, np.ones((1, 1), np.float32))
        response = cv2.resize(response, (impulse.shape[1] * step, 1), interpolation=cv2.INTER_CUBIC)
        # Mean over the phases of Σ response² against Σ kernel², once for each direction.
        _GAINS[key] = float((kernel**2).sum() / ((response**2).sum() / step))
    return _GAINS[key]
