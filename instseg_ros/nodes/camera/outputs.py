"""The camera's topics: names, frames, encodings and QoS of realsense2_camera 4.x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from ...errors import InputError
from ..messages import image_message
from .conversion import camera_info, color_pixels, depth_millimetres
from .parameters import CameraParameters
from .realsense import load
from .transforms import StaticTransforms

COLOR, DEPTH, ALIGNED = "color", "depth", "aligned_depth_to_color"
IMAGES = {COLOR: "image_raw", DEPTH: "image_rect_raw", ALIGNED: "image_raw"}
"""Stream → name of its image topic; its ``camera_info`` stands beside it."""
QOS = QoSProfile(depth=10)
"""Reliable and volatile. realsense2_camera's images have SYSTEM_DEFAULT, which subscribers see as reliable, too; with Fast DDS it
would also be transient local, and hand an old picture to whoever subscribes late."""


class CameraOutputs:
    """Publishers of the streams that are wanted.

    Args:
        node: that publishes; the topics lie below its name.
        wanted: its parameters.
    """

    def __init__(self, node: Node, wanted: CameraParameters) -> None:
        self._node = node
        name = wanted["camera_name"] or node.get_name()
        self._frames = {stream: f"{name}_{'depth' if stream == DEPTH else 'color'}_optical_frame" for stream in IMAGES}
        streams = [DEPTH, *([COLOR] if wanted["enable_color"] else []), *([ALIGNED] if wanted["align_depth.enable"] else [])]
        self._images: dict[str, Publisher] = {}
        self._infos: dict[str, Publisher] = {}
        for stream in streams:
            self._images[stream] = node.create_publisher(Image, f"~/{stream}/{IMAGES[stream]}", QOS)
            self._infos[stream] = node.create_publisher(CameraInfo, f"~/{stream}/camera_info", QOS)
        self._transforms: StaticTransforms | None = None
        if wanted["publish_tf"]:
            try:
                self._transforms = StaticTransforms(node, name, wanted["base_frame_id"])
            except InputError as error:
                node.get_logger().warning(str(error))
        rs = load()
        self._align = rs.align(rs.stream.color) if ALIGNED in streams else None

    @property
    def topics(self) -> Sequence[str]:
        """Full names of the image topics."""
        return [publisher.topic_name for publisher in self._images.values()]

    def opened(self, profiles: Sequence[Any]) -> None:
        """A camera was opened: say where the imagers of its streams (``rs.stream_profile``, depth first) sit."""
        if self._transforms is not None:
            try:
                self._transforms.publish(profiles)
            except RuntimeError as error:
                self._node.get_logger().warning(f"no transforms are published: the camera does not know them ({error})")

    def publish(self, frames: Any, stamp_ns: int) -> None:
        """Publish a frameset, all with one stamp. No picture is made for a topic without subscribers."""
        rs = load()
        depth = frames.get_depth_frame()
        color = frames.first_or_default(rs.stream.color).as_video_frame() if COLOR in self._images else None
        # Depth aligned to colour comes last: whoever synchronises the topics has the others by then.
        if color is not None:
            self._send(COLOR, stamp_ns, color, lambda: (color_pixels(color), "rgb8"))
        self._send(DEPTH, stamp_ns, depth, lambda: (depth_millimetres(depth), "16UC1"))
        if self._align is not None:
            self._send(ALIGNED, stamp_ns, color, lambda: (depth_millimetres(self._align.process(frames).get_depth_frame()), "16UC1"))

    def close(self) -> None:
        """Take the topics back."""
        for publisher in (*self._images.values(), *self._infos.values()):
            self._node.destroy_publisher(publisher)
        if self._transforms is not None:
            self._transforms.close()

    def _send(self, stream: str, stamp_ns: int, imager: Any, picture: Any) -> None:
        """Info and image of a stream.

        Args:
            imager: frame of the imager in whose pixels the stream is.
            picture: makes pixels and encoding.
        """
        header = Header(frame_id=self._frames[stream])
        header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        intrinsics = imager.get_profile().as_video_stream_profile().get_intrinsics()
        self._infos[stream].publish(camera_info(intrinsics, header))
        if self._images[stream].get_subscription_count():
            self._images[stream].publish(image_message(*picture(), header))
