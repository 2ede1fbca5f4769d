"""Encoders of ClusterNet (Shao et al., section III-C): ResNet for RGB and XYZ, VGG for depth, ASPP for context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..fused import over, residual


def conv_bn(inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution ("same" padding), batch norm and, unless told otherwise, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Residual block of He et al. 2016: two 3×3 convolutions (basic), or 1×1, 3×3, 1×1 with fourfold output (bottleneck)."""

    def __init__(self, inputs: int, width: int, *, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = width * 4 if bottleneck else width
        if bottleneck:
            self.body = nn.Sequential(
                conv_bn(inputs, width, 1),
                conv_bn(width, width, 3, stride=stride),
                conv_bn(width, outputs, 1, relu=False),
            )
        else:
            self.body = nn.Sequential(
                conv_bn(inputs, width, 3, stride=stride), conv_bn(width, outputs, 3, relu=False)
            )
        self.skip = (
            nn.Identity() if stride == 1 and inputs == outputs else conv_bn(inputs, outputs, 1, stride=stride, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self.body
        y = x
        for layer in inner:
            y = layer(y)
        return residual(last, y, self.skip(x))


class ResNet(nn.Module):
    """ResNet encoder; ``blocks=(3, 4, 6, 3), widths=(64, 128, 256, 512), bottleneck=True`` is ResNet-50.

    Forward: (B, C, H, W) → stem (B, stem, H/2, W/2), C1 (B, ·, H/4, W/4), C4 (B, ·, H/32, W/32).
    """

    def __init__(self, channels: int, *, stem: int, stem_kernel: int, blocks: Sequence[int], widths: Sequence[int], bottleneck: bool) -> None:
        super().__init__()
        self.stem = conv_bn(channels, stem, stem_kernel, stride=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], stem
        for i, (count, width) in enumerate(zip(blocks, widths)):
            stage = []
            for j in range(count):
                stage.append(ResidualBlock(inputs, width, stride=2 if i > 0 and j == 0 else 1, bottleneck=bottleneck))
                inputs = width * 4 if bottleneck else width
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        expansion = 4 if bottleneck else 1
        self.stem_channels, self.c1_channels, self.c4_channels = stem, widths[0] * expansion, widths[3] * expansion

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stem = self.stem(x)
        c1 = self.layer1(self.pool(stem))
        return stem, c1, self.layer4(self.layer3(self.layer2(c1)))


class VGG(nn.Module):
    """First four blocks of a VGG with batch norm; ``convs=(2, 2, 3, 3), widths=(64, 128, 256, 512)`` are VGG16's.

    Forward: (B, C, H, W) → features at H/2, H/4 and H/8.
    """

    def __init__(self, channels: int, *, convs: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        blocks, inputs = [], channels
        for count, width in zip(convs, widths):
            block = [conv_bn(inputs if j == 0 else width, width, 3) for j in range(count)]
            blocks.append(nn.Sequential(*block))
            inputs = width
        self.block1, self.block2, self.block3, self.block4 = blocks
        self.out_channels = tuple(widths[1:])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = self.block2(max_pool(self.block1(x)))
        quarter = self.block3(max_pool(half))
        return half, quarter, self.block4(max_pool(quarter))


def max_pool(x: Tensor) -> Tensor:
    """``max_pool2d(x, 2)`` of (B, C, H, W), H and W even; that takes three times as long in 16 bits on a CPU."""
    x = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(x[..., ::2], x[..., 1::2])


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, to ``size`` (H, W)."""
    if x.shape[-2:] == tuple(size):
        return x
    x = x.contiguous() if x.shape[1] <= 2 else x  # few channels are resized plane by plane four times faster
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def upsampled(x: Tensor, size: Sequence[int]) -> Tensor:
    """Features for the next convolution: autocast interpolates in 32 bits, and all that is concatenated with them would follow."""
    return resize(x, size).to(x.dtype)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2018): 1×1, one 3×3 per rate and the image mean, fused by 1×1.

    Args:
        conv: (inputs, outputs, dilation=…) → the 3×3 convolution.
    """

    def __init__(self, inputs: int, outputs: int, rates: Sequence[int], conv: Callable[..., nn.Module] = partial(conv_bn, kernel=3)) -> None:
        super().__init__()
        self.local = conv_bn(inputs, outputs, 1)
        self.atrous = nn.ModuleList(conv(inputs, outputs, dilation=rate) for rate in rates)
        # No batch norm on the pooled branch: it is one pixel an image.
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1), nn.ReLU(inplace=True))
        self.fuse = conv_bn(outputs * (2 + len(rates)), outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(x).expand(-1, -1, *x.shape[-2:])
        return over(self.fuse, [self.local(x), *(branch(x) for branch in self.atrous), pooled])
