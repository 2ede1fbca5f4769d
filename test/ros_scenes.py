"""Views whose right answer is known, as frames and as messages in every form that a camera may send them."""

from __future__ import annotations

import array
import struct

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from instseg_ros.frame import Frame
from instseg_ros.geometry import deproject, depth_order, label_moments
from instseg_ros.instances import Instances
from instseg_ros.methods import ModelDirectory, Segmenter
from instseg_ros.nodes.messages import frame_to_messages

FRAME_ID = "camera_color_optical_frame"
HEIGHT, WIDTH = 120, 160
K = np.array([[150.0, 0.0, 79.5], [0.0, 150.0, 59.5], [0.0, 0.0, 1.0]])


def boxes(*, stamp_ns: int = 1_700_000_000_123_456_789, color: bool = False) -> tuple[Frame, np.ndarray]:
    """Six boxes on a floor at 0.8 m, the last one nearest; (frame, labels (H, W) uint16). Depth is whole millimetres."""
    millimetres = np.full((HEIGHT, WIDTH), 800, np.uint16)
    labels = np.zeros((HEIGHT, WIDTH), np.uint16)
    for i in range(6):
        top, left = 15 + 50 * (i // 3), 12 + 48 * (i % 3)
        labels[top : top + 34, left : left + 40] = i + 1
        millimetres[top : top + 34, left : left + 40] = 740 - 10 * i
    millimetres[:3] = 0
    rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    rgb[labels > 0] = (200, 120, 40)
    frame = Frame.from_raw(
        millimetres, K, depth_scale=0.001, color=rgb if color else None, stamp_ns=stamp_ns, frame_id=FRAME_ID
    )
    return frame, labels


def answer(frame: Frame, labels: np.ndarray, layers: np.ndarray | None = None) -> Instances:
    """The right answer to a frame with these labels."""
    n = int(labels.max())
    centroid, covariance, _ = label_moments(labels, deproject(frame.depth, frame.K), n)
    return Instances(
        labels=labels,
        score=np.linspace(1, 0.5, n, dtype=np.float32),
        centroid=centroid.astype(np.float32),
        covariance=covariance.astype(np.float32),
        visible_fraction=np.full(n, np.nan, np.float32),
        depth_order=depth_order(labels, frame.depth, n),
        layers=layers,
    )


class KnownAnswer(Segmenter):
    """Gives the boxes whatever it sees, after what ``before`` does (sleeping, raising, …)."""

    description = "known answer"

    def __init__(self, *, needs_color: bool = False, before=lambda frame: None) -> None:
        self.needs_color, self._before = needs_color, before
        self.frames: list[Frame] = []

    @classmethod
    def from_model(cls, model: ModelDirectory, device: object) -> KnownAnswer:
        return cls()

    def segment(self, frame: Frame) -> Instances:
        self._before(frame)
        self.frames.append(frame)
        full, labels = boxes()
        if frame.shape != full.shape:
            return Instances.empty(frame.shape)
        return answer(full, labels)


def messages(**options: object) -> tuple[Image, CameraInfo, Image | None]:
    """Depth, info and colour of ``boxes``."""
    return frame_to_messages(boxes(**options)[0])


def big_endian(image: Image) -> Image:
    """The same 16-bit image in the other byte order."""
    image.data = array.array("B", np.frombuffer(image.data, "<u2").astype(">u2").tobytes())
    image.is_bigendian = 1
    return image


def padded(image: Image, extra: int = 10) -> Image:
    """The same image with ``extra`` bytes of rubbish behind each row."""
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)
    rubbish = np.full((image.height, extra), 0xAB, np.uint8)
    image.data = array.array("B", np.hstack([rows, rubbish]).tobytes())
    image.step += extra
    return image


def compressed_depth(image: Image) -> CompressedImage:
    """16UC1 as compressed_depth_image_transport sends it."""
    pixels = np.frombuffer(image.data, np.uint16).reshape(image.height, image.width)
    return _compressed(image, "16UC1; compressedDepth png", struct.pack("<iff", 0, 0, 0), ".png", pixels)


def quantised_depth(image: Image, a: float = 1000.0, b: float = 10.0) -> CompressedImage:
    """32FC1 metres as compressed_depth_image_transport sends them: ``q = a / depth + b`` in 16 bits, 0 = no reading."""
    metres = np.frombuffer(image.data, np.uint16).reshape(image.height, image.width) * 1e-3
    with np.errstate(divide="ignore"):
        pixels = np.where(metres > 0, np.rint(a / metres + b), 0).astype(np.uint16)
    return _compressed(image, "32FC1; compressedDepth png", struct.pack("<iff", 1, a, b), ".png", pixels)


def compressed_color(image: Image, extension: str) -> CompressedImage:
    """rgb8 as compressed_image_transport sends it."""
    pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    word = {".jpg": "jpeg", ".png": "png"}[extension]
    return _compressed(image, f"rgb8; {word} compressed bgr8", b"", extension, pixels[..., ::-1])


def _compressed(image: Image, format_: str, head: bytes, extension: str, pixels: np.ndarray) -> CompressedImage:
    message = CompressedImage(header=image.header, format=format_)
    message.data = array.array("B", head + cv2.imencode(extension, np.ascontiguousarray(pixels))[1].tobytes())
    return message
