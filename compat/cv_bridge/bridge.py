"""CvBridge: conversions in the direction and with the errors of the real package.

NumPy arrays are returned without a copy where the message's layout allows it.
"""

from __future__ import annotations

import array
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from .encodings import DTYPES, convert, layout

_NAMES = {name: code for code, name in DTYPES.items()}


class CvBridgeError(TypeError):
    """A conversion that is not possible."""


class CvBridge:
    """Converts between ROS image messages and OpenCV arrays; it has no state."""

    def dtype_with_channels_to_cvtype2(self, dtype: np.dtype, n_channels: int) -> str:
        """``uint16``, 1 → ``16UC1``."""
        return f"{_NAMES[np.dtype(dtype).name]}C{n_channels}"

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """``bgr8`` → ``("uint8", 3)``."""
        try:
            dtype, channels = layout(encoding)
        except ValueError as error:
            raise CvBridgeError(error) from None
        return dtype.name, channels

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "passthrough") -> np.ndarray:
        """Image message → (H, W) array for one channel, else (H, W, C), converted to ``desired_encoding``."""
        name, channels = self.encoding_to_dtype_with_channels(img_msg.encoding)
        stored = np.dtype(name).newbyteorder(">" if img_msg.is_bigendian else "<")
        data = np.asarray(img_msg.data, np.uint8) if isinstance(img_msg.data, list) else img_msg.data
        columns = img_msg.step // stored.itemsize // channels
        shape = (img_msg.height, columns) if channels == 1 else (img_msg.height, columns, channels)
        image = np.ndarray(shape, stored, data)  # TypeError where the data is too short, as upstream
        image = np.ascontiguousarray(image[:, : img_msg.width])
        if not stored.isnative:
            image = image.astype(stored.newbyteorder("="))
        return image if desired_encoding == "passthrough" else self._convert(image, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(
        self, cvim: np.ndarray, encoding: str = "passthrough", header: Header | None = None
    ) -> Image:
        """Array → image message; ``encoding`` must fit the array's dtype and channels."""
        if not isinstance(cvim, (np.ndarray, np.generic)):
            raise TypeError("Your input type is not a numpy array")
        found = self.dtype_with_channels_to_cvtype2(cvim.dtype, 1 if cvim.ndim < 3 else cvim.shape[2])
        if encoding == "passthrough":
            encoding = found
        elif self.dtype_with_channels_to_cvtype2(*self.encoding_to_dtype_with_channels(encoding)) != found:
            raise CvBridgeError(f"encoding specified as {encoding}, but image has incompatible type {found}")
        message = Image() if header is None else Image(header=header)
        message.height, message.width = cvim.shape[:2]
        message.encoding = encoding
        message.is_bigendian = int(not cvim.dtype.isnative)  # every machine that these wheels run on is little-endian
        message.data = array.array("B", cvim.tobytes())
        message.step = len(message.data) // message.height
        return message

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = "passthrough"
    ) -> np.ndarray:
        """Compressed image message → array as decoded (colour is BGR), or converted to ``desired_encoding``."""
        image = cv2.imdecode(np.frombuffer(cmprs_img_msg.data, np.uint8), cv2.IMREAD_UNCHANGED)
        return image if desired_encoding == "passthrough" else self._convert(image, "bgr8", desired_encoding)

    def cv2_to_compressed_imgmsg(self, cvim: np.ndarray, dst_format: str = "jpg") -> CompressedImage:
        """Array (colour in BGR) → compressed image message; ``dst_format`` is a file extension that OpenCV knows."""
        if not isinstance(cvim, (np.ndarray, np.generic)):
            raise TypeError("Your input type is not a numpy array")
        message = CompressedImage(format=dst_format)
        message.data = array.array("B", cv2.imencode(f".{dst_format}", cvim)[1].tobytes())
        return message

    @staticmethod
    def _convert(image: Any, source: str, target: str) -> np.ndarray:
        try:
            return convert(image, source, target)
        except (ValueError, cv2.error) as error:
            raise CvBridgeError(error) from None
