"""Exhaustive search for poses: which rotation, where, explains the most of what is observed without standing before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.ndimage import binary_fill_holes
from torch import Tensor
from torch.nn import functional as F

from .refine import Camera, Poses
from .shape import Shape, pixel_rays

TOLERANCE = 4e-3
"""Metres between rendered and observed depth within which a pixel counts as explained."""
FLOOR = -0.97
"""Value above which a pixel counts as a part's."""


def spread_rotations(count: int) -> Tensor:
    """(count, 3, 3) rotations spread evenly: super-Fibonacci spirals (Alexa, CVPR 2022)."""
    s = torch.arange(count, dtype=torch.float64) + 0.5
    r, big_r = (s / count).sqrt(), (1 - s / count).sqrt()
    alpha, beta = 2 * math.pi * s / math.sqrt(2), 2 * math.pi * s / 1.533751168755204288118041
    x, y, z, w = r * alpha.sin(), r * alpha.cos(), big_r * beta.sin(), big_r * beta.cos()
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).view(-1, 3, 3).float()


@dataclass
class Library:
    """Renderings of the template in many rotations on the optical axis, as lists of K pixels each (padded).

    Attributes:
        rotation: (R, 3, 3). offset: (R, K, 2) int64 pixels (row, column) from the centre. relief: (R, K) metres, depth there
            less the depth of the part's origin. valid: (R, K) bool. reach: largest offset. stride: pixels of the working
            image along a side of one of the library.
        hollow: (R,) int64, pixels from the part's origin to the nearest that shows it: more than 0 where one looks through a ring, or past an angle.
        finer: None: all rotations are tried everywhere. (C, F) int64: the first C are, and then, where one of these is
            among the best, the F in its row, −1 = none.
    """

    rotation: Tensor
    offset: Tensor
    relief: Tensor
    valid: Tensor
    reach: int
    stride: int
    hollow: Tensor
    finer: Tensor | None = None


COARSE = 200
"""Rotations that are tried everywhere before others near the best of them are: they are about 35° apart."""


@torch.no_grad()
def make_library(shape: Shape, rotation: Tensor, focal: float, distance: float, stride: int, coarse: int = COARSE) -> Library:
    """Render ``rotation`` (R, 3, 3) at ``distance`` metres with ``focal`` pixels, every ``stride``-th pixel of it.

    Many more than ``coarse`` rotations are searched in two steps (``Library.finer``); few, all of them.
    """
    finer = None
    if len(rotation) >= 5 * coarse:  # with fewer, the first step misses more than the second saves
        first = spread_rotations(coarse).to(rotation)
        finer = _nearest(first, rotation)
        rotation = torch.cat([first, rotation])
    reach = int(math.ceil(float(shape.extent.norm()) * focal / distance / stride))
    side = 2 * reach + 1
    K = torch.tensor([[focal / stride, 0, reach], [0, focal / stride, reach], [0, 0, 1.0]])
    rays = pixel_rays(K, side, side).to(rotation)
    translation = torch.tensor([[0, 0, distance]]).to(rotation).expand(len(rotation), 3)
    depth, opacity = shape.render(rotation, translation, rays)
    inside = opacity > 0.6
    # Pixels of the part first, those in the middle before the others: anchors are taken from them by rank.
    row, column = torch.arange(side * side, device=rotation.device) // side - reach, torch.arange(side * side, device=rotation.device) % side - reach
    rank = (row.square() + column.square()).float() + (~inside) * 1e6
    order = rank.argsort(1)[:, : max(int(inside.sum(1).max()), 1)]
    offset = torch.stack([row[order], column[order]], -1)
    valid = inside.gather(1, order)
    reach = int(offset[valid].abs().max()) if valid.any() else 0
    hollow = offset[:, 0].abs().amax(1) * valid[:, 0]
    return Library(rotation, offset * valid[..., None], depth.gather(1, order) - distance, valid, reach, stride, hollow, finer)


def _nearest(first: Tensor, others: Tensor) -> Tensor:
    """(C, F) int64: the rows of ``others`` (R, 3, 3), counted from C, that each of ``first`` (C, 3, 3) is nearest to; −1 = none."""
    nearest = (others.flatten(1) @ first.flatten(1).T).argmax(1)  # the trace of R₁ᵀR₂ grows with their likeness
    order = nearest.argsort(stable=True)
    count = torch.bincount(nearest, minlength=len(first))
    rows = torch.full((len(first), int(count.max())), -1, device=first.device)
    rank = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[nearest[order]]
    rows[nearest[order], rank] = order + len(first)
    return rows


SHOWN = 100
"""Best candidates among which one is looked for that stands in no other part."""
LEAST_PIXELS = 4
"""Of a rendering that shows so few nothing is known."""
PAIRS = 4096
"""Rotations at positions that are scored together; bounds the memory."""
ANCHORS = (0.0, 0.5, 0.85)
"""Pixels that are taken to show the part, by rank from its middle (0) to its outline (1): one of them is not hidden."""


class PoseSearch:
    """The search in one image.

    A pixel is explained where the rendered surface lies within ``TOLERANCE`` of the observed one, and contradicted where it
    lies before it by more: the camera would have seen it. Where it lies behind, something else hides it: neither.

    Args:
        observed: (P,) values, P = size².
        wanted: (P,) bool, what is still to be explained; None = every part's pixel.
        least: working pixels; where a part would explain fewer, it is not looked for.
        penalty: of a contradicted pixel, in explained ones.
        rivals: rotations kept at each position.
    """

    def __init__(
        self, library: Library, observed: Tensor, camera: Camera, size: int, *, wanted: Tensor | None = None, least: float = 0.0,
        penalty: float = 1.0, rivals: int = 4,
    ) -> None:  # fmt: skip
        stride, reach = library.stride, library.reach
        self.library, self.penalty = library, penalty
        image = observed.view(size, size)[::stride, ::stride]
        pad = (reach,) * 4
        self.wide = len(image) + 2 * reach
        self.depth = F.pad(camera.depth(image), pad, value=camera.far).flatten()
        part = image > FLOOR if wanted is None else wanted.view(size, size)[::stride, ::stride]
        self.wanted = F.pad(part.float(), pad).flatten()
        # No part explains more than what is wanted within its reach.
        within = F.avg_pool2d(part.float()[None], 2 * reach + 1, 1, reach, divisor_override=1)[0] * stride**2
        # The origin of a part is seen on a part, or in the hole of one; of a hollow one also beside it.
        closed = _without_holes(image > FLOOR)
        beside = _grown(closed, int(library.hollow.max())) & ~closed
        places = [torch.nonzero(some & (within >= least)) for some in (closed, beside)]
        self.closed = len(places[0])
        rows, columns = torch.cat(places).unbind(1)
        self.base = (rows + reach) * self.wide + columns + reach
        self.ray = camera.rays.view(size, size, 3)[::stride, ::stride][rows, columns]
        self._scan(rivals)

    @torch.no_grad()
    def _scan(self, rivals: int) -> None:
        """Score rotations at every position, with the best of the anchors; keep the best rotations of each position."""
        library, m = self.library, len(self.base)
        r = len(library.rotation if library.finer is None else library.finer)
        score = torch.full((r, m), -torch.inf, device=self.depth.device)
        origin = torch.zeros_like(score)
        every = torch.arange(m, device=self.depth.device)
        for i, hollow in enumerate((library.hollow[:r] > 0).tolist()):
            some = every if hollow else every[: self.closed]
            if len(some):
                score[i, : len(some)], origin[i, : len(some)] = self._score(torch.tensor([i], device=every.device), some)
        if library.finer is None:
            self._keep(score, origin, torch.arange(r, device=every.device)[:, None].expand(r, m), rivals)
            return
        # (4 rivals, m, F) → (4 rivals · F, m): what is finer about the best of each position.
        rotation = library.finer[score.topk(min(4 * rivals, r), dim=0).indices].transpose(1, 2).flatten(0, 1)
        score = torch.full(rotation.shape, -torch.inf, device=self.depth.device)
        origin = torch.zeros_like(score)
        there = rotation >= 0
        if there.any():
            pairs = zip(rotation[there].split(PAIRS), every.expand_as(rotation)[there].split(PAIRS))
            scored = [self._score(some, positions) for some, positions in pairs]
            score[there], origin[there] = (torch.cat(values) for values in zip(*scored))
        self._keep(score, origin, rotation, rivals)

    def _keep(self, score: Tensor, origin: Tensor, rotation: Tensor, rivals: int) -> None:
        """Of candidates (C, m) at each position the best ``rivals``."""
        top = score.topk(min(rivals, len(score)), dim=0).indices
        self.candidate, self.origin = rotation.gather(0, top).flatten(), origin.gather(0, top).flatten()
        self.position = torch.arange(score.shape[1], device=score.device).repeat(len(top))

    def _score(self, rotation: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and depths of the origin (M,) of rotations (M,) or (1,) of the library at positions (M,)."""
        valid = self.library.valid[rotation]
        count = valid.sum(1)
        most = max(int(count.max()), 1)
        valid = valid[:, :most]
        index = self._pixels(rotation)[:, :most] + self.base[position][:, None]
        gap = self.depth[index] - self.library.relief[rotation, :most]
        if len(rotation) > 1:
            gap.masked_fill_(~valid, -torch.inf)  # behind everything: says nothing
        weight = self.wanted[index]
        score = gap.new_full(position.shape, -torch.inf)
        origin = torch.zeros_like(score)
        for anchor in ANCHORS:
            z = gap.gather(1, (anchor * (count - 1).clamp_min(0)).long().expand(len(gap))[:, None])
            off = gap - z
            now = (weight * (off.abs() < TOLERANCE)).sum(1) - self.penalty * (off > TOLERANCE).sum(1)
            now = now.masked_fill(count < LEAST_PIXELS, -torch.inf)
            better = now > score
            score, origin = torch.where(better, now, score), torch.where(better, z[:, 0], origin)
        return score, origin

    def _pixels(self, rotation: Tensor) -> Tensor:
        offset = self.library.offset[rotation]
        return offset[..., 0] * self.wide + offset[..., 1]

    @torch.no_grad()
    def pick(self, veto: Callable[[Tensor, Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor, float]:
        """The candidate that explains the most of what no earlier pick explains.

        Args:
            veto: rotations (M, 3, 3) and translations (M, 3) → (M,) bool, where no part can be. Only the best are shown to it.

        Returns:
            rotation (3, 3), translation (3,) metres, and its score in working pixels (−inf without a candidate).
        """
        if not len(self.candidate):
            return torch.eye(3, device=self.depth.device), torch.zeros(3, device=self.depth.device), -math.inf
        if not hasattr(self, "index"):
            self.index = self._pixels(self.candidate) + self.base[self.position][:, None]
            valid = self.library.valid[self.candidate]
            off = self.depth[self.index] - self.library.relief[self.candidate] - self.origin[:, None]
            self.explained = valid & (off.abs() < TOLERANCE)
            self.contradicted = (valid & (off > TOLERANCE)).sum(1)
        score = (self.wanted[self.index] * self.explained).sum(1) - self.penalty * self.contradicted
        top = score.topk(min(SHOWN if veto else 1, len(score))).indices
        ray = self.ray[self.position[top]]
        rotation, translation = tilt_towards(ray) @ self.library.rotation[self.candidate[top]], ray * self.origin[top, None]
        free = torch.nonzero(~veto(rotation, translation))[:, 0].tolist() if veto else [0]
        if not free:
            return rotation[0], translation[0], -math.inf
        best = int(top[free[0]])
        self.wanted[self.index[best][self.explained[best]]] = 0.0
        return rotation[free[0]], translation[free[0]], float(score[best]) * self.library.stride**2


def _without_holes(mask: Tensor) -> Tensor:
    """A mask (H, W) and what it surrounds."""
    return torch.from_numpy(binary_fill_holes(mask.cpu().numpy())).to(mask.device)


def _grown(mask: Tensor, pixels: int) -> Tensor:
    """A mask (H, W) and what is up to ``pixels`` from it along rows and columns."""
    return F.max_pool2d(mask[None].float(), 2 * pixels + 1, 1, pixels)[0] > 0 if pixels else mask


def tilt_towards(ray: Tensor) -> Tensor:
    """(M, 3, 3) smallest rotations that take the optical axis to each ray (M, 3): what is seen stays the same along it."""
    d = ray / ray.norm(dim=-1, keepdim=True)
    x, y, z = d.unbind(-1)
    k = 1 / (1 + z)
    rows = [1 - x * x * k, -x * y * k, x, -x * y * k, 1 - y * y * k, y, -x, -y, z]
    return torch.stack(rows, -1).view(-1, 3, 3)


def stack(poses: list[tuple[Tensor, Tensor]], n: int) -> Poses:
    """Rotations (k, 3, 3) and translations (k, 3) of each image → padded Poses with n ≥ k slots."""
    b = len(poses)
    device = poses[0][1].device if poses else None
    rotation = torch.eye(3, device=device).repeat(b, n, 1, 1)
    translation = torch.tensor([0, 0, 1.0], device=device).repeat(b, n, 1)
    present = torch.zeros(b, n, dtype=torch.bool, device=device)
    for i, (r, t) in enumerate(poses):
        rotation[i, : len(r)], translation[i, : len(t)], present[i, : len(r)] = r, t, True
    return Poses(rotation, translation, present)
