"""A second look at the outline of each cluster (not in the paper).

Votes decide pixel by pixel; at the border of two parts they are unsure, and of a part that is mostly hidden little else is left. The refiner
sees a cluster as a whole, in a window around it: its mask, how sure the votes are, and the depth (and colour) of its surroundings.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...clustering.gmm import GaussianMixture
from ...geometry import window_overlap
from ..fused import over
from .encoders import conv_bn, upsampled

WINDOW = 80
"""Side of a window, pixels; a multiple of 4. Refiners taught at 96, as the shipped ones, lose next to nothing and take a third less time."""
CHANNELS = 12
"""Of the refiner's inputs, colour aside."""
SURE = 6.0  # logits beyond ±SURE are clipped: what the votes are sure of can be overruled, too


class Evidence(NamedTuple):
    """What is known of every pixel of a view before its outlines are refined.

    Attributes:
        labels: (H, W) int64, 0 = background, 1…K.
        features: (H, W, D) m, object features. part: (H, W) logit of being a part.
        points: (H, W, 3) m, missing depth filled. valid: (H, W) bool. color: (H, W, 3) in [−1, 1], None for networks without it.
        centroid: (K, 3) m. mixture: K components.
    """

    labels: Tensor
    features: Tensor
    part: Tensor
    points: Tensor
    valid: Tensor
    color: Tensor | None
    centroid: Tensor
    mixture: GaussianMixture


def windows(labels: Tensor, count: int) -> Tensor:
    """Row and column of the first pixel of each cluster's window, (count, 2) int64; the median of its pixels is in the middle.

    Windows may reach beyond the image. A cluster without pixels gets one at the image's corner.
    """
    rows, columns = torch.nonzero(labels, as_tuple=True)
    owner = labels[rows, columns] - 1
    half = torch.bincount(owner, minlength=count)[:, None] // 2
    corner = []
    for place, extent in ((rows, labels.shape[0]), (columns, labels.shape[1])):
        passed = torch.bincount(owner * extent + place, minlength=count * extent).view(count, extent).cumsum(1) > half
        corner.append(passed.max(1).indices - WINDOW // 2)
    return torch.stack(corner, 1)


def cut(image: Tensor, corners: Tensor, *, fill: float = 0.0) -> Tensor:
    """Windows (K, WINDOW, WINDOW, …) of an image (H, W, …), ``fill`` beyond its border."""
    out = image.new_full((len(corners), WINDOW, WINDOW, *image.shape[2:]), fill)
    for window, (place, within) in zip(out, _shared(corners, image)):
        window[within] = image[place]
    return out


def refiner_inputs(evidence: Evidence, corners: Tensor) -> tuple[Tensor, Tensor]:
    """What the refiner sees of each of K clusters.

    Returns:
        inputs (K, CHANNELS or with colour CHANNELS + 3, WINDOW, WINDOW), and logits (K, WINDOW, WINDOW) of the pixels belonging to
        the cluster as the votes have it.
    """
    count = len(corners)
    labels = cut(evidence.labels, corners, fill=-1)
    features, points = cut(evidence.features, corners), cut(evidence.points, corners)
    posterior = features.new_empty(count, WINDOW, WINDOW)
    for k, window in enumerate(features):  # all at once would take memory with the square of the parts
        posterior[k] = evidence.mixture.log_likelihood(window.flatten(0, 1)).log_softmax(0)[k].view(WINDOW, WINDOW)
    part = cut(evidence.part, corners, fill=-SURE)
    chance = F.logsigmoid(part) + posterior
    logit = (chance - torch.log(-torch.expm1(chance.clamp_max(-1e-6)))).clamp(-SURE, SURE)
    own = labels == torch.arange(1, count + 1, device=labels.device)[:, None, None]
    seen = own.flatten(1).sum(1).clamp_min(1)
    depth = (points[..., 2] * own).flatten(1).sum(1) / seen
    offset = points - evidence.centroid[:, None, None]
    vote = (features[..., :3] - evidence.mixture.mean[:, None, None, :3]).norm(dim=3)
    planes = [
        logit / 5,
        posterior.clamp_min(-10) / 5,
        part.clamp(-10, 10) / 5,
        own,
        (labels > 0) & ~own,
        labels >= 0,
        cut(evidence.valid, corners),
        (vote / 0.02).clamp_max(5),
        ((points[..., 2] - depth[:, None, None]) / 0.01).clamp(-5, 5),
        *(offset / 0.05).clamp(-3, 3).unbind(3),
    ]
    if evidence.color is not None:
        planes += cut(evidence.color, corners).unbind(3)
    return torch.stack([plane.float() for plane in planes], 1), logit


class Refiner(nn.Module):
    """A small U-Net: windows of clusters → what to add to their logits.

    Untaught it adds nothing, and ``ready`` is 0. Its weights take no part in the training of the network.
    """

    def __init__(self, *, color: bool, width: int = 24) -> None:
        super().__init__()
        self.register_buffer("ready", torch.zeros(()))
        a, b, c = width, 2 * width, 3 * width
        self.channels = CHANNELS + 3 * color
        self.fine = nn.Sequential(conv_bn(self.channels, a, 3), conv_bn(a, a, 3))
        self.middle = nn.Sequential(conv_bn(a, b, 3, stride=2), conv_bn(b, b, 3))
        self.coarse = nn.Sequential(conv_bn(b, c, 3, stride=2), conv_bn(c, c, 3, dilation=2), conv_bn(c, c, 3, dilation=4))
        self.up_middle = conv_bn(b + c, b, 3)
        self.up_fine = conv_bn(a + b, a, 3)
        self.head = nn.Conv2d(a, 1, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """(K, C, WINDOW, WINDOW) → (K, WINDOW, WINDOW) float32."""
        fine = self.fine(inputs.contiguous(memory_format=torch.channels_last))
        middle = self.middle(fine)
        x = upsampled(self.coarse(middle), middle.shape[-2:])
        x = upsampled(over(self.up_middle, [middle, x]), fine.shape[-2:])
        return self.head(over(self.up_fine, [fine, x]))[:, 0].float()


def relabel(labels: Tensor, corners: Tensor, logits: Tensor) -> Tensor:
    """Labels (H, W) int64 after the windows' logits (K, WINDOW, WINDOW): each pixel goes to the surest cluster above 0.

    Outside the window of its own cluster a pixel keeps its label, unless another cluster claims it.
    """
    new, best = labels.clone(), torch.zeros_like(labels, dtype=logits.dtype)
    shared = _shared(corners, labels)
    for k, (place, _) in enumerate(shared, 1):  # what each cluster had within its window is free again
        new[place].masked_fill_(new[place] == k, 0)
    for k, (place, within) in enumerate(shared, 1):
        score, z = best[place], logits[k - 1][within]
        new[place].masked_fill_(z > score, k)
        torch.maximum(score, z, out=score)
    return new


def _shared(corners: Tensor, image: Tensor) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """What each window shares with the image, as of :func:`window_overlap`."""
    return [window_overlap(left, top, (WINDOW, WINDOW), image.shape[:2]) for top, left in corners.tolist()]
