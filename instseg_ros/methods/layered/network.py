"""The network of Layered Embeddings (Liu et al., section 3 and figure 2), with L layers in place of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...errors import InputError
from ..clusternet.encoders import conv_bn
from ..clusternet.inputs import INPUT_CHANNELS, check_inputs
from ..yaml_values import lists_to_tuples
from .backbone import DeepLabFeatures, SmallResNet, Xception

STRIDE = 4
"""Pixels of the input a cell of the output."""


@dataclass(frozen=True, kw_only=True)
class LayeredConfig:
    """Everything that defines the network; stored as ``network`` in ``model.yaml``.

    Attributes:
        inputs: any non-empty subset of rgb, xyz, depth.
        classes: names of the classes, background left out.
        layers: L; the paper's foreground and occlusion are L = 2.
        embedding: C, channels of the embedding of a layer.
        backbone: xception (the paper's) or small.
        width, blocks: channels at H/4 and residual blocks at H/4, H/8, H/16 (small backbone).
        rates, context, skip, eighth, decoder: see ``DeepLabFeatures``.
        head: channels of a head's hidden 3×3 convolutions.
        joint_heads: one trunk of hidden convolutions for all outputs, in place of one for each (not in the paper; L times cheaper).
        position: units of embedding an image side; the cell's own position is added to the first two channels, so that an embedding
            may be an offset to where its instance is (Neven et al. 2019; not in the paper). 0 = off.
        position_side: pixels that ``position`` is the units of; 0 = the longer side of the image, whatever that is. Networks that
            learn from crops and see whole images need one length for both.
    """

    inputs: tuple[str, ...] = ("rgb",)
    classes: tuple[str, ...] = ("part",)
    layers: int = 2
    embedding: int = 6
    backbone: str = "xception"
    width: int = 48
    blocks: tuple[int, ...] = (1, 2, 2)
    rates: tuple[int, ...] = (6, 12, 18)
    context: int = 256
    skip: int = 48
    eighth: int = 0
    decoder: int = 256
    head: tuple[int, ...] = (256, 256, 128)
    joint_heads: bool = False
    position: float = 0.0
    position_side: int = 0

    def __post_init__(self) -> None:
        lists_to_tuples(self)
        check_inputs(self.inputs)
        if self.backbone not in ("xception", "small"):
            raise InputError(f"backbone must be xception or small, got {self.backbone!r}")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise InputError(f"classes must be one or more names, each once, got {list(self.classes)}")
        for name, low in (("layers", 1), ("embedding", 1), ("position", 0), ("position_side", 0)):
            if getattr(self, name) < low:
                raise InputError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.position and self.embedding < 2:
            raise InputError(f"position needs two channels of embedding, got embedding {self.embedding}: set position to 0")
        if len(self.blocks) != 3 or min(self.blocks) < 1:
            raise InputError(f"blocks must be three positive numbers, for H/4, H/8 and H/16, got {list(self.blocks)}")


class Prediction(NamedTuple):
    """Output at a quarter of the input's size.

    Attributes:
        semantic: (B, L, 1 + K, h, w) logits of background and the classes, a layer each.
        embedding: (B, L, C, h, w).
    """

    semantic: Tensor
    embedding: Tensor


class LayeredEmbeddings(nn.Module):
    """Features and 2 L heads: classes and embedding of the instance that is first, second, … from the front at each cell."""

    def __init__(self, config: LayeredConfig) -> None:
        super().__init__()
        self.config = c = config
        channels = sum(INPUT_CHANNELS[name] for name in c.inputs)
        published = c.backbone == "xception"
        encoder = Xception(channels) if published else SmallResNet(channels, c.width, c.blocks)
        self.features = DeepLabFeatures(
            encoder, rates=c.rates, context=c.context, skip=c.skip, eighth=c.eighth, decoder=c.decoder, separable=published
        )
        outputs = [1 + len(c.classes), c.embedding] * c.layers
        if c.joint_heads:
            outputs = [sum(outputs)]
        self.heads = nn.ModuleList(_head(c.decoder, c.head, count) for count in outputs)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for head in self.heads:
            nn.init.normal_(head[-1].weight, std=0.01)

    def forward(self, images: dict[str, Tensor]) -> Prediction:
        """Predict from ``images[name]`` (B, C, H, W), H and W multiples of 16."""
        c = self.config
        x = self.features(torch.cat([images[name] for name in c.inputs], 1))
        y = torch.cat([head(x) for head in self.heads], 1)
        y = y.view(y.shape[0], c.layers, 1 + len(c.classes) + c.embedding, *y.shape[2:])
        semantic, embedding = y.float().split([1 + len(c.classes), c.embedding], 2)
        if c.position:
            embedding = embedding + self._position(embedding)
        return Prediction(semantic, embedding)

    def _position(self, like: Tensor) -> Tensor:
        """(C, h, w): where each cell is, in units of embedding; one unit is the same length along rows and columns."""
        h, w = like.shape[-2:]
        unit = self.config.position / (self.config.position_side / STRIDE or max(h, w))
        position = torch.zeros(like.shape[2], h, w, device=like.device)
        position[0] = (torch.arange(w, device=like.device) - (w - 1) / 2) * unit
        position[1] = ((torch.arange(h, device=like.device) - (h - 1) / 2) * unit)[:, None]
        return position


def _head(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Hidden 3×3 convolutions and the last one, all 3×3 (paper-facts)."""
    widths = [inputs, *hidden]
    layers = [conv_bn(a, b, 3) for a, b in zip(widths, widths[1:])]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], outputs, 3, padding=1))
