"""Convolutions that run as one call of oneDNN each: batch norm folded in, ReLU applied on the way out, weights kept in the type they run in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .half_precision import half_type


def fuse(network: nn.Module, device: torch.device) -> nn.Module:
    """Make a network faster that is to be trained no more; works in place, on every ``nn.Sequential`` of convolution, batch norm and ReLU.

    The batch norm goes into the convolution before it (exact in eval mode). On a CPU with oneDNN the convolution then takes the ReLU
    with it: a pass over memory that costs about as much as a narrow convolution itself.
    """
    for module in network.modules():
        if isinstance(module, nn.Sequential) and len(module) >= 2 and isinstance(module[1], nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
            if device.type == "cpu" and torch.backends.mkldnn.is_available() and _pointwise() is not None:
                relu = len(module) > 2 and isinstance(module[2], nn.ReLU)
                module[0] = FusedConvolution(module[0], relu=relu)
                if relu:
                    module[2] = nn.Identity()
    return network.to(memory_format=torch.channels_last)


class FusedConvolution(nn.Module):
    """A convolution with bias, and the ReLU that follows, on the CPU; runs in the half type of the CPU, if it has one."""

    def __init__(self, convolution: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        kind = half_type("cpu") or torch.float32
        self.register_buffer("weight", convolution.weight.detach().to(kind))
        self.register_buffer("bias", convolution.bias.detach().to(kind))
        self.geometry = convolution.padding, convolution.stride, convolution.dilation, convolution.groups
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W') of the weight's type."""
        return _pointwise()(x.to(self.weight.dtype), self.weight, self.bias, *self.geometry, "relu" if self.relu else "none", [], "")


def _pointwise() -> torch._ops.OpOverloadPacket | None:
    """oneDNN's convolution with an operation on each value after it, as torch's compiler calls it."""
    return getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
