"""The network of MTML as the scene grows: seconds and memory of a forward pass over 0.1 to 4 million voxels."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import InputError
from ..files import write_atomic
from ..methods.model_directory import ModelDirectory
from ..methods.mtml.network import MTML, MTMLConfig
from ..methods.mtml.voxel_segmenter import Thresholds, VoxelSegmenter
from ..methods.segmenter import choose_device
from ..resources import find_model
from . import Options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MILLIONS = (0.1, 0.2, 0.4, 0.8, 1.6, 2.8, 4.0)
ROOM = np.array([92, 104, 40])
"""Proportions of the grid: the paper's indoor scenes."""
OCCUPIED = 0.05
"""Share of the voxels that hold a surface: rooms of ScanNet at 10 cm, bins at 4 mm."""
ASKED = (1.6, 10.0)
"""Million voxels, and the seconds that they may take on two cores."""


def run(options: Options) -> dict:
    """Keys: network; sizes, each with seconds and cpu_seconds (medians; the same on an idle machine with one thread) and memory_mb
    (peak of the process, or of the GPU); ``seconds_at_1.6M``. Draws ``picture`` where one is asked for.
    """
    config = MTMLConfig()
    if options.model:
        model = ModelDirectory.read(find_model(options.model))
        if model.method != "mtml":
            raise InputError(f"bench mtml needs a model of mtml, {options.model} is one of {model.method}")
        config = MTMLConfig(**model.config["network"])
    device = choose_device(options.device)
    torch.manual_seed(options.seed)
    segmenter = VoxelSegmenter(MTML(config), Thresholds(), device)
    repeats = options.frames or 3
    rows = [_measure(segmenter, millions, repeats, options.seed) for millions in MILLIONS]
    if options.picture:
        figure = cost_figure(rows, f"{torch.get_num_threads()} CPU thread(s)" if device.type == "cpu" else torch.cuda.get_device_name(device))
        write_atomic(Path(options.picture), lambda file: figure.savefig(file, dpi=110))
    at = next(row for row in rows if row["millions"] == ASKED[0])
    table = {f"{row['millions']} M voxels": f"{row['seconds']:.3f} s ({row['cpu_seconds']:.3f} of a core), {row['memory_mb']:.0f} MB" for row in rows}
    asked = {f"seconds_at_{ASKED[0]}M": at["seconds"]}
    return {"network": options.model or "as published", "repeats": repeats, **table, **asked, "sizes": rows}


def _measure(segmenter: VoxelSegmenter, millions: float, repeats: int, seed: int) -> dict:
    size = np.round(ROOM * (millions * 1e6 / ROOM.prod()) ** (1 / 3)).astype(int)
    rng = np.random.default_rng(seed)
    count = int(size.prod())
    chosen = np.sort(rng.choice(count, int(OCCUPIED * count), replace=False))
    voxels = torch.from_numpy(np.stack(np.unravel_index(chosen, size), 1).astype(np.int64))
    grid = torch.zeros(segmenter.network.config.channels, *size.tolist())
    grid[torch.from_numpy(rng.integers(len(grid), size=len(voxels))), voxels[:, 0], voxels[:, 1], voxels[:, 2]] = 1
    cuda = segmenter.device.type == "cuda"
    seconds, cpu = [], []
    for _ in range(repeats + 1):  # the first one warms up
        start, busy = time.perf_counter(), time.process_time()
        segmenter.predict_grid(grid, voxels)
        if cuda:
            torch.cuda.synchronize(segmenter.device)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    peak = torch.cuda.max_memory_allocated(segmenter.device) if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "millions": millions, "grid": size.tolist(), "occupied": len(voxels), "seconds": round(float(np.median(seconds[1:])), 4),
        "cpu_seconds": round(float(np.median(cpu[1:])), 4), "memory_mb": round(peak / 1e6, 1),
    }  # fmt: skip


def cost_figure(rows: list[dict], title: str) -> Figure:
    """Seconds and megabytes over the number of voxels."""
    import matplotlib

    matplotlib.use("Agg")  # no display, on servers as on robots
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(f"MTML, forward pass: {title}", fontsize=11)
    x = [row["millions"] for row in rows]
    for panel, key, label in zip(figure.subplots(1, 2), ("seconds", "memory_mb"), ("seconds (median)", "peak memory of the process (MB)")):
        panel.plot(x, [row[key] for row in rows], color="#0072b2", marker="o", label="by the clock")
        if key == "seconds":
            panel.plot(x, [row["cpu_seconds"] for row in rows], color="#d55e00", marker="s", linestyle="--", label="of a core")
            panel.legend(fontsize=8)
        panel.set(xlabel="million voxels", ylabel=label, xlim=(0, None), ylim=(0, None))
        panel.grid(alpha=0.3)
    return figure
