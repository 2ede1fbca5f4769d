"""Frames for models that belong to one camera over one bin: simulated piles of their part, seen from where they were trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..frame import Frame
from ..geometry import scale_intrinsics
from ..methods.insegan.normalisation import Normalisation
from ..methods.model_directory import read_config

SIZE = 480, 640
"""(H, W) of the frames."""
SET = "insta10-sim-small"


def own_camera_frames(model: Path, normalisation: Normalisation, count: int) -> list[Frame]:
    """``count`` exact depth frames of ``SIZE``: the model's region of interest fills their height.

    Raises:
        InputError: the model's part or camera is not one of the standard set's.
    """
    from ..synthesis.benchmark import read_benchmark
    from ..synthesis.camera import PRESETS, sample_camera
    from ..synthesis.render import render

    parts = (read_config(model).get("training") or {}).get("parts") or []
    benchmark = read_benchmark(SET)
    if len(parts) != 1 or parts[0] not in benchmark.parts:
        raise InputError(f"{model.name} was not trained on a part of {SET}: give frames of its camera by --bag")
    recipe, frames = benchmark.recipe(parts[0], "test"), []
    x, y, side = normalisation.roi
    scale = SIZE[0] / side
    K = scale_intrinsics(normalisation.K, scale, scale)
    K[:2, 2] += (SIZE[1] - SIZE[0]) / 2 - x * scale, -y * scale
    for scene in range(count):
        settled, _ = recipe.settle(scene)
        theirs, cam_T_bin = sample_camera(PRESETS[recipe.camera], settled.bin, np.random.default_rng(0))
        if not np.allclose(theirs, normalisation.K):
            raise InputError(f"{model.name} was not trained with the camera of {SET}: give frames of its camera by --bag")
        frames.append(Frame(render(settled, K, SIZE, cam_T_bin).depth, K))
    return frames
