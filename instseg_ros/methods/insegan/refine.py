"""Analysis by synthesis: poses of n solids are moved until their common depth image equals the observed one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .rotations import exponential_map
from .shape import Shape, compose


@dataclass(frozen=True)
class Camera:
    """The working image's camera, the linear map of its values (``Normalisation``), and how instances make up an image.

    Attributes:
        rays: (P, 3) of ``pixel_rays``, P = S². near, far: metres of the values 1 and −1.
        composition: ``z-buffer``: the nearer instance hides the other; ``mean``: where several are, their mean is seen, as
            when the features of the instances are averaged (Eq. 2).
    """

    rays: Tensor
    near: float
    far: float
    composition: str = "z-buffer"

    def value(self, depth: Tensor) -> Tensor:
        """Metres → value, not clipped."""
        return (self.far + self.near - 2 * depth) / (self.far - self.near)

    def depth(self, value: Tensor) -> Tensor:
        """Value → metres."""
        return (self.far + self.near - value * (self.far - self.near)) / 2


@dataclass
class Poses:
    """Poses of n instances in each of B images.

    Attributes:
        rotation: (B, n, 3, 3) part → camera. translation: (B, n, 3) metres. present: (B, n) bool, absent ones are not drawn.
    """

    rotation: Tensor
    translation: Tensor
    present: Tensor

    def __getitem__(self, index: Tensor | slice | int) -> Poses:
        return Poses(self.rotation[index], self.translation[index], self.present[index])


@dataclass
class Scene:
    """What a set of poses looks like.

    Attributes:
        image: (B, P) values of all instances together. depth, opacity, visibility: (B, n, P) of each alone; ``visibility`` is
            what is left of its opacity under the others.
    """

    image: Tensor
    depth: Tensor
    opacity: Tensor
    visibility: Tensor


def draw(shape: Shape, poses: Poses, camera: Camera, sharpness: float = 0.0) -> Scene:
    """Render every instance alone and all together; absent ones are transparent."""
    b, n = poses.present.shape
    p = len(camera.rays)
    shown = torch.nonzero(poses.present.flatten())[:, 0]
    depth = poses.translation[..., 2:].expand(b, n, p).reshape(b * n, p)
    opacity = torch.zeros(b * n, p, device=camera.rays.device)
    if len(shown):
        d, a = shape.render(poses.rotation.flatten(0, 1)[shown], poses.translation.flatten(0, 1)[shown], camera.rays)
        depth, opacity = depth.index_copy(0, shown, d), opacity.index_copy(0, shown, a)
    depth, opacity = depth.view(b, n, p), opacity.view(b, n, p)
    image, visibility = blend(depth, opacity, camera, sharpness)
    return Scene(image, depth, opacity, visibility)


def blend(depth: Tensor, opacity: Tensor, camera: Camera, sharpness: float = 0.0) -> tuple[Tensor, Tensor]:
    """Renderings (B, n, P) of single instances → the value (B, P) of all together, and what is visible of each (B, n, P)."""
    if camera.composition == "mean":
        visibility = opacity / opacity.sum(1, keepdim=True).clamp_min(1)
    else:
        visibility = compose(depth, opacity, sharpness)
    total = visibility.sum(1)
    image = (visibility * camera.value(depth).clamp(-1, 1)).sum(1) - (1 - total)
    return image / total.clamp_min(1), visibility


def mismatch(image: Tensor, observed: Tensor, scale: float = 0.1) -> Tensor:
    """Difference of values (…, P) by Geman and McClure's bounded root: |e| / (|e| + scale), in [0, 1)."""
    error = (image - observed).abs()
    return error / (error + scale)


@torch.enable_grad()
def refine(
    shape: Shape,
    poses: Poses,
    observed: Tensor,
    camera: Camera,
    *,
    steps: int,
    move: float = 1e-3,
    turn: float = 0.04,
    sharpness: float = 2e-3,
    update: torch.optim.Optimizer | None = None,
    regulariser: float = 0.0,
) -> tuple[Poses, Tensor]:
    """Descend on the mismatch between the drawn and the observed images by Adam.

    Args:
        poses: where to start. observed: (B, P) values.
        steps: of Adam, with a rate that falls to a tenth. move, turn: its first rate, metres and radians.
        sharpness: metres, of the soft z-buffer.
        update: an optimizer of the shape's parameters, stepped along: the template is learned too.
        regulariser: weight of the shape's roughness then.

    Returns:
        the refined poses (detached) and the final mismatch (B,), mean over pixels.
    """
    delta_r = torch.zeros_like(poses.translation, requires_grad=True)
    delta_t = torch.zeros_like(poses.translation, requires_grad=True)
    groups = [{"params": [delta_r], "lr": turn}, {"params": [delta_t], "lr": move}]
    optimizer = torch.optim.Adam(groups, betas=(0.8, 0.95))

    def moved() -> Poses:
        return Poses(poses.rotation @ exponential_map(delta_r), poses.translation + delta_t, poses.present)

    best, best_loss = None, None
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            loss = mismatch(draw(shape, moved(), camera, sharpness).image, observed).mean(1)
        with torch.no_grad():
            now = moved()
            better = torch.ones_like(loss, dtype=torch.bool) if best is None else loss < best_loss
            keep = better[:, None, None]
            best = now if best is None else Poses(
                torch.where(keep[..., None], now.rotation, best.rotation), torch.where(keep, now.translation, best.translation), now.present
            )  # fmt: skip
            best_loss = loss.detach() if best_loss is None else torch.where(better, loss.detach(), best_loss)
        if step == steps or not loss.requires_grad:  # nothing present, or out of sight
            break
        optimizer.zero_grad()
        total = loss.sum()
        if update is not None:
            update.zero_grad()
            total = total + regulariser * len(observed) * roughness(shape)
        total.backward()
        for group, rate in zip(optimizer.param_groups, (turn, move)):
            group["lr"] = rate * 0.1 ** (step / max(steps, 1))
        optimizer.step()
        if update is not None:
            update.step()
    return best, best_loss


def roughness(shape: Shape) -> Tensor:
    """Mean squared second difference of the template's field, millimetres²: small for smooth solids."""
    grid = shape.grid[0, 0]
    return sum(torch.diff(grid, n=2, dim=axis).square().mean() for axis in range(3))
