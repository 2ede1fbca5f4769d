"""The template, and poses found with it in some of the real images; kept on disk, so that a broken-off run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..files import write_atomic, write_json
from ..methods.insegan.assembly import improve
from ..methods.insegan.network import ExplicitConfig
from ..methods.insegan.refine import Camera, Poses
from ..methods.insegan.search import make_library, spread_rotations
from ..methods.insegan.shape import Shape
from .insegan_explicit import trust_in
from .insegan_template import TemplateConfig, focal_and_middle, learn_template, search_poses, stride_of

CHUNK = 16
"""Images whose poses are found together; a run that breaks off loses at most so many."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How poses are found in real images.

    Attributes:
        images: how many of them. rotations: of the search. steps: of the refinement. half_turns, least: as in ``Thresholds``.
    """

    images: int = 400
    rotations: int = 450
    steps: int = 30
    half_turns: bool = True
    least: float = 0.06


@dataclass(frozen=True)
class Pool:
    """Attributes: the template; images (N, P) values; poses found in them; trust (N, n) in these, in [0, 1]."""

    shape: Shape
    images: Tensor
    poses: Poses
    trust: Tensor


def find_template_and_poses(
    images: np.ndarray, camera: Camera, network: ExplicitConfig, template: TemplateConfig, pool: PoolConfig, folder: Path, seed: int, progress: Any
) -> Pool:
    """Learn the template from images (N, S, S), then find the poses in up to ``pool.images`` of them.

    ``folder`` keeps ``template.safetensors`` and ``poses.safetensors``; what is there is taken as it is. ``template.json`` tells the
    mismatch of the templates that were compared on the way: ``starts``; ``branches`` and ``bores``, a list an attempt, the first
    without one.
    """
    size = network.size

    def flat(index: np.ndarray) -> Tensor:
        return torch.from_numpy(np.stack([images[i] for i in index])).flatten(1).to(camera.rays.device)

    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(images))
    file = folder / "template.safetensors"
    if file.exists():
        stored = load_file(file)
        shape = Shape(tuple(stored["grid"].shape[2:]))
        shape.load_state_dict(stored)
        shape = shape.to(camera.rays.device)
    else:
        some = order[: template.images * (template.rounds + 1)]

        log: dict[str, list[list[float]]] = {}

        def compared(what: str, left: list[float]) -> None:
            log.setdefault(what, []).append([round(value, 4) for value in left])
            write_json(folder / "template.json", log)

        shape = learn_template(flat(some), camera, size, network.instances, template, seed, progress, compared=compared)
        write_atomic(file, lambda f: save_file(shape.state_dict(), f))
    chosen = order[::-1][: min(pool.images, len(order))].copy()  # others than those of the template where there are enough
    observed = flat(chosen)
    focal, middle = focal_and_middle(observed, camera)
    library = make_library(shape, spread_rotations(pool.rotations).to(camera.rays.device), focal, middle, stride_of(size))
    file, found = folder / "poses.safetensors", {}
    if file.exists():
        found = load_file(file, str(camera.rays.device))
    done = len(found.get("trust", ()))
    for start in progress(range(done, len(observed), CHUNK), "finding poses"):
        batch = observed[start : start + CHUNK]
        poses = search_poses(shape, batch, camera, size, network.instances, pool.rotations, lambda items, name="": items)
        poses = improve(shape, library, poses, batch, camera, size, steps=pool.steps, least=pool.least, half_turns=pool.half_turns)
        now = {"rotation": poses.rotation, "translation": poses.translation, "present": poses.present, "trust": trust_in(shape, poses, batch, camera)}
        found = {name: torch.cat([found[name], value]) if name in found else value for name, value in now.items()}
        write_atomic(file, lambda f: save_file({name: value.contiguous() for name, value in found.items()}, f))
    poses = Poses(found["rotation"], found["translation"], found["present"])
    return Pool(shape, observed, poses, found["trust"])
