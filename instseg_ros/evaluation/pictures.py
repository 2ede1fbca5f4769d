"""Contact sheets: what went in, the truth, the answer, side by side."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..drawing import colorize_depth, draw_overlay
from ..files import write_atomic
from ..frame import Frame

WIDTH = 320
GAP = 6
CAPTION = 20
KINDS = ("best", "median", "worst")


@dataclass(frozen=True)
class _Entry:
    picture: bytes  # JPEG of the strip: a few ten kilobytes an image, so that a whole split fits in memory
    score: float


class Gallery:
    """Collects one strip an image and writes the best, median and worst ones by one-to-one mIoU."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def add(self, frame: Frame, true: np.ndarray, found: np.ndarray, figures: dict) -> None:
        """Add an image; images in which no instance counts are left out.

        Args:
            frame: the input.
            true, found: (H, W) labels.
            figures: of ``Evaluation.add``.
        """
        if figures["mIoU"] is None:
            return
        key = figures["key"]
        name = "/".join(map(str, key)) if isinstance(key, list | tuple) else str(key)
        text = f"{', '.join(figures['part'])} {name}   mIoU {figures['mIoU']:.2f}   {figures['found']} of {figures['true']} parts"
        _, jpeg = cv2.imencode(".jpg", strip(frame, true, found, text)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        self._entries.append(_Entry(jpeg.tobytes(), figures["mIoU"]))

    def write(self, folder: str | Path, name: str, *, rows: int = 6, relative_to: str | None = None) -> dict[str, str]:
        """Write ``<name>_best.png`` and so on, with ``rows`` images each; returns kind → path, relative to the folder of
        the JSON file ``relative_to`` where one is given."""
        ranked = sorted(self._entries, key=lambda entry: -entry.score)
        middle = max(0, (len(ranked) - rows) // 2)
        chosen = {"best": ranked[:rows], "median": ranked[middle : middle + rows], "worst": ranked[-rows:][::-1]}
        written = {}
        for kind in KINDS if ranked else ():
            strips = [cv2.imdecode(np.frombuffer(entry.picture, np.uint8), cv2.IMREAD_COLOR) for entry in chosen[kind]]
            path = Path(folder) / f"{name}_{kind}.png"
            sheet = stack(strips)
            write_atomic(path, lambda temporary, sheet=sheet: _save(temporary, sheet))
            base = Path(relative_to).resolve().parent if relative_to else Path.cwd()
            written[kind] = os.path.relpath(path.resolve(), base)
        return written


def strip(frame: Frame, true: np.ndarray, found: np.ndarray, text: str) -> np.ndarray:
    """(h, 3 · WIDTH + …, 3) uint8 RGB: colour (or depth where there is none), truth, answer over depth, a caption above."""
    depth = colorize_depth(frame.depth, gray=True)
    first = frame.color if frame.color is not None else colorize_depth(frame.depth)
    height = round(WIDTH * frame.shape[0] / frame.shape[1])
    views = [first, draw_overlay(depth, true), draw_overlay(depth, align(true, found))]
    views = [cv2.resize(view, (WIDTH, height), interpolation=cv2.INTER_AREA) for view in views]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    body = np.hstack([views[0], gap, views[1], gap, views[2]])
    caption = np.full((CAPTION, body.shape[1], 3), 255, np.uint8)
    cv2.putText(caption, text, (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([caption, body])


def align(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Answer renumbered so that an instance has the number, and so the colour, of the true one that it matches."""
    from .metrics import one_to_one, overlap

    n, m = int(true.max(initial=0)), int(found.max(initial=0))
    match, _ = one_to_one(overlap(true, found, n, m)[1])
    table = np.zeros(m + 1, np.int64)
    table[match[match >= 0] + 1] = np.flatnonzero(match >= 0) + 1
    rest = np.flatnonzero(table[1:] == 0) + 1
    table[rest] = n + 1 + np.arange(len(rest))
    return table[found]


def stack(strips: list[np.ndarray]) -> np.ndarray:
    """Strips below each other; narrower ones are padded with white."""
    width = max(s.shape[1] for s in strips)
    padded = [cv2.copyMakeBorder(s, 0, GAP, 0, width - s.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3) for s in strips]
    return np.vstack(padded)


def _save(path: Path, picture: np.ndarray) -> None:
    ok, png = cv2.imencode(".png", picture)
    if not ok:
        raise OSError("the picture cannot be encoded")
    path.write_bytes(png.tobytes())
