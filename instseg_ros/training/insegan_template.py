"""Learning the explicit template from unlabelled depth alone, by turns: find poses for the template, fit the template to them.

As in ab-initio reconstruction from single-particle images (cryoSPARC: Punjani et al., Nature Methods 2017) the poses are searched
exhaustively, so the first, featureless template does no harm; what is learned is what all images agree on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..methods.insegan.flips import turn_over
from ..methods.insegan.refine import Camera, Poses, refine
from ..methods.insegan.search import FLOOR, PoseSearch, make_library, spread_rotations, stack
from ..methods.insegan.shape import Shape
from .insegan_branches import branched

Progress = Callable[[Iterable, str], Iterable]
"""Items and a name → the same items, with a progress bar."""


RATIOS = ((1.0, 1.0, 1.0), (1.8, 1.0, 1.0), (3.0, 1.0, 1.0), (1.0, 1.0, 0.4))
"""Half axes of the first templates, in proportion: ball, egg, cigar, disc."""
OVERLAPS = (1.0, 1.5, 2.2)
"""How often the parts would cover the foreground if none hid another."""
BRANCHES, BRANCH_ROUNDS, BRANCH_GAIN = 2, 2, 0.006
"""Branched templates that are learned, for how many rounds, and by how much the mismatch must fall to keep one."""
SETTLING_ROUNDS = 4
"""Further rounds of a template that has grown a branch: it looks different from more sides now."""


@dataclass(frozen=True, kw_only=True)
class TemplateConfig:
    """How the template is learned.

    Attributes:
        resolution: voxels along the longest side of its box.
        rounds: turns of search and fit. images: used in each round, others each time.
        rotations: of the search in the last round, a third of them in the first.
        steps: of the fit on each batch of ``batch`` images, poses alone and then with the template.
        polish: turns of fit alone after these, on the images of the last.
        half_turns: every instance is turned over where that is better.
        starts: templates begun, each from another ellipsoid and on other images; after ``start_rounds`` of the rounds the one
            that explains ``batch`` images best goes on alone.
        branches: how often it is tried whether the template explains the images better with something more on a side of it
            (``branched``); each time that it does, it goes on with that.
        rate: Adam's for the template, millimetres. smooth: weight of its roughness.
        trial_images: on which the first ellipsoids, and places for a branch, are compared.
    """

    resolution: int = 32
    rounds: int = 4
    images: int = 48
    rotations: int = 450
    steps: int = 24
    polish: int = 4
    half_turns: bool = True
    starts: int = 1
    start_rounds: int = 2
    branches: int = 0
    batch: int = 16
    rate: float = 0.1
    smooth: float = 0.02
    trial_images: int = 8

    def __post_init__(self) -> None:
        most = len(RATIOS) * len(OVERLAPS)
        if self.branches < 0:
            raise InputError(f"template.branches must be 0 or more, got {self.branches!r}")
        if not 1 <= self.starts <= most:
            raise InputError(f"template.starts must lie between 1 and {most}, the ellipsoids tried, got {self.starts!r}")
        if self.starts > 1 and not 1 <= self.start_rounds <= self.rounds:
            raise InputError(f"template.start_rounds must lie between 1 and rounds = {self.rounds}, got {self.start_rounds!r}")


def first_templates(images: Tensor, camera: Camera, size: int, instances: int, config: TemplateConfig, progress: Progress) -> list[Shape]:
    """Ellipsoids of several shapes and sizes, those that explain some images (B, P) best first."""
    area = float((images > FLOOR).sum(1).float().median()) / instances
    focal, middle = focal_and_middle(images, camera)
    trials = [(ratio, overlap) for ratio in RATIOS for overlap in OVERLAPS]
    shapes = []
    for ratio, overlap in trials:
        axes = torch.tensor(ratio)
        axes = axes * math.sqrt(area * overlap / (math.pi * float(axes[0] * axes[1]))) * middle / focal
        extent = axes + 0.4 * axes.mean()
        shapes.append(Shape.in_box(config.resolution, extent).to(images.device))
        shapes[-1].set_ellipsoid(axes)
    return best_first(shapes, images, camera, size, instances, config, progress, "first template")


def best_first(
    shapes: list[Shape], images: Tensor, camera: Camera, size: int, instances: int, config: TemplateConfig, progress: Progress, name: str
) -> list[Shape]:
    """Templates in the order of how much of images (B, P) a coarse search explains with them."""
    focal, middle = focal_and_middle(images, camera)
    rotations = spread_rotations(max(config.rotations // 4, 60)).to(images.device)
    scored = []
    for shape in progress(shapes, name):
        library = make_library(shape, rotations, focal, middle, stride_of(size))
        scored.append((sum(max(score, 0.0) for image in images for *_, score in picks(library, image, camera, size, instances)), shape))
    return [shape for _, shape in sorted(scored, key=lambda pair: -pair[0])]


def focal_and_middle(images: Tensor, camera: Camera) -> tuple[float, float]:
    """Focal length in working pixels, and metres to the middle of what is observed of parts in images (B, P)."""
    return float(1 / (camera.rays[1, 0] - camera.rays[0, 0])), float(camera.depth(images[images > FLOOR].median()))


def stride_of(size: int) -> int:
    """Working pixels a step of the search: about 32 along a side."""
    return max(size // 32, 1)


def picks(library, image: Tensor, camera: Camera, size: int, instances: int) -> list[tuple[Tensor, Tensor, float]]:
    """The poses that explain one image (P,) greedily, best first."""
    search = PoseSearch(library, image, camera, size)
    return [search.pick() for _ in range(instances)]


def search_poses(shape: Shape, images: Tensor, camera: Camera, size: int, instances: int, rotations: int, progress: Progress) -> Poses:
    """Exhaustive search in every image (B, P)."""
    focal, middle = focal_and_middle(images, camera)
    library = make_library(shape, spread_rotations(rotations).to(images.device), focal, middle, stride_of(size))
    found = []
    for image in progress(images, "searching"):
        some = [(r, t) for r, t, score in picks(library, image, camera, size, instances) if score > 0]
        found.append((torch.stack([r for r, _ in some]), torch.stack([t for _, t in some])) if some else (images.new_zeros(0, 3, 3), images.new_zeros(0, 3)))
    return stack(found, instances)


def learn_template(
    images: Tensor, camera: Camera, size: int, instances: int, config: TemplateConfig, seed: int, progress: Progress,
    look: Callable[[int, Shape, Tensor, Poses], None] = lambda *_: None,
    compared: Callable[[str, list[float]], None] = lambda *_: None,
) -> Shape:
    """Template from images (N, P) of ``instances`` parts each.

    Args:
        look: called after each round with the round, the template, some images and their poses; for pictures and logs.
        compared: called with ``starts`` and the mismatch of each, where there are several; and with ``branches`` and the mismatch without
            and with each of those that were learned.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))

    def learn(shape: Shape, rng: np.random.Generator, rounds: Iterable[int]) -> tuple[Shape, Tensor, Poses]:
        for turn in rounds:
            chosen = images[rng.choice(len(images), min(config.images, len(images)), replace=False)]
            share = (turn + 1) / config.rounds
            poses = search_poses(shape, chosen, camera, size, instances, max(round(config.rotations * max(share, 1 / 3)), 24), progress)
            poses = _fit(shape, chosen, poses, camera, config, config.steps, progress, f"template {turn + 1}/{config.rounds}")
            look(turn, shape, chosen, poses)
            shape, poses = _crop(shape, poses)
        return shape, chosen, poses

    trial, common = images[order[: config.trial_images]], images[order[-config.batch :]]
    first = first_templates(trial, camera, size, instances, config, progress)[: config.starts]
    if config.starts == 1:
        shape, chosen, poses = learn(first[0], rng, range(config.rounds))
    else:
        # A template that took half a part for a part stays so: local minima are left by starting anew, not by going on.
        sources = [rng, *(np.random.default_rng([seed, i]) for i in range(1, config.starts))]
        begun = [learn(shape, source, range(config.start_rounds)) for shape, source in zip(first, sources)]
        left = [unexplained_by(shape, common, camera, size, instances, config, config.rotations // 3, progress) for shape, *_ in begun]
        compared("starts", left)
        best = left.index(min(left))
        shape, chosen, poses = begun[best]
        if config.start_rounds < config.rounds:
            shape, chosen, poses = learn(shape, sources[best], range(config.start_rounds, config.rounds))
    grew = False
    for attempt in range(config.branches):
        best = best_first(branched(shape), trial, camera, size, instances, config, progress, "branches")[:BRANCHES]
        grown = [learn(some, np.random.default_rng([seed, attempt, i, 1]), [config.rounds - 1] * BRANCH_ROUNDS) for i, some in enumerate(best)]
        left = [
            unexplained_by(some, common, camera, size, instances, config, config.rotations, progress)
            for some in (shape, *(some for some, *_ in grown))
        ]
        compared("branches", left)
        if min(left) > left[0] - BRANCH_GAIN:
            break
        shape, chosen, poses = grown[left.index(min(left)) - 1]
        grew = True
    if grew:
        shape, chosen, poses = learn(shape, np.random.default_rng([seed, 2]), [config.rounds - 1] * SETTLING_ROUNDS)
    for turn in range(config.polish):
        poses = _fit(shape, chosen, poses, camera, config, config.steps // 2, progress, f"polish {turn + 1}/{config.polish}")
        look(config.rounds + turn, shape, chosen, poses)
        shape, poses = _crop(shape, poses)
    return shape


def unexplained_by(
    shape: Shape, images: Tensor, camera: Camera, size: int, instances: int, config: TemplateConfig, rotations: int, progress: Progress
) -> float:
    """Mean mismatch of images (B, P) and the template in the poses that are found for it, in [0, 1)."""
    poses = search_poses(shape, images, camera, size, instances, max(rotations, 24), progress)
    return float(refine(shape, poses, images, camera, steps=config.steps)[1].mean())


def _fit(
    shape: Shape, images: Tensor, poses: Poses, camera: Camera, config: TemplateConfig, steps: int, progress: Progress, name: str
) -> Poses:
    """Fit poses, and then poses and template, to images (N, P).

    The half turns between the two tell the ends of a part apart: as long as the template's ends are alike, each image takes
    either, and what they have not in common is averaged away.
    """
    optimizer = torch.optim.Adam(shape.parameters(), lr=config.rate)
    fitted = []
    for start in progress(range(0, len(images), config.batch), name):
        batch, now = images[start : start + config.batch], poses[start : start + config.batch]
        now, _ = refine(shape, now, batch, camera, steps=steps // 2)
        if config.half_turns:
            now, _ = turn_over(shape, now, batch, camera)
        now, _ = refine(shape, now, batch, camera, steps=steps, update=optimizer, regulariser=config.smooth)
        fitted.append(now)
    return Poses(*(torch.cat([getattr(now, key) for now in fitted]) for key in ("rotation", "translation", "present")))


def _crop(shape: Shape, poses: Poses) -> tuple[Shape, Poses]:
    """The template in a box that fits it, and the poses of its new origin."""
    shape, middle = shape.cropped()
    return shape, Poses(poses.rotation, poses.translation + poses.rotation @ middle, poses.present)
