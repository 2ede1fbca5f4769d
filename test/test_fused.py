"""Fused convolutions: the same answers as the network they were made of, in as many calls as there are convolutions."""

import pytest
import torch
from torch import nn

from instseg_ros.methods import fused
from instseg_ros.methods.clusternet.encoders import conv_bn
from instseg_ros.methods.clusternet.network import ClusterNet, ClusterNetConfig
from instseg_ros.methods.fused import FusedConvolution, fuse

CPU = torch.device("cpu")
TINY = dict(
    bottleneck=False, blocks=(1, 1, 1, 1), widths=(8, 8, 8, 8), stem=8, stem_kernel=3, vgg_convs=(1, 1, 1, 1), vgg_widths=(8, 8, 8, 8),
    context=8, fused=8, rates=(1, 2), decoder=(8, 8, 8, 8),
)  # fmt: skip


def in_full_precision(monkeypatch):
    monkeypatch.setattr(fused, "half_type", lambda device: None)


def trained(layer: nn.Module, *inputs) -> nn.Module:
    """The layer after some steps' worth of statistics, with biases and scales that are not those of the beginning."""
    with torch.no_grad():
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        layer.train()(*inputs)
    return layer.eval()


@pytest.mark.parametrize("geometry", [{}, {"stride": 2}, {"dilation": 2}, {"relu": False}, {"kernel": 1}, {"kernel": 7, "stride": 2}], ids=str)
def test_one_call_answers_as_three_layers_do(geometry, monkeypatch):
    in_full_precision(monkeypatch)
    torch.manual_seed(0)
    x = torch.randn(2, 5, 17, 22)
    layer = trained(conv_bn(5, 6, **{"kernel": 3, **geometry}), x)
    with torch.no_grad():
        before = layer(x)
        after = fuse(layer, CPU)(x)
    assert [type(part) for part in layer] == [FusedConvolution]
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    assert (before.min() < 0) == (geometry.get("relu") is False)


@pytest.mark.parametrize("missing", ["nothing", "oneDNN's operation", "a CPU"])
def test_a_network_answers_as_before(missing, monkeypatch):
    in_full_precision(monkeypatch)
    if missing == "oneDNN's operation":
        monkeypatch.setattr(fused, "_onednn", lambda: False)
    torch.manual_seed(0)
    images = {"rgb": torch.randn(2, 3, 64, 64), "xyz": torch.randn(2, 4, 64, 64), "depth": torch.randn(2, 3, 64, 64)}
    config = ClusterNetConfig(detail_skips=True, subpixel=True, mask_stride=2, refined=True, **TINY)
    network = trained(ClusterNet(config), images)
    windows = torch.randn(3, network.refiner.channels, 40, 40)
    with torch.no_grad():
        network.refiner.head.weight.normal_()
        before = [*network(images), network.refiner(windows)]
        fuse(network, torch.device("meta") if missing == "a CPU" else CPU)
        after = [*network(images), network.refiner(windows)]
    kinds = {type(module) for module in network.modules()}
    assert nn.BatchNorm2d not in kinds and (FusedConvolution in kinds) == (missing == "nothing")
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_half_precision_is_that_of_the_processor(monkeypatch):
    monkeypatch.setattr(fused, "half_type", lambda device: torch.bfloat16)
    torch.manual_seed(0)
    x = torch.randn(2, 5, 16, 16)
    layer = trained(conv_bn(5, 6, 3), x)
    with torch.no_grad():
        before = layer(x)
        after = fuse(layer, CPU)(x)
    assert after.dtype == torch.bfloat16
    torch.testing.assert_close(after.float(), before, atol=0.03, rtol=0.02)
