"""The picture of ``instseg bench noise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..synthesis.sensor import SensorParams, noise_sigma

if TYPE_CHECKING:
    from .noise import Measured

COLORS = ("#0072b2", "#d55e00")
SHOWN = 0.2
"""Px of disparity that the patches show as black to white, in each direction."""


def draw(sets: dict[str, Measured], params: SensorParams, path: Path) -> None:
    """Noise against range, its correlation, the profile of edges, holes, and a plane's residuals of each set of frames."""
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    for (name, found), color in zip(sets.items(), COLORS):
        axes[0, 0].plot([row.z for row in found.noise], [row.mm for row in found.noise], "o", color=color, label=name)
        lags = np.arange(len(found.along_rows))
        axes[0, 1].plot(lags, found.along_rows, "-", color=color, label=f"{name}, along rows")
        axes[0, 1].plot(lags, found.along_columns, "--", color=color, label=f"{name}, along columns")
        place = np.arange(len(found.edges.profile)) - (len(found.edges.profile) - 1) / 2
        axes[0, 2].plot(place, found.edges.profile, ".-", color=color, label=f"{name}, {len(found.edges.width)} edges")
    z = np.linspace(0.3, 1.7, 50)
    axes[0, 0].plot(z, 1e3 * noise_sigma(z, params), color="#999999", label="model", zorder=0)
    axes[0, 0].set(title="noise of planes", xlabel="range, m", ylabel="mm")
    axes[0, 1].set(title="correlation of the noise", xlabel="distance, px", ylim=(-0.4, 1.02))
    axes[0, 2].set(title="occlusion edges, median", xlabel="px", ylabel="share of the step")
    kinds = ("next to edges", "away from edges")
    for k, ((name, found), color) in enumerate(zip(sets.items(), COLORS)):
        shares = 100 * np.array([found.holes.next_to_edges, found.holes.away])
        bars = axes[1, 0].bar(np.arange(2) + 0.4 * k - 0.2, shares, 0.36, color=color, label=name)
        axes[1, 0].bar_label(bars, fmt="%.2f", fontsize=8)
        axis = axes[1, 1 + k]
        axis.imshow(found.sample, cmap="gray", vmin=-SHOWN, vmax=SHOWN, interpolation="nearest")
        axis.set(title=f"{name}: residuals of a plane, ±{SHOWN} px", xticks=(), yticks=())
    axes[1, 0].set(title="pixels without a reading", ylabel="%", xticks=range(2), xticklabels=kinds)
    for axis in (*axes[0], axes[1, 0]):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
