"""What stands still in many depth frames of a bin, and where parts lie: the ``Normalisation``, found without labels.

Parts may hide most of the floor in every single frame; over many frames nearly every pixel shows it some time. So each pixel
takes the farthest depth that several frames agree on, and what moves in front of that is a part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..errors import InputError
from ..frame import Frame
from ..geometry import crop_intrinsics, deproject, scale_intrinsics
from ..methods.classical.foreground import fit_floor
from ..methods.insegan.background import UNIT, nearest_background
from ..methods.insegan.normalisation import Normalisation
from ..region import Region
from .background_vote import background_noise, first_spread, usual_depth, vote_background

FRAMES = 256
"""Frames that are enough to see the floor everywhere."""
SIDE = 320  # pixels: larger frames are thinned out to this
CELLS = 128  # along a side of the stored background
LEAST_MARGIN, MOST_MARGIN = 0.002, 0.02  # metres
STEEP = 1.5  # fall of a wall, as the camera sees it, over its width
EDGE_SHARE = 0.4  # of the frames that show a rim or wall as it usually looks
ACTIVE = 0.01  # share of the frames with something in front of the background, for a pixel to belong to the bin's inside


@dataclass(frozen=True, eq=False)
class _Stack:
    """Thinned frames: depth (F, h, w) float32 metres, K of the thinned image, the step and the first row and column of it."""

    depth: np.ndarray
    K: np.ndarray
    step: int
    left: int
    top: int
    image_size: tuple[int, int]
    camera: np.ndarray


def fit_normalisation(frames: Iterable[Frame], region: Region, size: int) -> Normalisation:
    """Fit the normalisation of one camera over one bin.

    Args:
        frames: up to ``FRAMES`` of them, spread over the recording.
        region: pixels and depths to which the search is confined; the default is everything.
        size: S, side of the working image.

    Raises:
        InputError: no reading, nothing that moves, no background that stands still, frames of different sizes.
    """
    stack = _thin(frames, region)
    margin = max(LEAST_MARGIN, 4 * first_spread(stack.depth))
    if margin > MOST_MARGIN:
        raise _moved(f"hardly a pixel shows the same depth twice, to within {1e3 * MOST_MARGIN:.0f} mm")
    background, _ = vote_background(stack.depth, margin)
    margin = float(np.clip(4 * background_noise(stack.depth, background, margin), LEAST_MARGIN, MOST_MARGIN))
    background, share = vote_background(stack.depth, margin)
    _check_still(stack.depth, background, share, margin)
    background = _add_edges(background, usual_depth(stack.depth, 2 * margin, EDGE_SHARE), stack.K, margin)
    active = _active(stack.depth, background, margin)
    near, far = _range(stack.depth, background, active, margin)
    # Again without what is nearer than the parts: an arm comes in over the rim.
    parts = np.where(stack.depth < near, np.float32(np.nan), stack.depth)
    active = _active(parts, background, margin)
    background = _complete(background, share, active, stack.K, margin)
    near, far = _range(parts, background, active, margin)
    x, y, side = _square(active, stack, region)
    grid = _regrid(background, stack, (x, y, side))
    return Normalisation(stack.camera, stack.image_size, (x, y, side), size, near, far, grid, margin)


def _thin(frames: Iterable[Frame], region: Region) -> _Stack:
    images: list[np.ndarray] = []
    first: Frame | None = None
    nearer = replace(region, far=0.0)
    for frame in frames:
        if first is None:
            first, cut = frame, region.apply(frame)
            step = -(-max(cut.shape) // SIDE)
        elif frame.shape != first.shape:
            raise InputError(f"the frames are {_size(first)} and {_size(frame)} pixels: record one camera at one resolution")
        thin = nearer.apply(frame).depth[step // 2 :: step, step // 2 :: step]
        if region.far:  # a floor at that depth, where there is any: it stands still
            thin = np.minimum(thin, np.float32(region.far))
        images.append(np.nan_to_num(thin / UNIT).clip(0, 65535).round().astype(np.uint16))
    if first is None or not any(image.any() for image in images):
        raise InputError(
            f"none of {len(images)} frames looked at has a depth reading"
            + (" within roi and depth range" if region != Region() else "")
            + ": check the topic, the camera, --roi and --depth-range"
        )
    packed = np.stack(images)
    depth = np.where(packed > 0, packed * np.float32(UNIT), np.float32(np.nan))
    left, top = region.x + step // 2, region.y + step // 2
    K = crop_intrinsics(first.K, left, top)
    K[:2] /= step  # picked pixels keep their rays
    return _Stack(depth, K, step, left, top, first.shape[::-1], first.K)


def _add_edges(background: np.ndarray, usual: np.ndarray, K: np.ndarray, margin: float) -> np.ndarray:
    """The background with rims and steep walls as they are usually seen.

    Their outlines flicker, so that some frames show what lies behind them, and that wins the vote for the farthest. What is
    usually seen in front of it counts instead where it is steep, or thin as no layer of flat parts is.
    """
    with np.errstate(invalid="ignore"):
        front = usual < background - margin
    filled = np.nan_to_num(background)
    relief = cv2.dilate(filled, np.ones((3, 3), np.uint8)) - nearest_background(background)
    steep = front & (relief > STEEP * 2 * filled / K[0, 0])
    flat = (front & ~steep).view(np.uint8)
    count, regions = cv2.connectedComponents(flat)
    area = np.bincount(regions.ravel(), minlength=count)
    wide = np.bincount(regions[cv2.morphologyEx(flat, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0], minlength=count)
    thin = wide < 0.1 * area
    thin[0] = False
    return np.where(steep | thin[regions], usual, background)


def _active(depth: np.ndarray, background: np.ndarray, margin: float) -> np.ndarray:
    """(h, w) bool of where parts come to lie: pixels in which something stands in front of the background now and then."""
    limit = nearest_background(background) - np.float32(margin)
    with np.errstate(invalid="ignore"):
        often = (depth < limit).mean(0)
    active = (often >= max(ACTIVE, 1.5 / len(depth))).astype(np.uint8)
    active = cv2.morphologyEx(active, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    active = cv2.morphologyEx(active, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8), borderValue=0)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(active)
    if count < 2:
        raise InputError(
            f"nothing moves in {len(depth)} frames spread over the recording: shuffle the parts between frames, "
            "or check --roi and --depth-range"
        )
    area = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(labels, 1 + np.flatnonzero(area >= 0.1 * area.max()))


def _complete(background: np.ndarray, share: np.ndarray, active: np.ndarray, K: np.ndarray, margin: float) -> np.ndarray:
    """The background with the floor's plane in the middle of the bin where parts hide the floor in nearly all frames."""
    plane = fit_floor(deproject(background, K)[active & np.isfinite(background)])
    if plane is None:  # next to no floor to be seen: what was found has to do
        return background
    rays = deproject(np.ones_like(background), K)
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = (-plane[3] / (rays @ plane[:3])).astype(np.float32)
    raised = np.isnan(background) | (background < floor - margin)
    _, regions = cv2.connectedComponents(raised.view(np.uint8))
    # Walls reach the border of what is active. What stands still there is seen in most frames, the top of a heap in few.
    outside = np.pad(active, 1)
    outside = cv2.dilate((~outside).view(np.uint8), np.ones((3, 3), np.uint8))[1:-1, 1:-1] > 0
    size = np.bincount(regions.ravel())
    known = np.bincount(regions.ravel(), share.ravel()) / np.maximum(size, 1)
    heap = known < 0.3
    heap[0] = False
    heap[np.unique(regions[outside])] = False
    filled = np.where(heap[regions] & (floor > 0), floor, background)
    smooth = cv2.medianBlur(np.nan_to_num(filled), 5)  # neither floor nor wall comes in single pixels
    return np.where(np.isnan(filled) | (smooth <= 0), filled, smooth)


def _check_still(depth: np.ndarray, background: np.ndarray, share: np.ndarray, margin: float) -> None:
    """Refuse a recording in which camera or bin moved: pixels that stand still in many frames must do so in nearly all."""
    still = share >= 0.3
    if still.mean() < 0.02:
        raise _moved("next to no pixel shows the same depth in a third of the frames")
    with np.errstate(invalid="ignore"):
        there = (np.abs(depth - background) <= margin)[:, still].sum(1)
        seen = np.isfinite(depth)[:, still].sum(1)
    agreeing = there[seen > 0.2 * still.sum()] / seen[seen > 0.2 * still.sum()]
    if agreeing.size and np.quantile(agreeing, 0.1) < 0.1:
        raise _moved("a tenth of the frames shows another background than the rest")


def _moved(reason: str) -> InputError:
    return InputError(f"camera or bin moved during the recording ({reason}): keep both still and stir the parts only")


def _square(active: np.ndarray, stack: _Stack, region: Region) -> tuple[int, int, int]:
    """(x, y, side) in pixels of the frames: the smallest square around the region of interest, or around where parts lie."""
    if region.width and region.height:
        x, y = region.x, region.y
        width, height = min(region.width, stack.image_size[0] - x), min(region.height, stack.image_size[1] - y)
    else:
        rows, columns = np.flatnonzero(active.any(1)), np.flatnonzero(active.any(0))
        pad = 1 + round(0.02 * max(np.ptp(rows), np.ptp(columns)))
        first = np.array([columns[0], rows[0]]) - pad
        last = np.array([columns[-1], rows[-1]]) + pad + 1
        x, y = np.maximum(first * stack.step + [stack.left, stack.top] - stack.step // 2, 0)
        right, bottom = np.minimum(last * stack.step + [stack.left, stack.top] - stack.step // 2, stack.image_size)
        width, height = right - x, bottom - y
    side = int(max(width, height))
    return int(x - (side - width) // 2), int(y - (side - height) // 2), side


def _range(depth: np.ndarray, background: np.ndarray, active: np.ndarray, margin: float) -> tuple[float, float]:
    """(near, far) metres of the part volume: from above the highest piles to the lowest part of the floor."""
    far = float(np.nanquantile(background[active], 0.99))
    limit = nearest_background(background) - np.float32(margin)
    tops = []
    for image in depth:
        with np.errstate(invalid="ignore"):
            raised = active & (image < limit)
        if raised.sum() >= 9:
            tops.append(far - np.quantile(image[raised], 0.005))
    # Twice the usual height is no pile: a hand or an arm.
    height = float(min(max(tops), 2 * np.median(tops)))
    return max(far - 1.05 * height - margin, 0.0), far


def _regrid(background: np.ndarray, stack: _Stack, roi: tuple[int, int, int]) -> np.ndarray:
    """The background in square cells over the region of interest, in steps of ``UNIT`` as it is stored."""
    x, y, side = roi
    cells = min(CELLS, side)
    K = scale_intrinsics(crop_intrinsics(stack.camera, x, y), cells / side, cells / side)
    scale = stack.K[[0, 1], [0, 1]] / K[[0, 1], [0, 1]]
    offset = stack.K[:2, 2] - scale * K[:2, 2]
    columns, rows = (np.rint(np.arange(cells) * scale[i] + offset[i]).astype(int) for i in (0, 1))
    h, w = background.shape
    grid = background[np.clip(rows, 0, h - 1)][:, np.clip(columns, 0, w - 1)].copy()
    grid[(rows < 0) | (rows >= h)] = np.nan
    grid[:, (columns < 0) | (columns >= w)] = np.nan
    return (np.rint(grid / UNIT) * UNIT).astype(np.float32)


def _size(frame: Frame) -> str:
    return f"{frame.shape[1]} x {frame.shape[0]}"
