"""Fused convolutions: the same answers as the network they were made of, in as many calls as there are convolutions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from instseg_ros.methods import fused
from instseg_ros.methods.clusternet.encoders import conv_bn
from instseg_ros.methods.clusternet.network import ClusterNet, ClusterNetConfig
from instseg_ros.methods.fused import FusedConvolution, fuse, over, residual

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


def test_a_convolution_of_each_channel_by_itself_is_fused_too(monkeypatch):
    in_full_precision(monkeypatch)
    torch.manual_seed(0)
    x = torch.randn(1, 6, 12, 9)
    layer = trained(nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6)), x)
    with torch.no_grad():
        before = layer(x)
        torch.testing.assert_close(fuse(layer, CPU)(x), before, atol=1e-5, rtol=1e-4)
    assert [type(part) for part in layer] == [FusedConvolution]


@pytest.mark.parametrize("relu", [True, False])
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.sampled_from([1, 3]), st.integers(0, 1000))
def test_maps_need_not_be_concatenated_nor_skips_added(relu, channels, kernel, seed):
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        in_full_precision(patch)
        layer = conv_bn(sum(channels), 5, kernel, relu=relu).eval()
        maps, skip = [torch.randn(2, c, 7, 8) for c in channels], torch.randn(2, 5, 7, 8)
        untouched = [x.clone() for x in (*maps, skip)]
        with torch.no_grad():
            joined, added = over(layer, maps), residual(layer[:2], torch.cat(maps, 1), skip)
            fuse(layer, CPU)
            torch.testing.assert_close(over(layer, maps), joined, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(residual(layer, torch.cat(maps, 1), skip), added, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(untouched, (*maps, skip)))


def test_a_call_that_this_torch_does_not_know_is_not_made(monkeypatch):
    in_full_precision(monkeypatch)

    def unknown(*inputs, **options):
        raise NotImplementedError("mkldnn::_convolution_pointwise is not available")

    monkeypatch.setattr(FusedConvolution, "forward", unknown)
    assert not fused._onednn.__wrapped__()
    monkeypatch.undo()
    assert fused._onednn.__wrapped__()


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
