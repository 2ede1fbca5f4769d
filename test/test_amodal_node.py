"""The node with layers: those of a layered model alone, and beside another model."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from node_rig import Rig  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_scenes import KnownAnswer, boxes  # noqa: E402

from instseg_ros.frame import Frame  # noqa: E402
from instseg_ros.methods.layered.network import STRIDE, LayeredConfig, LayeredEmbeddings, Prediction  # noqa: E402
from instseg_ros.methods.layered.segmenter import LayeredSegmenter, Thresholds  # noqa: E402
from instseg_ros.nodes.messages import labels_from_message  # noqa: E402

CONFIG = LayeredConfig(
    inputs=("xyz", "depth"), layers=3, embedding=2, backbone="small", width=8, blocks=(1, 1, 1), rates=(1,), context=8, skip=8,
    decoder=8, head=(), joint_heads=True,
)  # fmt: skip


class UnderTheNext(LayeredSegmenter):
    """As if its network had seen that each of the boxes goes on beneath the next one of its row; their embeddings are 5 apart."""

    def __init__(self) -> None:
        super().__init__(LayeredEmbeddings(CONFIG), Thresholds(), torch.device("cpu"), description="layered (taught)")

    def predict(self, frame: Frame) -> Prediction:
        cells = boxes()[1][STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].astype(np.int64)
        under = np.where((cells > 1) & (cells != 4), cells - 1, 0)
        stack = torch.from_numpy(np.stack([cells, under, np.zeros_like(cells)]))
        semantic = torch.nn.functional.one_hot((stack > 0).long(), 2).float().permute(0, 3, 1, 2)[None] * 20
        return Prediction(semantic, (5.0 * stack[None, :, None]).expand(-1, -1, 2, -1, -1))


def load(directory, device):
    return UnderTheNext() if directory.name == "layers" else KnownAnswer()


@pytest.fixture
def rig(ros_domain):
    rigs = []

    def make(**parameters):
        rigs.append(Rig(ros_domain, load, **parameters))
        return rigs[-1].client

    yield make
    for made in rigs:
        made.end()


def layers_of(client) -> np.ndarray:
    client.wait_for_stamp(client.send_frame(boxes(stamp_ns=time.time_ns())[0]), "amodal_layers")
    return labels_from_message(client.heard["amodal_layers"][-1])


def test_a_layered_model_publishes_its_layers(rig):
    client = rig(model="/layers")
    client.hear("amodal_layers")
    client.connect()
    layers, (_, truth) = layers_of(client), boxes()
    assert client.heard["amodal_layers"][-1].encoding == "16UC3" and layers.shape == (3, *truth.shape)
    middle = np.s_[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    front, under, last = layers[middle]
    cells = truth[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    own = {int(k): int(front[cells == k][0]) for k in range(1, 7)}
    assert len(set(own.values())) == 6 and not last.any()
    assert np.array_equal(front, np.array([0, *(own[k] for k in range(1, 7))])[cells])
    assert np.array_equal(under, np.array([0, 0, own[1], own[2], 0, own[4], own[5]])[cells])


def test_layers_beside_another_model_keep_its_labels_and_may_come_and_go(rig):
    client = rig(model="/known", amodal_model="/layers")
    client.hear("amodal_layers", "masks")
    client.connect()
    layers, (_, truth) = layers_of(client), boxes()
    assert np.array_equal(layers[0], truth) and np.array_equal(labels_from_message(client.heard["masks"][-1])[0], truth)
    inner = np.s_[20:44, 65:95]  # well inside box 2
    assert (layers[1][inner] == 1).all() and not layers[2].any()
    assert client.wait_for_status(lambda s: "layers by" in s.get("method", ""))

    def change(value):
        request = [Parameter("amodal_model", value=value).to_parameter_msg()]
        return client.call(SetParameters, "set_parameters", parameters=request).results[0]

    assert change("").successful and len(layers_of(client)) == 1
    refused = change("/known")
    assert not refused.successful and "gives no layers" in refused.reason
    assert len(layers_of(client)) == 1
