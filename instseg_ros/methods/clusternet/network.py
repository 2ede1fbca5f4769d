"""The ClusterNet network (Shao et al., section III-C and figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ..fused import over
from ..yaml_values import lists_to_tuples
from .encoders import ASPP, VGG, ResNet, conv_bn, resize, upsampled
from .inputs import INPUT_CHANNELS, check_inputs
from .refinement import Refiner
from .scoring import Scorer


@dataclass(frozen=True, kw_only=True)
class ClusterNetConfig:
    """Everything that defines the network; stored as ``network`` in ``model.yaml``.

    Attributes:
        inputs: any non-empty subset of rgb, xyz, depth (the paper's ablation: rgb, rgb+depth, rgb+xyz, all).
        bottleneck, blocks, widths, stem, stem_kernel: the ResNet of the RGB and the XYZ branch.
        vgg_convs, vgg_widths: the VGG of the depth branch.
        context: channels of C4f and Df. fused: channels of C1f. rates: ASPP dilation rates.
        decoder: channels of the upconvolutions at H/8, H/4, H/2, H.
        detail_skips: also feed encoder features at H/4 and H/2, and the inputs at H, to the decoder (not in the paper; sharper
            borders).
        feature_stride, mask_stride: resolution that heads are decoded at before bilinear upsampling; the paper's are 1 and 4.
        subpixel: decode H from H/2 by sub-pixel convolution (Shi et al. 2016) in place of the last upconvolution: the same
            reach at a third of the cost (not in the paper).
        moments: predict the second moments beside the centroid (paper's c+cov), else the centroid alone (c).
        metres: size of one output unit of centroid votes, moments and radius.
        refined: outlines of clusters are refined by a second, small network (``refinement.py``; not in the paper).
        scored: the score of a cluster is learned from those of the training images (``scoring.py``; not in the paper).
    """

    inputs: tuple[str, ...] = ("rgb", "xyz", "depth")
    bottleneck: bool = True
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64
    stem_kernel: int = 7
    vgg_convs: tuple[int, ...] = (2, 2, 3, 3)
    vgg_widths: tuple[int, ...] = (64, 128, 256, 512)
    context: int = 256
    fused: int = 256
    rates: tuple[int, ...] = (6, 12, 18)
    decoder: tuple[int, ...] = (256, 128, 64, 32)
    detail_skips: bool = False
    feature_stride: int = 1
    mask_stride: int = 4
    subpixel: bool = False
    moments: bool = True
    metres: float = 0.05
    refined: bool = False
    scored: bool = False

    def __post_init__(self) -> None:
        lists_to_tuples(self)
        check_inputs(self.inputs)
        for name in ("feature_stride", "mask_stride"):
            if getattr(self, name) not in (1, 2, 4):
                raise InputError(f"{name} must be 1, 2 or 4, got {getattr(self, name)}")


class Prediction(NamedTuple):
    """Per-pixel output at the input's resolution, or at ``feature_stride`` when not upsampled.

    Attributes:
        votes: (B, 3, h, w) metres, from the pixel's own point to the part's centroid.
        moments: (B, 6, h, w) metres, entries xx yy zz xy yz zx of S with S S = covariance; None without moments.
        mask: (B, 2, h, w) logits background / part.
        center: (B, 2, h, w) logits of the centroid probability η.
        radius: (B, 1, h, w) metres, sphere radius B.
    """

    votes: Tensor
    moments: Tensor | None
    mask: Tensor
    center: Tensor
    radius: Tensor


class ClusterNet(nn.Module):
    """Three encoders, one decoder, four heads: object features ξ, centroid probability η, mask, radius B.

    The paper's feature ξ (Eq. 1) adds centroid (m) and moments (m²); here the moments keep channels of their own as the
    symmetric square root of the covariance, in metres like the centroid, so that distances in feature space have a unit.
    """

    def __init__(self, config: ClusterNetConfig) -> None:
        super().__init__()
        self.config = c = config
        self.resnets = nn.ModuleDict(
            {
                name: ResNet(
                    INPUT_CHANNELS[name],
                    stem=c.stem,
                    stem_kernel=c.stem_kernel,
                    blocks=c.blocks,
                    widths=c.widths,
                    bottleneck=c.bottleneck,
                )
                for name in ("rgb", "xyz")
                if name in c.inputs
            }
        )
        half, quarter, encoded = 0, 0, 0  # channels at H/2, H/4 and of Ef
        if self.resnets:
            resnets = list(self.resnets.values())
            stem, c1, c4 = (sum(getattr(r, f"{n}_channels") for r in resnets) for n in ("stem", "c1", "c4"))
            self.fuse_c1 = conv_bn(c1, c.fused, 3, stride=2)  # C1f at H/8
            self.aspp_c4 = ASPP(c4, c.context, c.rates)  # C4f
            half, quarter, encoded = stem, c1, c.fused + c.context
        if "depth" in c.inputs:
            self.vgg = VGG(INPUT_CHANNELS["depth"], convs=c.vgg_convs, widths=c.vgg_widths)
            self.aspp_depth = ASPP(self.vgg.out_channels[2], c.context, c.rates)  # Df
            half, quarter = half + self.vgg.out_channels[0], quarter + self.vgg.out_channels[1]
            encoded += c.context
        d8, d4, d2, d1 = c.decoder
        skips = (quarter, half) if c.detail_skips else (0, 0)
        self.squeeze4 = conv_bn(skips[0], d4, 1) if skips[0] else None
        self.squeeze2 = conv_bn(skips[1], d2, 1) if skips[1] else None
        self.decode8 = conv_bn(encoded, d8, 3)
        self.decode4 = conv_bn(d8 + (d4 if skips[0] else 0), d4, 3)
        finest = min(c.feature_stride, c.mask_stride)
        self.decode2 = conv_bn(d4 + (d2 if skips[1] else 0), d2, 3) if finest <= 2 else None
        self.squeeze1 = self.decode1 = None
        if finest <= 1:
            raw = sum(INPUT_CHANNELS[name] for name in c.inputs) if c.detail_skips else 0
            if c.subpixel:  # the inputs come folded to H/2, four pixels to a cell, and the heads are unfolded again
                self.decode1 = conv_bn(d2 + 4 * raw, d1, 3)
            else:
                self.squeeze1 = conv_bn(raw, d1, 3) if raw else None
                self.decode1 = conv_bn(d2 + (d1 if raw else 0), d1, 3)
        width = {4: d4, 2: d2, 1: d1}
        cells = {4: 1, 2: 1, 1: 4 if c.subpixel else 1}
        self.feature_head = nn.Conv2d(width[c.feature_stride], (9 if c.moments else 3) * cells[c.feature_stride], 1)
        self.mask_head = nn.Conv2d(width[c.mask_stride], 2 * cells[c.mask_stride], 1)
        self.center_head = nn.Conv2d(width[c.mask_stride], 2 * cells[c.mask_stride], 1)
        self.radius_head = nn.Sequential(conv_bn(c.context, d4, 3), nn.Conv2d(d4, 1, 1))
        self._initialise()
        self.refiner = Refiner(color="rgb" in c.inputs) if c.refined else None
        self.scorer = Scorer() if c.scored else None

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for head in (self.feature_head, self.mask_head, self.center_head, self.radius_head[-1]):
            nn.init.normal_(head.weight, std=0.01)
        nn.init.constant_(self.radius_head[-1].bias, -1.0)  # softplus(−1) ≈ 0.3: spheres of a third of a unit to begin with

    def forward(self, images: dict[str, Tensor], *, upsample: bool = True) -> Prediction:
        """Predict from ``images[name]`` (B, C, H, W), H and W multiples of 32.

        Args:
            upsample: bring every head to (H, W), as in training; otherwise all heads come at ``feature_stride``.
        """
        c = self.config
        size = next(iter(images.values())).shape[-2:]
        stride = 1 if upsample else c.feature_stride
        target = (size[0] // stride, size[1] // stride)
        at8: list[Tensor] = []
        at4: list[Tensor] = []
        at2: list[Tensor] = []
        context = None
        if self.resnets:
            stems, c1s, c4s = zip(*(net(images[name]) for name, net in self.resnets.items()))
            c1f = over(self.fuse_c1, c1s)
            context = upsampled(self.aspp_c4(torch.cat(c4s, 1)), c1f.shape[-2:])
            at8, at4, at2 = [c1f, context], list(c1s), list(stems)
        if "depth" in c.inputs:
            half, quarter, eighth = self.vgg(images["depth"])
            df = self.aspp_depth(eighth)
            at8, at4, at2 = [*at8, df], [*at4, quarter], [*at2, half]
            context = df if context is None else context
        x = over(self.decode8, at8)
        x4 = upsampled(x, (size[0] // 4, size[1] // 4))
        x4 = over(self.decode4, [x4] if self.squeeze4 is None else [x4, over(self.squeeze4, at4)])
        decoded = {4: x4}
        if self.decode2 is not None:
            x2 = upsampled(x4, (size[0] // 2, size[1] // 2))
            decoded[2] = over(self.decode2, [x2] if self.squeeze2 is None else [x2, over(self.squeeze2, at2)])
        if self.decode1 is not None:
            decoded[1] = self._decode_inputs(decoded[2], [images[name] for name in c.inputs], size)
        features = resize(self._unfold(self.feature_head(decoded[c.feature_stride]), c.feature_stride), target) * c.metres
        radius = F.softplus(resize(self.radius_head(context), target)) * c.metres
        return Prediction(
            votes=features[:, :3],
            moments=features[:, 3:] if c.moments else None,
            mask=resize(self._unfold(self.mask_head(decoded[c.mask_stride]), c.mask_stride), target),
            center=resize(self._unfold(self.center_head(decoded[c.mask_stride]), c.mask_stride), target),
            radius=radius,
        )

    def _decode_inputs(self, x2: Tensor, inputs: list[Tensor], size: Sequence[int]) -> Tensor:
        """Features at full resolution: (B, d1, H, W), or (B, d1, H/2, W/2) of folded pixels with ``subpixel``."""
        if self.config.subpixel:
            folded = [_fold(x.to(x2.dtype)) for x in inputs]
            return over(self.decode1, [x2, torch.cat(folded, 1)] if self.config.detail_skips else [x2])
        x1 = upsampled(x2, size)
        return over(self.decode1, [x1] if self.squeeze1 is None else [x1, over(self.squeeze1, inputs)])

    def _unfold(self, head: Tensor, stride: int) -> Tensor:
        return F.pixel_shuffle(head, 2) if stride == 1 and self.config.subpixel else head


def add_inputs(network: ClusterNet, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model with fewer inputs for ``network``, whose additional ones come first in ``INPUT_CHANNELS``' order.

    A convolution over concatenated branches gets weight 0 on the channels that are new, so ``network`` begins with the answers of
    the model. Tensors that fit, and those that do not fit at all, are returned as they are.
    """
    own, widened = network.state_dict(), {}
    for name, value in weights.items():
        wanted = own[name].shape if name in own else value.shape
        if value.ndim == 4 and wanted[1] > value.shape[1] and (wanted[0], *wanted[2:]) == (value.shape[0], *value.shape[2:]):
            before = network.config.decoder[2] if name.startswith("decode1.") else 0  # its inputs follow the coarser level
            new = value.new_zeros(len(value), wanted[1] - value.shape[1], *value.shape[2:])
            value = torch.cat([value[:, :before], new, value[:, before:]], 1)
        widened[name] = value
    return widened


def _fold(x: Tensor) -> Tensor:
    """``pixel_unshuffle(x, 2)`` as a convolution with a kernel of ones and zeros: exact, several times faster, and channels-last stays."""
    channels = 4 * x.shape[1]
    kernel = torch.eye(channels, dtype=x.dtype, device=x.device).view(channels, -1, 2, 2)
    return F.conv2d(x, kernel.contiguous(memory_format=torch.channels_last), stride=2)
