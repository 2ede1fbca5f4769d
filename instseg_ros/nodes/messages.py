"""Camera messages ↔ Frame. The pixels themselves are read and written by ``instseg_ros.images``."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from .. import images
from ..camera_info import read_camera_info
from ..errors import InputError
from ..frame import Frame


class BadFrame(InputError):
    """Messages that do not make a frame.

    Attributes:
        reason: the kind of fault in one word, under which it is counted.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def frame_from_messages(
    depth: Image | CompressedImage, info: CameraInfo, color: Image | CompressedImage | None = None
) -> Frame:
    """One frame from a depth image, its camera info, and the colour image registered to it where there is one.

    Depth 16UC1 is millimetres with 0 = no reading, 32FC1 metres with non-finite = no reading (REP 118); as
    ``CompressedImage`` it must come from a compressedDepth topic. The frame takes stamp and frame_id of the depth image.

    Raises:
        BadFrame: ``frame_id`` (the messages name different frames), ``depth``, ``color``, ``camera_info``, ``size``
            (the images or the info differ in size), ``no_depth`` (not a single valid reading).
    """
    _check_frame_ids(depth, info, color)
    metres = _pixels("depth", depth, images.decode_depth, images.decode_compressed_depth)
    K = intrinsics(info, metres.shape)
    if np.isnan(np.fmax.reduce(metres, axis=None)):
        raise BadFrame("no_depth", "the depth image has no valid reading: is the lens covered or the target too near?")
    rgb = None
    if color is not None:
        rgb = _pixels("color", color, _decode_color, images.decode_compressed_color)
        if rgb.shape[:2] != metres.shape:
            raise BadFrame(
                "size",
                f"color is {_size(rgb.shape)}, depth is {_size(metres.shape)}: "
                "align depth to color (realsense2_camera: align_depth.enable:=true)",
            )
    return Frame(metres, K, rgb, stamp_ns(depth.header), depth.header.frame_id)


def intrinsics(info: CameraInfo, shape: tuple[int, int]) -> np.ndarray:
    """K (3, 3) float64 of the image of ``shape`` (H, W) that ``info`` describes, its binning and region of interest applied.

    Raises:
        BadFrame: ``camera_info`` (not calibrated), ``size`` (it describes an image of another size).
    """
    try:
        K, size = read_camera_info(info)
    except InputError as error:
        raise BadFrame("camera_info", str(error)) from None
    if size != tuple(shape):
        raise BadFrame(
            "size",
            f"depth is {_size(shape)}, camera_info describes {_size(size)}: "
            "subscribe to the camera_info of the same stream as the depth image",
        )
    return K


def frame_to_messages(frame: Frame, *, depth_encoding: str = "16UC1") -> tuple[Image, CameraInfo, Image | None]:
    """Depth image (16UC1 or 32FC1), camera info and, where there is one, rgb8 colour image of a frame."""
    header = header_of(frame)
    depth = images.to_millimetres(frame.depth) if depth_encoding == "16UC1" else frame.depth
    info = CameraInfo(header=header, height=frame.shape[0], width=frame.shape[1], distortion_model="plumb_bob")
    info.d = [0.0] * 5
    info.k = frame.K.reshape(-1)
    info.r = np.eye(3).reshape(-1)
    info.p = np.hstack([frame.K, np.zeros((3, 1))]).reshape(-1)
    color = None if frame.color is None else image_message(frame.color, "rgb8", header)
    return image_message(depth, depth_encoding, header), info, color


def image_message(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """``sensor_msgs/Image`` of (H, W) or (H, W, C) pixels whose dtype and channels fit ``encoding``."""
    return fill_image(images.encode(pixels, encoding), header)


def fill_image(fields: dict[str, Any], header: Header) -> Image:
    """``sensor_msgs/Image`` of the fields that ``images.encode`` and ``images.encode_layers`` give."""
    message = Image(header=header, height=fields["height"], width=fields["width"], encoding=fields["encoding"])
    message.is_bigendian, message.step = fields["is_bigendian"], fields["step"]
    # The only assignment that is fast in every rclpy: lists and NumPy arrays are checked element by element.
    message.data = array.array("B", fields["data"].tobytes())
    return message


def labels_from_message(image: Image) -> np.ndarray:
    """Label image 16UC<L> → (L, H, W) uint16. InputError for other encodings and truncated data."""
    return images.decode_layers(*_raw(image))


def header_of(frame: Frame) -> Header:
    """Header with the frame's stamp and frame_id."""
    header = Header(frame_id=frame.frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(frame.stamp_ns, 1_000_000_000)
    return header


def stamp_ns(header: Header) -> int:
    """The header's stamp in nanoseconds."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def _check_frame_ids(depth: Any, info: CameraInfo, color: Any) -> None:
    expected = depth.header.frame_id
    for name, message in (("camera_info", info), ("color", color)):
        found = message.header.frame_id if message is not None else ""
        if found and expected and found != expected:
            raise BadFrame(
                "frame_id",
                f"depth is in frame {expected!r}, {name} in {found!r}: "
                "use depth aligned to color and its own camera_info (realsense2_camera: align_depth.enable:=true)",
            )


def _pixels(name: str, message: Image | CompressedImage, raw: Any, compressed: Any) -> np.ndarray:
    try:
        if isinstance(message, CompressedImage):
            return compressed(message.format, message.data)
        return raw(*_raw(message))
    except InputError as error:
        raise BadFrame(name, f"{name} image: {error}") from None


def _raw(image: Image) -> tuple[str, int, int, int, int, Any]:
    return image.encoding, image.height, image.width, image.step, image.is_bigendian, image.data


def _decode_color(encoding: str, height: int, width: int, step: int, is_bigendian: int, data: Any) -> np.ndarray:
    """As ``images.decode_color``, with cv_bridge for what that does not know (Bayer patterns, 16 bits a channel)."""
    if encoding in images.TO_RGB or encoding == "rgb8" or not encoding.startswith(("bayer_", "rgb", "bgr", "mono16")):
        return images.decode_color(encoding, height, width, step, is_bigendian, data)
    from cv_bridge import CvBridge, CvBridgeError  # here, because its binary part needs the NumPy it was built with

    image = Image(encoding=encoding, height=height, width=width, step=step, is_bigendian=is_bigendian)
    image.data = data
    try:
        return CvBridge().imgmsg_to_cv2(image, "rgb8")
    except (CvBridgeError, TypeError, ValueError) as error:
        raise InputError(f"{encoding!r} of {width} x {height} cannot be converted to rgb8: {error}") from None


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
