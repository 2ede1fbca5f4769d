"""Times, summed up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def milliseconds(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Median, mean, p90, p99 and max of times (s) in milliseconds, and their count; None where there are none."""
    values = np.asarray(seconds, float) * 1e3
    figures: dict[str, float | int | None] = {"count": int(values.size)}
    for name, figure in (
        ("median", np.median),
        ("mean", np.mean),
        ("p90", lambda v: np.percentile(v, 90)),
        ("p99", lambda v: np.percentile(v, 99)),
        ("max", np.max),
    ):
        figures[name] = round(float(figure(values)), 3) if values.size else None
    return figures
