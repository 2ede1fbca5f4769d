"""Features of Layered Embeddings (Liu et al., section 4): DeepLabv3+ at a quarter of the input's size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..clusternet.encoders import ASPP, ResidualBlock, conv_bn, upsampled


class SeparableConv(nn.Sequential):
    """Depthwise 3×3, then pointwise convolution, batch norm after each (Chollet 2017, as DeepLabv3+ uses it)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1, relu: bool = True) -> None:
        depthwise = nn.Conv2d(inputs, inputs, 3, stride, dilation, dilation, groups=inputs, bias=False)
        # Pairs of convolution and batch norm stand in Sequentials of their own, so that both can be folded.
        super().__init__(nn.Sequential(depthwise, nn.BatchNorm2d(inputs)), conv_bn(inputs, outputs, 1, relu=relu))


class XceptionBlock(nn.Module):
    """Three separable convolutions and a shortcut; the stride is the last one's (modified Xception, Chen et al. 2018)."""

    def __init__(self, inputs: int, widths: Sequence[int], *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        a, b, c = widths
        self.body = nn.Sequential(
            nn.ReLU(),
            SeparableConv(inputs, a, dilation=dilation),
            SeparableConv(a, b, dilation=dilation),
            SeparableConv(b, c, stride=stride, dilation=dilation, relu=False),
        )
        self.skip = nn.Identity() if stride == 1 and inputs == c else conv_bn(inputs, c, 1, stride=stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


class Xception(nn.Module):
    """Xception-65 with output stride 16, as DeepLabv3+ modifies it.

    Forward: (B, C, H, W) → (B, 256, H/4, W/4), (B, 728, H/8, W/8), (B, 2048, H/16, W/16).
    """

    def __init__(self, channels: int, middle: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(channels, 32, 3, stride=2), conv_bn(32, 64, 3))
        self.entry4 = XceptionBlock(64, (128, 128, 128), stride=2)
        self.entry8 = nn.Sequential(XceptionBlock(128, (256, 256, 256)), XceptionBlock(256, (728, 728, 728), stride=2))
        self.entry16 = XceptionBlock(728, (728, 728, 728), stride=2)
        self.middle = nn.Sequential(*(XceptionBlock(728, (728, 728, 728)) for _ in range(middle)))
        self.exit = nn.Sequential(
            XceptionBlock(728, (728, 1024, 1024)),
            nn.ReLU(),
            SeparableConv(1024, 1536, dilation=2),
            SeparableConv(1536, 1536, dilation=2),
            SeparableConv(1536, 2048, dilation=2),
        )
        self.out_channels = (128, 728, 2048)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quarter = self.entry4(self.stem(x))
        eighth = self.entry8(quarter)
        return F.relu(quarter), F.relu(eighth), self.exit(self.middle(self.entry16(eighth)))


class SmallResNet(nn.Module):
    """Residual encoder for CPUs: ``width`` channels at H/4, twice and four times as many at H/8 and H/16.

    Forward: as :class:`Xception`.
    """

    def __init__(self, channels: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(channels, width // 2, 3, stride=2), conv_bn(width // 2, width, 3, stride=2))
        stages, inputs = [], width
        for i, count in enumerate(blocks):
            outputs = width << i
            strides = [2 if i else 1] + [1] * (count - 1)
            stage = [ResidualBlock(inputs if j == 0 else outputs, outputs, stride=s, bottleneck=False) for j, s in enumerate(strides)]
            stages.append(nn.Sequential(*stage))
            inputs = outputs
        self.stages = nn.ModuleList(stages)
        self.out_channels = (width, 2 * width, 4 * width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quarter = self.stages[0](self.stem(x))
        eighth = self.stages[1](quarter)
        return quarter, eighth, self.stages[2](eighth)


class DeepLabFeatures(nn.Module):
    """Encoder, ASPP and DeepLabv3+'s decoder, cut before its logits.

    Args:
        encoder: gives features at H/4, H/8, H/16, and ``out_channels`` of each.
        rates: ASPP dilations. context: channels of the ASPP. skip: channels that the features of the encoder are squeezed to.
        eighth: channels of a decoder step at H/8, 0 = none, as in DeepLabv3+.
        decoder: channels of the output (256 in the paper).
        separable: depthwise separable 3×3 convolutions, as in DeepLabv3+; dense ones cost narrow networks little.
    """

    def __init__(
        self, encoder: nn.Module, *, rates: Sequence[int], context: int, skip: int, eighth: int, decoder: int, separable: bool
    ) -> None:
        super().__init__()
        conv = SeparableConv if separable else partial(conv_bn, kernel=3)
        c4, c8, c16 = encoder.out_channels
        self.encoder = encoder
        self.aspp = ASPP(c16, context, rates, conv)
        self.squeeze8 = conv_bn(c8, skip, 1) if eighth else None
        self.decode8 = conv(context + skip, eighth) if eighth else None
        self.squeeze4 = conv_bn(c4, skip, 1)
        self.decode4 = nn.Sequential(conv((eighth or context) + skip, decoder), conv(decoder, decoder))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), H and W multiples of 16 → (B, decoder, H/4, W/4)."""
        quarter, eighth, sixteenth = self.encoder(x)
        context = self.aspp(sixteenth)
        if self.decode8 is not None:
            context = self.decode8(torch.cat([upsampled(context, eighth.shape[-2:]), self.squeeze8(eighth)], 1))
        return self.decode4(torch.cat([upsampled(context, quarter.shape[-2:]), self.squeeze4(quarter)], 1))
