"""One running segmenter node to which bad input is sent: a table of faults, and what must hold after each."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from conftest import new_domain
from node_rig import Rig
from rclpy.qos import QoSProfile
from ros_scenes import FRAME_ID, K, KnownAnswer, boxes, compressed_color, compressed_depth, messages
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from instseg_ros.nodes.messages import labels_from_message, stamp_ns

RAW = {"depth/image": Image, "depth/camera_info": CameraInfo, "color/image": Image}
COMPRESSED = {
    "depth/image/compressedDepth": CompressedImage,
    "depth/camera_info": CameraInfo,
    "color/image/compressed": CompressedImage,
}


@dataclass(frozen=True)
class Fault:
    """One kind of bad input and what the node does with it.

    Attributes:
        change: breaks depth, camera info and colour message in place, or returns others; all have headers of their own.
        reason: under which the frame is counted as skipped; None = the frame is answered, and rightly.
        says: pattern in the last error.
    """

    change: Callable[[Any, CameraInfo, Any], tuple | None]
    reason: str | None = None
    says: str = ""


def shift(scene: tuple, index: int | None, nanoseconds: int) -> tuple:
    """The scene with later stamps: those of all its messages, or of the one with this index."""
    for message in scene if index is None else (scene[index],):
        seconds, rest = divmod(stamp_ns(message.header) + nanoseconds, 10**9)
        message.header.stamp = Time(sec=seconds, nanosec=rest)
    return scene


SPACING = 0.1
"""Seconds, more than ``sync_slop``: what is stamped closer than that belongs together."""


class Bench:
    """A node with a model that uses colour and knows the answer, and a client.

    Args:
        compressed: whether depth and colour arrive compressed.
        segmenter: the model.
        connect: wait until the two are connected.
        qos: of the client's publishers.
        parameters: of the node.
    """

    def __init__(
        self,
        *,
        compressed: bool = False,
        segmenter: KnownAnswer | None = None,
        connect: bool = True,
        qos: QoSProfile | None = None,
        **parameters: Any,
    ) -> None:
        self.segmenter = segmenter or KnownAnswer(needs_color=True)
        self._compressed = compressed
        self._inputs = COMPRESSED if compressed else RAW
        if compressed:
            parameters |= {"depth_transport": "compressedDepth", "color_transport": "compressed"}
        self.rig = Rig(new_domain(), lambda *_: self.segmenter, inputs=dict(self._inputs), **parameters)
        assert self.rig.started
        self.client = self.rig.client
        self.client.hear("masks")
        if qos is not None:
            for name, type_ in self._inputs.items():
                self.client.destroy_publisher(self.client._inputs[name])
                self.client._inputs[name] = self.client.create_publisher(type_, name, qos)
        if connect:
            self.client.connect(*(name for name in self._inputs if self.segmenter.needs_color or not name.startswith("color")))

    def scene(self, stamp: int | None = None) -> tuple[Any, CameraInfo, Any]:
        """Depth, camera info and colour of the boxes, in the node's transport, each with a header of its own."""
        depth, info, color = messages(stamp_ns=time.time_ns() if stamp is None else stamp, color=True)
        if self._compressed:
            depth, color = compressed_depth(depth), compressed_color(color, ".png")
        return tuple(copy.deepcopy(message) for message in (depth, info, color))

    def publish(self, *scene: Any) -> int:
        """Send these messages, depth last. Returns the stamp of the depth image."""
        for name, message in reversed(list(zip(self._inputs, scene))):
            if message is not None:
                self.client._inputs[name].publish(message)
        return stamp_ns(scene[0].header)

    def check(self, fault: Fault) -> None:
        """Send the fault, then a good frame: each has the fate it should have, the node lives, the books balance."""
        before = self.counts()
        scene = self.scene()
        self.segmenter.frames.clear()
        stamp = self.publish(*(fault.change(*scene) or scene))
        if fault.reason is None:
            self._assert_right(self.client.wait_for_stamp(stamp))
        else:
            key = f"skipped_{fault.reason}"
            status = self.client.wait_for_status(lambda s: int(s.get(key, 0)) == before.get(key, 0) + 1)
            assert re.search(fault.says, status["last_error"]), status["last_error"]
            assert "\n" not in status["last_error"] and len(status["last_error"]) < 400
            assert status["level"] == "1"  # WARN
        self.check_good_frame()
        after = self.counts()
        assert after["received"] == before["received"] + 2
        assert after["answered"] == before["answered"] + 1 + (fault.reason is None)

    def check_good_frame(self) -> None:
        """A good frame is answered, and the model saw it as it is."""
        time.sleep(SPACING)  # else its info may make a set with the image before it
        self._assert_right(self.client.wait_for_stamp(self.publish(*self.scene())))
        seen, (truth, _) = self.segmenter.frames[-1], boxes(color=True)
        np.testing.assert_array_equal(seen.depth, truth.depth)
        np.testing.assert_array_equal(seen.K, K)
        if seen.color is not None:
            np.testing.assert_array_equal(seen.color, truth.color)

    def counts(self) -> dict[str, int]:
        """The counters, once every frame has met its fate."""

        def counters(status: dict[str, str]) -> dict[str, int]:
            return {k: int(v) for k, v in status.items() if k in ("received", "answered", "replaced_by_newer") or k.startswith("skipped")}

        def balanced(status: dict[str, str]) -> bool:
            c = counters(status)
            reasons = sum(count for key, count in c.items() if key.startswith("skipped_"))
            return c["received"] == c["answered"] + c["replaced_by_newer"] + c["skipped"] and c["skipped"] == reasons

        heard = len(self.client.heard["diagnostics"]) + 1  # what is heard already may be older than the last answer
        self.client.wait_for("diagnostics", heard + 1)
        return counters(self.client.wait_for_status(balanced))

    def end(self) -> None:
        """Take both down."""
        self.rig.end()

    @staticmethod
    def _assert_right(answer: Image) -> None:
        assert answer.header.frame_id == FRAME_ID
        np.testing.assert_array_equal(labels_from_message(answer)[0], boxes()[1])
