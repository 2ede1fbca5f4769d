"""Learning the explicit template from unlabelled depth alone, by turns: find poses for the template, fit the template to them.

As in ab-initio reconstruction from single-particle images (cryoSPARC: Punjani et al., Nature Methods 2017) the poses are searched
exhaustively, so the first, featureless template does no harm; what is learned is what all images agree on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..methods.insegan.flips import turn_over
from ..methods.insegan.refine import Camera, Poses, refine
from ..methods.insegan.search import FLOOR, PoseSearch, make_library, spread_rotations, stack
from ..methods.insegan.shape import Shape
from .insegan_bores import bored, drilled, united
from .insegan_branches import branched

Progress = Callable[[Iterable, str], Iterable]
"""Items and a name → the same items, with a progress bar."""
Learned = tuple[Shape, Tensor, Poses]
"""A template, the images of its last round and its poses in them."""
Look = Callable[[int, Shape, Tensor, Poses], None]
Compared = Callable[[str, list[float]], None]


FORMS = (((1.0, 1.0, 1.0), 0.0), ((1.8, 1.0, 1.0), 0.0), ((3.0, 1.0, 1.0), 0.0), ((1.0, 1.0, 0.4), 0.0), ((1.0, 1.0, 0.4), 0.5))
"""Half axes of the first templates, in proportion, and radius of a hole along the last: ball, egg, cigar, disc, ring."""
OVERLAPS = (1.0, 1.5, 2.2)
"""How often the parts would cover the foreground if none hid another."""
BRANCHES, VARIANT_ROUNDS = 2, 2
"""Branched templates that are learned, and for how many rounds variants of the template are."""
BRANCH_GAIN, BORE_GAIN = 0.006, 0.001
"""By how much the mismatch must fall to keep a branch, and bores: their mouths are small."""
SETTLING_ROUNDS = 4
"""Further rounds of a template that was changed so: it looks different from more sides now."""


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
            (``branched``); each time that it does, it goes on with that. bores: whether the same is tried with holes in it (``bored``).
        rate: Adam's for the template, millimetres.
        smooth, detail: weight of its roughness, in the first round and from the last on; between them it falls evenly in proportion.
            As long as the poses are bad a rough template fits their errors, later a smooth one fills its bores.
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
    bores: bool = False
    batch: int = 16
    rate: float = 0.1
    smooth: float = 0.02
    detail: float = 0.001
    trial_images: int = 8

    def __post_init__(self) -> None:
        most = len(FORMS) * len(OVERLAPS)
        if self.branches < 0:
            raise InputError(f"template.branches must be 0 or more, got {self.branches!r}")
        if not 0 < self.detail <= self.smooth:
            raise InputError(f"template.detail must be positive and at most smooth = {self.smooth}, got {self.detail!r}")
        if not 1 <= self.starts <= most:
            raise InputError(f"template.starts must lie between 1 and {most}, the first templates tried, got {self.starts!r}")
        if self.starts > 1 and not 1 <= self.start_rounds <= self.rounds:
            raise InputError(f"template.start_rounds must lie between 1 and rounds = {self.rounds}, got {self.start_rounds!r}")


def first_templates(images: Tensor, camera: Camera, size: int, instances: int, config: TemplateConfig, progress: Progress) -> list[Shape]:
    """Ellipsoids of several shapes and sizes, and rings, those that explain some images (B, P) best first."""
    area = float((images > FLOOR).sum(1).float().median()) / instances
    focal, middle = focal_and_middle(images, camera)
    shapes = []
    for (ratio, hole), overlap in product(FORMS, OVERLAPS):
        axes = torch.tensor(ratio)
        shown = math.pi * float(axes[0] * axes[1]) * (1 - hole**2)
        axes = axes * math.sqrt(area * overlap / shown) * middle / focal
        extent = axes + 0.4 * axes.mean()
        shape = Shape.in_box(config.resolution, extent).to(images.device)
        shape.set_ellipsoid(axes)
        if hole:
            shape = drilled(shape, 2, torch.zeros(3), hole * float(axes[0]), -float(axes[2]), float(axes[2]))
        shapes.append(shape)
    scores = explained_by(shapes, images, camera, size, instances, config, progress, "first template")
    return best_first(shapes, scores)


def explained_by(
    shapes: list[Shape], images: Tensor, camera: Camera, size: int, instances: int, config: TemplateConfig, progress: Progress, name: str
) -> list[float]:
    """How many working pixels of images (B, P) a coarse search explains with each template, less those it contradicts."""
    focal, middle = focal_and_middle(images, camera)
    rotations = spread_rotations(max(config.rotations // 4, 60)).to(images.device)
    scores = []
    for shape in progress(shapes, name):
        library = make_library(shape, rotations, focal, middle, stride_of(size))
        scores.append(sum(max(score, 0.0) for image in images for *_, score in picks(library, image, camera, size, instances)))
    return scores


def best_first(shapes: list[Shape], scores: list[float]) -> list[Shape]:
    return [shape for _, shape in sorted(zip(scores, shapes), key=lambda pair: -pair[0])]


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


class _Learner:
    """Learns templates from images (N, P) of ``instances`` parts each."""

    def __init__(self, images: Tensor, camera: Camera, size: int, instances: int, config: TemplateConfig, progress: Progress, look: Look) -> None:
        self.images, self.camera, self.size, self.instances = images, camera, size, instances
        self.config, self.progress, self.look = config, progress, look

    def rounds(self, shape: Shape, rng: np.random.Generator, rounds: Iterable[int]) -> Learned:
        """Turns of search and fit, each on other images."""
        c = self.config
        for turn in rounds:
            chosen = self.images[rng.choice(len(self.images), min(c.images, len(self.images)), replace=False)]
            rotations = max(round(c.rotations * max((turn + 1) / c.rounds, 1 / 3)), 24)
            poses = search_poses(shape, chosen, self.camera, self.size, self.instances, rotations, self.progress)
            smooth = c.smooth * (c.detail / c.smooth) ** (turn / (c.rounds - 1) if c.rounds > 1 else 1.0)
            poses = _fit(shape, chosen, poses, self.camera, c, c.steps, smooth, self.progress, f"template {turn + 1}/{c.rounds}")
            self.look(turn, shape, chosen, poses)
            shape, poses = _crop(shape, poses)
        return shape, chosen, poses

    def polished(self, learned: Learned) -> Shape:
        """Turns of fit alone, on the images of the last round."""
        c, (shape, chosen, poses) = self.config, learned
        for turn in range(c.polish):
            poses = _fit(shape, chosen, poses, self.camera, c, c.steps // 2, c.detail, self.progress, f"polish {turn + 1}/{c.polish}")
            self.look(c.rounds + turn, shape, chosen, poses)
            shape, poses = _crop(shape, poses)
        return shape

    def unexplained(self, shape: Shape, images: Tensor, rotations: int) -> float:
        """Mean mismatch of images (B, P) and the template in the poses that are found for it, in [0, 1)."""
        poses = search_poses(shape, images, self.camera, self.size, self.instances, max(rotations, 24), self.progress)
        return float(refine(shape, poses, images, self.camera, steps=self.config.steps)[1].mean())

    def branched(self, shape: Shape, trial: Tensor) -> list[Shape]:
        """The templates with a branch that explain ``trial`` best."""
        shapes = branched(shape)
        return best_first(shapes, self._explain(shapes, trial, "branches"))[:BRANCHES]

    def bored(self, shape: Shape, trial: Tensor) -> list[Shape]:
        """The template with the bores that explain more of ``trial``, one after another; nothing where none does."""
        shapes = bored(shape)
        (without, *scores) = self._explain([shape, *shapes], trial, "bores")
        good = best_first(shapes, scores)[: sum(score > without for score in scores)]
        if not good:
            return []
        most, result = max(scores), good[0]
        for other in good[1:]:
            both = united(result, other)
            (score,) = self._explain([both], trial, "bores")
            if score > most:
                most, result = score, both
        return [result]

    def _explain(self, shapes: list[Shape], trial: Tensor, name: str) -> list[float]:
        return explained_by(shapes, trial, self.camera, self.size, self.instances, self.config, self.progress, name)

    def best_of(
        self, shape: Shape, variants: list[Shape], seed: tuple[int, int, int], name: str, common: Tensor, gain: float, compared: Compared
    ) -> tuple[Learned, bool]:
        """What becomes in some rounds of the variant that leaves least of ``common`` unexplained, or of the template itself.

        Returns:
            it, and whether it is a variant: one whose mismatch is lower by ``gain`` than that of the template after as many rounds.
        """
        c, (run, attempt, kind) = self.config, seed
        every = [shape, *variants]
        sources = (np.random.default_rng([run, attempt, i, kind]) for i in range(len(every)))
        learned = [self.rounds(some, source, [c.rounds - 1] * VARIANT_ROUNDS) for some, source in zip(every, sources)]
        left = [self.unexplained(some, common, c.rotations) for some, *_ in learned]
        compared(name, left)
        best = left.index(min(left))
        kept = left[best] <= left[0] - gain
        return learned[best if kept else 0], kept


def learn_template(
    images: Tensor, camera: Camera, size: int, instances: int, config: TemplateConfig, seed: int, progress: Progress,
    look: Look = lambda *_: None, compared: Compared = lambda *_: None,
) -> Shape:  # fmt: skip
    """Template from images (N, P) of ``instances`` parts each.

    Args:
        look: called after each round with the round, the template, some images and their poses; for pictures and logs.
        compared: called with ``starts`` and the mismatch of each, where there are several; and with ``branches`` or ``bores`` and the
            mismatch without them and with each of those that were learned, after as many rounds.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    learner = _Learner(images, camera, size, instances, config, progress, look)
    trial, common = images[order[: config.trial_images]], images[order[-config.batch :]]
    first = first_templates(trial, camera, size, instances, config, progress)[: config.starts]
    if config.starts == 1:
        learned = learner.rounds(first[0], rng, range(config.rounds))
    else:
        # A template that took half a part for a part stays so: local minima are left by starting anew, not by going on.
        sources = [rng, *(np.random.default_rng([seed, i]) for i in range(1, config.starts))]
        begun = [learner.rounds(shape, source, range(config.start_rounds)) for shape, source in zip(first, sources)]
        left = [learner.unexplained(shape, common, config.rotations // 3) for shape, *_ in begun]
        compared("starts", left)
        best = left.index(min(left))
        learned = begun[best]
        if config.start_rounds < config.rounds:
            learned = learner.rounds(learned[0], sources[best], range(config.start_rounds, config.rounds))
    changed = False
    for attempt in range(config.branches):
        variants = learner.branched(learned[0], trial)
        learned, kept = learner.best_of(learned[0], variants, (seed, attempt, 1), "branches", common, BRANCH_GAIN, compared)
        changed |= kept
        if not kept:
            break
    if config.bores and (variants := learner.bored(learned[0], torch.cat([trial, common]))):
        learned, kept = learner.best_of(learned[0], variants, (seed, 0, 2), "bores", common, BORE_GAIN, compared)
        changed |= kept
    if changed:
        learned = learner.rounds(learned[0], np.random.default_rng([seed, 2]), [config.rounds - 1] * SETTLING_ROUNDS)
    return learner.polished(learned)


def _fit(
    shape: Shape, images: Tensor, poses: Poses, camera: Camera, config: TemplateConfig, steps: int, smooth: float, progress: Progress, name: str
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
        now, _ = refine(shape, now, batch, camera, steps=steps, update=optimizer, regulariser=smooth)
        fitted.append(now)
    return Poses(*(torch.cat([getattr(now, key) for now in fitted]) for key in ("rotation", "translation", "present")))


def _crop(shape: Shape, poses: Poses) -> tuple[Shape, Poses]:
    """The template in a box that fits it, and the poses of its new origin."""
    shape, middle = shape.cropped()
    return shape, Poses(poses.rotation, poses.translation + poses.rotation @ middle, poses.present)
