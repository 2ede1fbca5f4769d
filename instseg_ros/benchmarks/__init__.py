"""Speed and memory on this machine, one module a kind: ``run(options: Options) -> dict``, imported when asked for."""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import dataclass

from ..errors import InputError

KINDS = {
    "ros": "depth image published to masks, instances and poses received, through the node and DDS",
    "swap": "changes of the model while frames come: what is left unanswered, and the memory after 20",
    "segment": "segment() alone",
    "soak": "resident memory of the node over 500 frames; with --minutes behind a camera, every frame accounted for",
    "clustering": "our clustering against scikit-learn's on the same predictions",
    "layered": "mean shift of layered embeddings against scikit-learn's on the same predictions",
    "mtml": "MTML's forward pass as the scene grows to 4 million voxels: seconds and memory (--picture draws them)",
    "noise": "real depth frames beside simulated ones: noise, holes, edges",
    "synth": "complete simulated samples a minute, and the memory that making them takes",
    "tracking": "do ids stay with their parts in a simulated bin that is emptied?",
    "insegan": "a training step of InSeGAN, from a straightforward one to ours, remedy by remedy",
}
"""Kind → what it measures; ``benchmarks/<kind>.py`` does it."""


@dataclass(frozen=True)
class Options:
    """What every kind may use.

    Attributes:
        model: model directory or name, empty = the shipped default.
        bag: frames to work on, empty = the bundled ones.
        frames: how many, None = the kind's own default.
        minutes: soak: so long behind a camera, 0 = ``frames`` in lockstep.
        device: auto, cpu, cuda or cuda:N.
        seed: of everything random.
        camera: preset of the simulated camera, empty = the kind's own.
        real: depth files, or bags, of a real camera. intrinsics: of the files, ``fx,fy,cx,cy`` px. depth_scale: of the files, m
            a unit. stereo: ``focal px, baseline m`` of the real camera's imagers, empty = found out.
        picture: file to draw, empty = none.
    """

    model: str = ""
    bag: str = ""
    frames: int | None = None
    minutes: float = 0.0
    device: str = "auto"
    seed: int = 0
    camera: str = ""
    real: tuple[str, ...] = ()
    intrinsics: str = ""
    depth_scale: float | None = None
    stereo: str = ""
    picture: str = ""


def run(kind: str, options: Options) -> dict:
    """Run one benchmark; the result names the machine."""
    if kind not in KINDS:
        raise InputError(f"unknown benchmark {kind!r}: choose {', '.join(KINDS)}")
    result = importlib.import_module(f"{__name__}.{kind}").run(options)
    return {"benchmark": kind} | result | {"machine": machine()}


def machine() -> dict:
    """What the figures were measured on, and how busy it was."""
    import torch

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_average_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
