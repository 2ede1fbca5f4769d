"""Which of many candidate poses make up the image: the number of instances is an outcome, not an input."""

from __future__ import annotations

import torch
from torch import Tensor

from .flips import turn_over
from .refine import Camera, Poses, draw, refine
from .search import FLOOR, TOLERANCE, Library, PoseSearch
from .shape import Shape
from .solids import shared_volume

CONTRADICTED = 0.5
"""What a contradicted pixel costs, in explained ones: less, for a searched pose is some degrees off, and bores are deeper than the template's."""
SHARED = 0.3
"""Of the smaller share of two parts' volumes, from which they cannot both be there."""


def evidence(depth: Tensor, opacity: Tensor, observed: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Where renderings agree with the image, and where they stand before it, as no real part can.

    Args:
        depth, opacity: (C, P) of candidates, each alone. observed: (P,) values.

    Returns:
        explained, contradicted (C, P) bool; where the rendering lies behind what is observed, neither holds.
    """
    seen = camera.depth(observed)
    gap = seen - depth
    part = observed > FLOOR
    # Working pixels on an outline hold a mean of two depths: they contradict nothing.
    return (opacity > 0.5) & part & (gap.abs() < TOLERANCE), (opacity > 0.9) & ((gap > TOLERANCE) | ~part)


@torch.no_grad()
def select(
    shape: Shape, rotation: Tensor, translation: Tensor, observed: Tensor, camera: Camera, *, least: float, most: int, penalty: float = 1.0
) -> Tensor:
    """Greedy choice among candidates (C, 3, 3), (C, 3) of one image: what explains most of what nothing chosen explains.

    Args:
        least: smallest gain, as a share of the candidate's own outline. most: upper bound on instances.

    Returns:
        (k,) int64 indices, in the order chosen.
    """
    if not len(rotation):
        return torch.zeros(0, dtype=torch.int64, device=observed.device)
    depth, opacity = shape.render(rotation, translation, camera.rays)
    explained, contradicted = evidence(depth, opacity, observed, camera)
    area = (opacity > 0.5).sum(1).clamp_min(1)
    price = penalty * contradicted.sum(1).float()
    wanted = torch.ones_like(observed)
    shared = shared_volume(shape, (rotation, translation), (rotation, translation))
    blocked = torch.zeros(len(rotation), dtype=torch.bool, device=observed.device)
    chosen: list[int] = []
    while len(chosen) < most:
        gain = ((explained.float() @ wanted - price) / area).masked_fill(blocked, -torch.inf)
        best = int(gain.argmax())
        if gain[best] < least:
            break
        chosen.append(best)
        wanted[explained[best]] = 0.0
        blocked |= torch.maximum(shared[best], shared[:, best]) > SHARED
    return torch.tensor(chosen, dtype=torch.int64, device=observed.device)


@torch.no_grad()
def add_missing(
    shape: Shape, library: Library, poses: Poses, observed: Tensor, camera: Camera, size: int, *, least: float
) -> Poses:
    """Search in what the instances present do not explain, and fill absent slots with what is found there.

    Args:
        poses: of one image (n slots). observed: (P,) values. least: as in ``select``.
    """
    free = torch.nonzero(~poses.present)[:, 0]
    if not len(free):
        return poses
    scene = draw(shape, Poses(poses.rotation[None], poses.translation[None], poses.present[None]), camera)
    explained, _ = evidence(scene.depth[0], scene.opacity[0], observed, camera)
    rest = observed.masked_fill(explained.any(0), -1.0)
    area = library.valid.sum(1).float().mean() * library.stride**2
    if (rest > FLOOR).sum() < least * area:
        return poses
    search = PoseSearch(library, observed, camera, size, wanted=rest > FLOOR, least=float(least * area), penalty=CONTRADICTED)
    rotation, translation, present = poses.rotation.clone(), poses.translation.clone(), poses.present.clone()

    def taken(r: Tensor, t: Tensor) -> Tensor:
        return (shared_volume(shape, (r, t), (rotation[present], translation[present])) > SHARED).any(1)

    for slot in free.tolist():
        r, t, score = search.pick(taken)
        if score < least * area:
            break
        rotation[slot], translation[slot], present[slot] = r, t, True
    return Poses(rotation, translation, present)


@torch.no_grad()
def prune(shape: Shape, poses: Poses, observed: Tensor, camera: Camera, *, least: float) -> Poses:
    """Mark instances absent that explain next to nothing of the images (B, P) that the others do not, or stand in another."""
    scene = draw(shape, poses, camera)
    present = poses.present.clone()
    for b in range(len(observed)):
        explained, contradicted = evidence(scene.depth[b], scene.opacity[b], observed[b], camera)
        shown = explained & (scene.visibility[b] > 0.5)
        area = (scene.opacity[b] > 0.5).sum(1).clamp_min(1)
        gain = shown.sum(1) - CONTRADICTED * contradicted.sum(1)
        present[b] &= gain >= least * area
        shared = shared_volume(shape, (poses.rotation[b], poses.translation[b]), (poses.rotation[b], poses.translation[b]))
        clash = torch.maximum(shared, shared.T) > SHARED
        for i in gain.argsort().tolist():  # of two in one place the one that explains less goes
            others = clash[i] & present[b]
            others[i] = False
            if others.any():
                present[b, i] = False
    return Poses(poses.rotation, poses.translation, present)


def improve(
    shape: Shape, library: Library | None, poses: Poses, observed: Tensor, camera: Camera, size: int, *, steps: int, least: float,
    half_turns: bool = True,
) -> Poses:  # fmt: skip
    """Refine the poses of images (B, P) and try ``half_turns``; where ``library`` is given also replace what explains nothing
    by what is missing.
    """
    poses, _ = refine(shape, poses, observed, camera, steps=steps)
    turned = torch.zeros(len(observed), dtype=torch.bool, device=observed.device)
    if half_turns:
        poses, turned = turn_over(shape, poses, observed, camera)
    left = prune(shape, poses, observed, camera, least=least)
    changed = turned | (left.present != poses.present).any(1)
    poses = left
    if library is not None:
        added = [add_missing(shape, library, poses[b], observed[b], camera, size, least=least) for b in range(len(observed))]
        changed |= torch.stack([(new.present != poses.present[b]).any() for b, new in enumerate(added)])
        poses = Poses(*(torch.stack([getattr(new, name) for new in added]) for name in ("rotation", "translation", "present")))
    if changed.any():
        again, _ = refine(shape, poses[changed], observed[changed], camera, steps=steps)
        poses.rotation[changed], poses.translation[changed] = again.rotation, again.translation
        poses = prune(shape, poses, observed, camera, least=least)
    return poses
