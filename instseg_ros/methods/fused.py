"""Convolutions that run as one call of oneDNN each: batch norm folded in; sums, ReLU and the maps of a concatenation taken along.

Between a network's narrow convolutions, passes over memory cost a CPU as much as the convolutions themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .half_precision import half_type


def fuse(network: nn.Module, device: torch.device) -> nn.Module:
    """Make a network faster that is to be trained no more; works in place, on every ``nn.Sequential`` of convolution, batch norm and ReLU.

    The batch norm goes into the convolution before it (exact in eval mode). On a CPU with oneDNN the convolution becomes a
    :class:`FusedConvolution`.
    """
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if _is_convolution(module):
            folded = fuse_conv_bn_eval(module[0], module[1])
            if device.type == "cpu" and _onednn():
                module[0] = FusedConvolution(folded, relu=len(module) == 3)
                del module[1:]
            else:
                module[0] = folded
                del module[1]
    return network


def over(layer: nn.Sequential, maps: Sequence[Tensor]) -> Tensor:
    """``layer``, which begins with a convolution, over the concatenation of ``maps`` (B, ·, H, W)."""
    if isinstance(layer[0], FusedConvolution):
        return layer[0](*maps)
    return layer(maps[0] if len(maps) == 1 else torch.cat(list(maps), 1))


def residual(layer: nn.Sequential, x: Tensor, skip: Tensor) -> Tensor:
    """ReLU of ``layer(x) + skip``; ``layer`` is a convolution and its batch norm."""
    if isinstance(layer[0], FusedConvolution):
        return layer[0](x, skip=skip)
    return F.relu(layer(x) + skip, inplace=True)


class FusedConvolution(nn.Module):
    """A convolution with bias, and the ReLU that follows, on the CPU; runs in the half type of the CPU, if it has one."""

    def __init__(self, convolution: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        c, self.type = convolution, half_type("cpu") or torch.float32
        self.relu, self.bias = relu, c.bias.detach().to(self.type)
        self.geometry = c.padding, c.stride, c.dilation, c.groups
        self.weight = c.weight.detach().to(self.type)
        self._packed: dict[tuple[int, ...], list[Tensor]] = {}

    def forward(self, *maps: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, C, H, W) → (B, C', H', W') of :attr:`type`.

        Args:
            maps: one or more, of C channels in all, each taken as if it were concatenated with the others.
            skip: (B, C', H', W'), added; ReLU follows then.
        """
        relu = self.relu or skip is not None
        weights = self._weights(tuple(x.shape[1] for x in maps))
        out = skip
        for i, (x, weight) in enumerate(zip(maps, weights), 1):
            x, bias = x.to(self.type), self.bias if i == 1 else None
            after = "relu" if relu and i == len(maps) else None
            if out is None:
                out = torch.ops.mkldnn._convolution_pointwise.default(x, weight, bias, *self.geometry, after or "none", [], "")
            elif out is skip:
                out = torch.ops.mkldnn._convolution_pointwise.binary(
                    x, skip.to(self.type), weight, bias, *self.geometry, "add", 1.0, after, [], ""
                )
            else:
                torch.ops.mkldnn._convolution_pointwise_.binary(out, x, weight, bias, *self.geometry, "add", 1.0, after, [], "")
        return out

    def _weights(self, channels: tuple[int, ...]) -> list[Tensor]:
        """The weights for each of the maps, as oneDNN wants them."""
        if channels not in self._packed:
            parts = [self.weight] if len(channels) == 1 else self.weight.split(channels, 1)
            pack = torch.ops.mkldnn._reorder_convolution_weight
            self._packed[channels] = [pack(w.contiguous(memory_format=torch.channels_last), *self.geometry, None) for w in parts]
        return self._packed[channels]


def _is_convolution(module: nn.Module) -> bool:
    """Whether a module is a convolution, its batch norm and perhaps a ReLU."""
    kinds = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    return isinstance(module, nn.Sequential) and len(module) >= 2 and [type(layer) for layer in module] == kinds[: len(module)]


@cache
def _onednn() -> bool:
    """Whether this torch makes the calls to oneDNN that its compiler would make: found by a trial, builds for some processors have not all."""
    x = torch.ones(1, 1, 3, 3)
    try:
        FusedConvolution(nn.Conv2d(2, 1, 1), relu=True)(x, x)
        FusedConvolution(nn.Conv2d(1, 1, 1), relu=True)(x, skip=x)
    except (AttributeError, RuntimeError):
        return False
    return True
