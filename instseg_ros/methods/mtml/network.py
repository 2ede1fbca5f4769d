"""The MTML network (Lahoud et al., section 3.1): SSCNet's dense 3-D convolutions with dilations, two outputs a voxel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError


@dataclass(frozen=True, kw_only=True)
class MTMLConfig:
    """Everything that defines the network; stored as ``network`` in ``model.yaml``. The defaults are the paper's.

    Attributes:
        channels: features of an input voxel, one-hot semantics in the paper.
        stem, stem_kernel, stem_stride: the first convolution.
        middle, width: channels before and after the max pooling.
        pool: stride of the max pooling, 1 = none.
        dilation: of the last four convolutions.
        up: channels of the transposed convolutions. head: channels of the two layers before the outputs.
        embedding: dimensions of the feature embedding.
        detail: also feed the input and the stem of each voxel to the head (not in the paper; sharper borders).
        crop: look only at the box around the voxels that are asked for; what lies outside is empty, but costs time all the same. A
            network is used as it was trained: the border of the grid is something that it sees.
        part: a third output, whether the voxel belongs to an instance at all (not in the paper, where the semantics tell).
        position: units of embedding a voxel; the voxel's own place is added to the first three channels, so that an embedding may be
            an offset to where its instance is (Neven et al. 2019; not in the paper). 0 = off.
    """

    channels: int = 5
    stem: int = 8
    stem_kernel: int = 7
    stem_stride: int = 2
    middle: int = 16
    width: int = 32
    pool: int = 2
    dilation: int = 5
    up: int = 64
    head: int = 64
    embedding: int = 4
    detail: bool = False
    crop: bool = False
    part: bool = False
    position: float = 0.0

    def __post_init__(self) -> None:
        for name in ("stem_stride", "pool"):
            if getattr(self, name) not in (1, 2):
                raise InputError(f"{name} must be 1 or 2, got {getattr(self, name)}")
        if self.stem_kernel % 2 == 0 or self.stem_kernel < 1:
            raise InputError(f"stem_kernel must be odd, got {self.stem_kernel}")
        for name in ("channels", "stem", "middle", "width", "dilation", "up", "head", "embedding"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.position < 0:
            raise InputError(f"position must not be negative, got {self.position}")
        if self.position and self.embedding < 3:
            raise InputError(f"position needs three channels of embedding, got embedding {self.embedding}: set position to 0")

    @property
    def stride(self) -> int:
        """Input voxels to a cell of the coarsest grid; grids are padded to its multiples."""
        return self.stem_stride * self.pool


class Prediction(NamedTuple):
    """Output of N voxels.

    Attributes:
        embedding: (N, E) x, close together within an instance.
        direction: (N, 3) v, unit vector along the grid's axes towards the centre of the instance.
        part: (N,) logit of belonging to an instance, None where the network does not say.
    """

    embedding: Tensor
    direction: Tensor
    part: Tensor | None = None

    def select(self, rows: Tensor) -> Prediction:
        """Those of some voxels: a mask (N,) or row numbers."""
        return Prediction(*(None if x is None else x[rows] for x in self))


class MTML(nn.Module):
    """Dense at the coarse resolutions; the two heads look only at the voxels that are asked for, which are few."""

    def __init__(self, config: MTMLConfig) -> None:
        super().__init__()
        self.config = c = config
        self.stem = nn.Conv3d(c.channels, c.stem, c.stem_kernel, c.stem_stride, c.stem_kernel // 2)
        self.fine = Residual(c.stem, c.middle)
        self.stages = nn.ModuleList(
            [Residual(c.middle, c.width), Residual(c.width, c.width)]
            + [Residual(c.width, c.width, dilation=c.dilation) for _ in range(2)]
        )
        factors = [2] * ((c.stem_stride == 2) + (c.pool == 2))
        widths = [len(self.stages) * c.width, *[c.up] * len(factors)]
        self.ups = nn.ModuleList(nn.ConvTranspose3d(a, b, 4, 2, 1) for a, b in zip(widths, widths[1:]))
        detail = c.channels + (c.stem if c.stem_stride == 1 else 0) if c.detail else 0
        self.head = nn.Sequential(
            nn.Linear(widths[-1] + detail, c.head), nn.ReLU(inplace=True), nn.Linear(c.head, c.head), nn.ReLU(inplace=True),
            nn.Linear(c.head, c.embedding + 3 + c.part),
        )  # fmt: skip
        for module in self.modules():  # without normalisation the scale must be right from the start
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last_3d)  # half the time of a step on a CPU

    def forward(self, grid: Tensor, voxels: Tensor) -> Prediction:
        """Embedding and direction of some voxels.

        Args:
            grid: (B, C, X, Y, Z), of any size.
            voxels: (N, 4) int64, batch index and x, y, z of the voxels that matter.
        """
        if self.config.crop and len(voxels):
            low, high = voxels[:, 1:].amin(0), voxels[:, 1:].amax(0) + 1
            (a, b, c), (i, j, k) = low.tolist(), high.tolist()
            grid, voxels = grid[:, :, a:i, b:j, c:k], torch.cat([voxels[:, :1], voxels[:, 1:] - low], 1)
        size = grid.shape[2:]
        padding = [p for length in reversed(size) for p in (0, -length % self.config.stride)]
        padded = (F.pad(grid, padding) if any(padding) else grid).contiguous(memory_format=torch.channels_last_3d)
        stem = F.relu(self.stem(padded))
        x = self.fine(stem)
        if self.config.pool > 1:
            x = F.max_pool3d(x, self.config.pool)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        x = torch.cat(stages, 1)
        for up in self.ups[:-1]:
            x = F.relu(up(x))
        rows = [F.relu(upsample_at(self.ups[-1], x, voxels)) if len(self.ups) else _gather(x, voxels)]
        if self.config.detail:
            rows.append(_gather(padded, voxels).to(rows[0].dtype))
            if self.config.stem_stride == 1:
                rows.append(_gather(stem, voxels))
        c = self.config
        embedding, direction, part = self.head(torch.cat(rows, 1)).split([c.embedding, 3, int(c.part)], 1)
        if c.position:
            place = (voxels[:, 1:].float() - 0.5 * torch.tensor(size, device=voxels.device)) * c.position
            embedding = embedding.float() + F.pad(place, (0, c.embedding - 3))
        return Prediction(embedding, F.normalize(direction.float(), dim=1, eps=1e-6), part[:, 0] if c.part else None)


class Residual(nn.Module):
    """Two 3³ convolutions beside the identity, or beside a 1³ convolution where the width changes."""

    def __init__(self, inputs: int, width: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, width, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv3d(width, width, 3, padding=dilation, dilation=dilation)
        self.skip = nn.Conv3d(inputs, width, 1) if inputs != width else None

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.skip is None else self.skip(x)
        return F.relu(self.second(F.relu(self.first(x))) + skip)


def receptive_field(config: MTMLConfig) -> int:
    """Input voxels along an axis that can reach one output voxel; the paper asks that it covers the scene (section 3.1)."""
    reach, jump = config.stem_kernel, config.stem_stride
    reach += 2 * 2 * jump  # each residual block: two kernels of 3
    reach += (config.pool - 1) * jump
    jump *= config.pool
    for dilation in (1, 1, config.dilation, config.dilation):
        reach += 2 * 2 * dilation * jump
    # A transposed convolution looks at two neighbouring cells, two in a row at up to three.
    reach += ((config.stem_stride == 2) + (config.pool == 2)) * jump
    return reach


_TAPS = torch.tensor([[(0, 1), (-1, 3)], [(1, 0), (0, 2)]])
"""Kernel 4, stride 2, padding 1: an even and an odd output each hear two inputs; (input − output // 2, index in the kernel) of both."""


def upsample_at(up: nn.ConvTranspose3d, x: Tensor, voxels: Tensor) -> Tensor:
    """``up(x)``, kernel 4, stride 2, padding 1, at some output voxels only: few are occupied, and the dense answer is the largest of all.

    Args:
        x: (B, C, X, Y, Z). voxels: (N, 4) int64, batch index and indices into the output.

    Returns:
        (N, D).
    """
    corner = torch.cartesian_prod(*[torch.arange(2)] * 3)  # (8, 3): which of the two inputs along each axis
    parity = corner[:, None]  # (8, 1, 3): outputs with the same parities share their weights
    offset, kernel = _TAPS[parity, corner[None]].to(x.device).unbind(-1)  # (8, 8, 3) each
    _, _, nx, ny, nz = x.shape
    step = torch.tensor([(ny + 2) * (nz + 2), nz + 2, 1], device=x.device)
    kind = (voxels[:, 1:] % 2 * torch.tensor([4, 2, 1], device=x.device)).sum(1)
    order = torch.argsort(kind, stable=True)
    first = voxels[:, 0] * ((nx + 2) * step[0]) + ((voxels[:, 1:] // 2 + 1) * step).sum(1)
    near = (first[:, None] + (offset * step).sum(-1)[kind])[order]
    cells = F.pad(x, (1,) * 6).permute(0, 2, 3, 4, 1).flatten(0, 3)
    weight = up.weight.permute(2, 3, 4, 1, 0)[kernel.unbind(-1)]  # (8, 8, D, C)
    weight = weight.transpose(1, 2).flatten(2)
    rows = cells[near].flatten(1).split(torch.bincount(kind, minlength=8).tolist())
    return torch.cat([F.linear(row, w, up.bias) for row, w in zip(rows, weight)])[torch.argsort(order)]


def _gather(x: Tensor, voxels: Tensor) -> Tensor:
    """(B, C, X, Y, Z) at (N, 4) → (N, C)."""
    b, i, j, k = voxels.unbind(1)
    return x[b, :, i, j, k]
