"""The node with MTML: depth over DDS → voxels → labels of pixels."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from node_rig import Rig  # noqa: E402
from ros_scenes import boxes  # noqa: E402

from instseg_ros.methods.mtml.network import MTML, MTMLConfig, Prediction  # noqa: E402
from instseg_ros.methods.mtml.segmenter import MTMLSegmenter  # noqa: E402
from instseg_ros.methods.mtml.views import VoxelInput, voxelize_views  # noqa: E402
from instseg_ros.methods.mtml.voxel_segmenter import Thresholds, VoxelSegmenter  # noqa: E402
from instseg_ros.nodes.messages import labels_from_message  # noqa: E402
from instseg_ros.training.voxel_bins import voxel_instances  # noqa: E402

INPUT = VoxelInput(voxel=0.008, above=0.15)
CONFIG = MTMLConfig(channels=INPUT.channels, stem=2, middle=2, width=2, up=4, head=8, embedding=2, part=True)


class Taught(VoxelSegmenter):
    """As if the network knew the boxes: the network runs, its answer is replaced."""

    def __init__(self) -> None:
        super().__init__(MTML(CONFIG), Thresholds(usual=((6.0, 5.0),), direction=False), torch.device("cpu"))
        frame, labels = boxes()
        self.instance = torch.from_numpy(voxel_instances(voxelize_views([(frame, None)], INPUT), labels))

    def predict_grid(self, grid, voxels):
        own = super().predict_grid(grid, voxels)
        assert len(own.embedding) == len(self.instance)
        embedding = 4.0 * self.instance[:, None].float().expand(-1, 2)
        return Prediction(embedding, own.direction, torch.where(self.instance < 0, -5.0, 5.0))


def test_the_node_publishes_what_voxels_say_of_pixels(ros_domain):
    rig = Rig(ros_domain, lambda directory, device: MTMLSegmenter(Taught(), INPUT), model="/mtml-bin")
    try:
        client = rig.client
        client.hear("masks", "instances")
        client.connect()
        client.wait_for_stamp(client.send_frame(boxes(stamp_ns=time.time_ns())[0]))
        labels, truth = labels_from_message(client.heard["masks"][-1])[0], boxes()[1]
        seen = truth > 0
        own = {int(k): set(np.unique(labels[truth == k])) for k in range(1, 7)}
        assert all(len(found) == 1 for found in own.values()) and len(set.union(*own.values()) - {0}) == 6
        assert not labels[~seen & (np.arange(len(truth)) > 6)[:, None]].any()  # further up, pixels without a reading
        assert client.wait_for("instances").width == 6
    finally:
        rig.end()
