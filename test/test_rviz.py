"""The RViz configuration: every display hears what the node publishes, and the view shows the parts from the camera's side."""

from __future__ import annotations

import importlib
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from conftest import ROOT  # noqa: E402
from node_rig import Rig, wait_until  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_scenes import FRAME_ID, KnownAnswer, boxes  # noqa: E402
from rviz_picture import read_config, render  # noqa: E402

from instseg_ros.drawing import label_colors  # noqa: E402

CONFIG = ROOT / "config" / "bin_picking.rviz"


def test_every_display_hears_the_node_and_shows_the_parts_from_the_camera_s_side(ros_domain):
    rig = Rig(ros_domain, lambda *_: KnownAnswer())
    client, heard = rig.client, {}
    try:
        displays, view, options = read_config(CONFIG)
        for display in displays:
            qos = QoSProfile(
                depth=display.qos["Depth"],
                reliability=ReliabilityPolicy[display.qos["Reliability Policy"].upper().replace(" ", "_")],
                durability=DurabilityPolicy[display.qos["Durability Policy"].upper().replace(" ", "_")],
            )
            keep = lambda message, topic=display.topic: heard.update({topic: message})  # noqa: E731
            client.create_subscription(message_class(display.type), display.topic, keep, qos)
        publishers = [publisher for _, publisher in rig.node._outputs._publishers]
        wanted = {display.topic for display in displays}
        wait_until(
            lambda: {p.topic_name for p in publishers if p.get_subscription_count()} == wanted, f"the node to publish for {wanted}"
        )
        client.connect()
        client.send_frame(boxes(stamp_ns=time.time_ns())[0])
        wait_until(lambda: set(heard) == wanted, lambda: f"messages on {wanted - set(heard)}")
    finally:
        rig.end()
    assert options["Fixed Frame"] == view["Target Frame"] == FRAME_ID
    for message in heard.values():
        header = message.markers[0].header if hasattr(message, "markers") else message.header
        assert header.frame_id == FRAME_ID

    assert not np.array_equal(render(CONFIG, heard), render(CONFIG, {}))

    # As the camera sees them: none mirrored, none behind the floor.
    picture = render(CONFIG, {"/instseg/points": heard["/instseg/points"]})
    found = [np.argwhere((picture == color).all(-1)) for color in label_colors(6)[1:]]
    assert min(map(len, found)) > 1000
    rows, columns = np.array([pixels.mean(0) for pixels in found]).T
    assert (np.diff(columns.reshape(2, 3), axis=1) > 50).all()  # boxes 1 2 3 over 4 5 6
    assert (rows[3:] - rows[:3] > 50).all()


def message_class(name):
    package, _, message = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), message)
