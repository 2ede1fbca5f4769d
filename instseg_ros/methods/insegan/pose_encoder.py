"""The encoder of the explicit generator: depth image → poses, one candidate a cell, so that n need not be known.

It takes the place of E: where the paper's encoder returns n latents of a whole image, this one says in every cell of a coarse
grid whether a part's origin lies in it, where exactly, how deep and how it is turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .refine import Camera
from .rotations import from_six
from .search import tilt_towards

STRIDE = 4
"""Working pixels along a side of a cell."""


class PoseMap(NamedTuple):
    """Candidates of B images on a grid of (h, w) cells.

    Attributes:
        logit: (B, h, w) of a part's origin being in the cell.
        position: (B, h, w, 2) working pixels, x first. value: (B, h, w) depth of the origin in the image's values.
        rotation: (B, h, w, H, 3, 3) H hypotheses, as seen along the cell's own ray. weight: (B, h, w, H) logits of these.
    """

    logit: Tensor
    position: Tensor
    value: Tensor
    rotation: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Candidates:
    """The likeliest poses of one image: probability (C,), rotation (C, 3, 3) part → camera, translation (C, 3) metres."""

    probability: Tensor
    rotation: Tensor
    translation: Tensor


class PoseEncoder(nn.Module):
    """A small U-Net on the working image and its foreground.

    Args:
        width: channels after the stem; doubled twice. hypotheses: H, rotations a cell.
    """

    def __init__(self, width: int = 32, hypotheses: int = 2) -> None:
        super().__init__()
        w, self.hypotheses = width, hypotheses
        self.stem = nn.Sequential(_conv(2, w // 2), _conv(w // 2, w, 2), _conv(w, w), _conv(w, 2 * w, 2), _conv(2 * w, 2 * w))
        self.down1 = nn.Sequential(_conv(2 * w, 3 * w, 2), _conv(3 * w, 3 * w))
        self.down2 = nn.Sequential(_conv(3 * w, 4 * w, 2), _conv(4 * w, 4 * w))
        self.up1 = _conv(7 * w, 3 * w)
        self.up0 = nn.Sequential(_conv(5 * w, 3 * w), _conv(3 * w, 3 * w))
        self.head = nn.Conv2d(3 * w, 4 + 7 * hypotheses, 1)

    def forward(self, image: Tensor) -> PoseMap:
        """Working images (B, S, S) → candidates; S a multiple of 4."""
        x0 = self.stem(torch.stack([image, (image > -0.97).to(image)], 1))
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        x1 = self.up1(torch.cat([x1, F.interpolate(x2, x1.shape[2:], mode="bilinear", align_corners=False)], 1))
        x0 = self.up0(torch.cat([x0, F.interpolate(x1, x0.shape[2:], mode="bilinear", align_corners=False)], 1))
        out = self.head(x0).permute(0, 2, 3, 1)
        h, w = out.shape[1:3]
        v, u = torch.meshgrid(torch.arange(h, device=out.device), torch.arange(w, device=out.device), indexing="ij")
        centre = (torch.stack([u, v], -1) + 0.5) * STRIDE - 0.5
        turns = out[..., 4:].unflatten(-1, (self.hypotheses, 7))
        base = out.new_tensor([1.0, 0, 0, 0, 1, 0])
        return PoseMap(out[..., 0], centre + STRIDE * out[..., 1:3], out[..., 3], from_six(turns[..., :6] + 0.1 * base), turns[..., 6])


@torch.no_grad()
def candidates(found: PoseMap, index: int, camera: Camera, K: Tensor, *, count: int, least: float) -> Candidates:
    """The ``count`` likeliest cells of image ``index`` with a probability of at least ``least``, with all their hypotheses."""
    probability = found.logit[index].sigmoid().flatten()
    top = probability.topk(min(count, len(probability)))
    cell = top.indices[top.values >= least]
    ray = rays_through(found.position[index].flatten(0, 1)[cell], K)
    translation = ray * camera.depth(found.value[index].flatten()[cell])[:, None]
    turns = found.rotation[index].flatten(0, 1)[cell]
    hypotheses = turns.shape[1]
    rotation = (tilt_towards(ray)[:, None] @ turns).flatten(0, 1)
    return Candidates(probability[cell].repeat_interleave(hypotheses), rotation, translation.repeat_interleave(hypotheses, 0))


def rays_through(pixels: Tensor, K: Tensor) -> Tensor:
    """Working pixels (M, 2), x first → directions (M, 3) with z = 1."""
    return torch.stack([(pixels[:, 0] - K[0, 2]) / K[0, 0], (pixels[:, 1] - K[1, 2]) / K[1, 1], torch.ones_like(pixels[:, 0])], -1)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
