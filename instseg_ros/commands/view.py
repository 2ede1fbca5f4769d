"""``instseg view``: contact sheets of a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from ..cli import add_common_arguments
from ..errors import InputError

HELP = "Contact sheets of a BOP dataset: colour, depth, visible labels, hidden parts."
EXAMPLE = "instseg view data/nut --split train --count 24 --out sheets"

ROWS = 6
"""Images on a sheet."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="folder of a BOP dataset, or of one of its splits")
    parser.add_argument("--split", help="name of the split; needed when there are several")
    parser.add_argument("--count", type=int, default=24, metavar="N", help="images to show, spread evenly (default 24; 0 = all)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the PNGs")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from ..bop import BopDataset

    if args.count < 0:
        raise InputError(f"--count must not be negative, got {args.count}")
    data = BopDataset(args.dataset, args.split)
    count = min(args.count or len(data), len(data))
    chosen = np.linspace(0, len(data) - 1, count).round().astype(int)
    sheets = []
    for number, first in enumerate(range(0, count, ROWS)):
        rows = [_row(data, int(i)) for i in chosen[first : first + ROWS]]
        path = Path(args.out) / f"{data.split}_{number:03d}.png"
        _save(path, _stack(rows))
        sheets.append(str(path))
        print(path)
    return {"dataset": str(args.dataset), "split": data.split, "images": count, "sheets": sheets}


def _row(data: Any, i: int) -> np.ndarray:
    """One image as a strip: colour, depth, visible labels, instances behind them; a caption above."""
    import cv2

    from ..drawing import colorize_depth, draw_overlay

    frame, truth = data.frame(i), data.truth(i, layers=True)
    near, far = _range(frame.depth, truth.labels)
    depth = colorize_depth(frame.depth, near=near, far=far)
    gray = colorize_depth(frame.depth, near=near, far=far, gray=True)
    color = gray if frame.color is None else frame.color
    hidden = truth.layers[1] if len(truth.layers) > 1 else np.zeros_like(truth.labels)
    strip = np.hstack([color, depth, draw_overlay(gray, truth.labels, ids=True), draw_overlay(gray, hidden)])
    scale = 320 / frame.shape[1]
    strip = cv2.resize(strip, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    visible = " ".join(f"{value:.2f}" for value in truth.visible_fraction[:20])
    scene, image = data.keys[i]
    caption = f"scene {scene} image {image}: {', '.join(sorted(set(truth.part)))}; visible {visible}"
    band = np.full((22, strip.shape[1], 3), 32, np.uint8)
    cv2.putText(band, caption, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (230, 230, 230), 1, cv2.LINE_AA)
    return np.vstack([band, strip])


def _range(depth: np.ndarray, labels: np.ndarray) -> tuple[float | None, float | None]:
    """Ends of the depth scale: those of the parts, with some floor behind them."""
    z = depth[(labels > 0) & np.isfinite(depth)]
    if z.size < 50:
        return None, None
    low, high = np.percentile(z, [1, 99])
    return float(low), float(high + 0.1 * (high - low) + 0.002)


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    width = max(row.shape[1] for row in rows)
    return np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])


def _save(path: Path, picture: np.ndarray) -> None:
    import cv2

    from ..files import write_atomic

    data = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    write_atomic(path, lambda temporary: temporary.write_bytes(data))
