"""The explicit template: a learned solid on a voxel grid, seen through the true camera.

The remedy for what InSeGAN leaves to two transposed convolutions: perspective and visibility. Rays of the working camera are
intersected with the zero level of a trilinear field, so depth is exact to a fraction of a voxel and differentiable in the
field and in the pose; opacity falls off softly around the outline, so that outlines pull as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLES = 20
"""Field values looked up along a ray before the crossing is interpolated."""


class Shape(nn.Module):
    """A solid inside the box |x| ≤ extent (metres, part frame): ``field`` > 0 inside, about a signed distance in metres.

    Args:
        grid: voxels along z, y, x.
        extent: (3,) half sides of the box along x, y, z, metres.
        softness: metres; opacity at a ray whose largest field value is v is sigmoid(v / softness).
    """

    def __init__(self, grid: tuple[int, int, int], extent: tuple[float, float, float] = (1.0, 1.0, 1.0), softness: float = 8e-4) -> None:
        super().__init__()
        self.register_buffer("extent", torch.tensor(extent, dtype=torch.float32))
        # Stored in millimetres: steps of Adam are of the order of its learning rate, whatever the unit.
        self.grid = nn.Parameter(torch.zeros(1, 1, *grid))
        self.softness = softness

    @classmethod
    def in_box(cls, resolution: int, extent: Tensor, softness: float = 8e-4) -> Shape:
        """An empty box of half sides ``extent`` (3,) metres with cubic voxels, ``resolution`` along the longest side."""
        sides = [max(round(resolution * e / float(extent.max())), 4) for e in extent.flip(0).tolist()]
        return cls((sides[0], sides[1], sides[2]), tuple(extent.tolist()), softness)

    @torch.no_grad()
    def set_ellipsoid(self, half_axes: Tensor) -> None:
        """Fill the field with an ellipsoid of half axes (3,) metres around the origin."""
        points = self.voxels()
        half_axes = half_axes.to(points)
        scaled = (points / half_axes).norm(dim=-1)
        self.grid.copy_(((1 - scaled) * half_axes.min() * 1e3).clamp(-8, 8)[None, None])

    def voxels(self) -> Tensor:
        """(Z, Y, X, 3) metres: where the values of the grid lie."""
        axes = [torch.linspace(-1, 1, n, device=self.grid.device) * e for n, e in zip(self.grid.shape[2:], self.extent.flip(0))]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        return torch.stack([x, y, z], -1)

    def field(self, points: Tensor) -> Tensor:
        """Points (M, 3) metres, part frame → (M,) metres, negative outside the box."""
        where = (points / self.extent)[None, None, None]
        inside = F.grid_sample(self.grid, where, align_corners=True, padding_mode="border")[0, 0, 0, 0] * 1e-3
        beyond = (where[0, 0, 0].abs() - 1).clamp_min(0) * self.extent
        return inside - beyond.sum(-1)

    def render(self, rotation: Tensor, translation: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
        """Every pose alone through a pinhole camera.

        Args:
            rotation: (M, 3, 3), part → camera. translation: (M, 3) metres, the part's origin in the camera frame.
            rays: (P, 3) directions with z = 1, one a pixel (``pixel_rays``).

        Returns:
            depth (M, P) metres along the optical axis, of the box's far end where the ray passes the solid; opacity (M, P)
            in [0, 1], 0 outside the box.
        """
        m, p = len(rotation), len(rays)
        with torch.no_grad():
            pose, pixel, near, far = self._hits(rotation, translation, rays)
        depth = translation[:, 2:].expand(m, p).reshape(-1)
        opacity = torch.zeros(m * p, device=rays.device)
        if not len(pose):
            return depth.view(m, p), opacity.view(m, p)
        direction = torch.einsum("rij,ri->rj", rotation[pose], rays[pixel])
        origin = torch.einsum("mij,mi->mj", rotation, -translation)[pose]

        def field_at(z: Tensor) -> Tensor:
            return self.field(origin + z[:, None] * direction)

        with torch.no_grad():
            z = near[:, None] + (far - near)[:, None] * torch.linspace(0, 1, SAMPLES, device=rays.device)
            start, step = origin / self.extent, direction / self.extent
            points = torch.addcmul(start[:, None], step[:, None], z[..., None])
            values = F.grid_sample(self.grid, points[None, None], align_corners=True)[0, 0, 0]
            entered = values > 0
            first = entered.float().argmax(1)
            best = values.argmax(1)
            hit = entered.any(1)
            # Before the crossing and behind it; a ray that misses is judged where it comes nearest.
            behind = torch.where(hit, first, best)
            before = (behind - 1).clamp_min(0)
            z0, z1 = z.gather(1, before[:, None])[:, 0], z.gather(1, behind[:, None])[:, 0]
            zb = z.gather(1, best[:, None])[:, 0]
        f0, f1, fb = field_at(z0), field_at(z1), field_at(zb)
        step = (-f0 / (f1 - f0).clamp_min(1e-6)).clamp(0, 1)
        crossing = torch.where(hit & (behind > before), z0 + step * (z1 - z0), z1)
        index = pose * p + pixel
        depth = depth.index_put((index,), crossing)
        opacity = opacity.index_put((index,), (fb / self.softness).sigmoid())
        return depth.view(m, p), opacity.view(m, p)

    def _hits(self, rotation: Tensor, translation: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rays that pass the box: pose (R,), pixel (R,) int64, depth of entry and exit (R,) metres."""
        direction = torch.einsum("mij,pi->mpj", rotation, rays)
        direction = torch.where(direction.abs() < 1e-9, torch.full_like(direction, 1e-9), direction)
        origin = torch.einsum("mij,mi->mj", rotation, -translation)[:, None]
        a, b = (-self.extent - origin) / direction, (self.extent - origin) / direction
        near, far = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
        pose, pixel = torch.nonzero(far > near.clamp_min(1e-3), as_tuple=True)
        return pose, pixel, near[pose, pixel].clamp_min(1e-3), far[pose, pixel]

    @torch.no_grad()
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Lowest and highest corner (3,) of the solid's bounding box, metres, part frame; None where there is no solid."""
        inside = self.voxels()[self.grid[0, 0] > 0]
        return (inside.amin(0), inside.amax(0)) if len(inside) else None

    @torch.no_grad()
    def cropped(self, margin: float = 0.2) -> tuple[Shape, Tensor]:
        """The same solid in a box that fits it: its bounding box, with ``margin`` of the mean side to grow on every side.

        Returns:
            the solid, and the middle of its box (3,) metres in the old part frame, which becomes the origin.
        """
        inside = self.voxels()[self.grid[0, 0] > 0]
        if len(inside) < 8:
            return self, torch.zeros_like(self.extent)
        low, high = inside.amin(0), inside.amax(0)
        middle, half = (low + high) / 2, (high - low) / 2
        extent = half + margin * half.mean()
        other = Shape.in_box(max(self.grid.shape), extent.cpu(), self.softness).to(self.grid.device)
        points = other.voxels() + middle
        other.grid.copy_(self.field(points.view(-1, 3)).view(other.grid.shape) * 1e3)
        return other, middle

    @torch.no_grad()
    def surface_points(self, count: int, seed: int = 0) -> Tensor:
        """(count, 3) metres, part frame: points near the surface, one in each of ``count`` random surface voxels."""
        values, points = self.grid[0, 0].flatten(), self.voxels().view(-1, 3)
        band = torch.nonzero((values.abs() < 1.5))[:, 0]
        if not len(band):
            band = values.topk(count).indices
        generator = torch.Generator().manual_seed(seed)
        chosen = band[torch.randint(len(band), (count,), generator=generator).to(band.device)]
        return points[chosen]


def pixel_rays(K: Tensor, height: int, width: int) -> Tensor:
    """(H·W, 3) directions with z = 1 through the pixel centres of a camera K (3, 3)."""
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    u, v = u.to(K).flatten(), v.to(K).flatten()
    return torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u)], -1)


def compose(depth: Tensor, opacity: Tensor, sharpness: float = 0.0) -> Tensor:
    """Visibility of each of n layers (…, n, P) in [0, 1] under the others: front-to-back blending, that is a z-buffer.

    Args:
        depth: metres. opacity: in [0, 1].
        sharpness: metres, over which one layer passes in front of another (soft); 0 = at once (hard).

    Returns:
        (…, n, P); the rest to 1 is the background's.
    """
    gap = depth.unsqueeze(-2) - depth.unsqueeze(-3)  # [i, j] = how far i lies behind j
    front = (gap / sharpness).sigmoid() if sharpness else (gap > 0).to(depth)
    covered = opacity.unsqueeze(-3) * front
    n = depth.shape[-2]
    covered = covered.masked_fill(torch.eye(n, dtype=torch.bool, device=depth.device)[..., None], 0.0)
    return opacity * (1 - covered).prod(-2)
