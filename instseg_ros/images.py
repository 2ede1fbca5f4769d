"""The bytes of ROS image messages, read and written without ROS: what the nodes and the bag reader share.

Encodings as in sensor_msgs/image_encodings.hpp; the meaning of depth values as in REP 118; compressed forms as
compressed_image_transport and compressed_depth_image_transport write them. Every function raises InputError for bytes
that do not fit their description.
"""

from __future__ import annotations

import contextlib
import re
import struct
from typing import Any

import cv2
import numpy as np

from .errors import InputError
from .rvl import decode_rvl

ABSTRACT = {
    "mono8": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "yuv422": (np.uint8, 2),
    "yuv422_yuy2": (np.uint8, 2),
}
"""Named encoding → (dtype of a channel, channels)."""
GENERIC = re.compile(r"(8|16|32|64)([USF])C(\d{0,3})")
KINDS = {"8U": "u1", "8S": "i1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}

TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUYV,
}

PNG_MAGIC = b"\x89PNG"
ENDS = {PNG_MAGIC: b"IEND\xaeB`\x82", b"\xff\xd8": b"\xff\xd9"}
"""First bytes of a PNG and of a JPEG → their last."""
END_WITHIN = 4096
"""Bytes at the end of a picture among which its last are looked for: some cameras fill the rest of their buffer."""
COMPRESSED_DEPTH_HEADER = struct.Struct("<iff")  # compression_common.hpp: enum, depthParam[2]
RVL_HEADER = struct.Struct("<iffii")  # the same, width, height

# Looking a millimetre value up is as fast as multiplying and marks 0 as "no reading" in the same pass.
_METRES = np.arange(65536, dtype=np.float32) * np.float32(0.001)
_METRES[0] = np.nan


def decode(encoding: str, height: int, width: int, step: int, is_bigendian: int, data: Any) -> np.ndarray:
    """Pixels of a raw image message.

    Args:
        encoding: ``mono8``, ``rgb8``, …, or ``<bits><U|S|F>C<channels>``.
        height, width: pixels.
        step: bytes from one row to the next, at least a row's own; the rest is padding.
        is_bigendian: byte order of the channels.
        data: buffer of ``height * step`` bytes.

    Returns:
        (H, W) for one channel, else (H, W, C), native byte order; a view of ``data`` where the layout allows.
    """
    dtype, channels = _layout(encoding)
    if height <= 0 or width <= 0:
        raise InputError(f"the image is empty ({width} x {height}), check the camera")
    row = width * channels * dtype.itemsize
    if step < row:
        raise InputError(
            f"step is {step} bytes, a row of {width} {encoding} pixels needs {row}: the publisher is wrong"
        )
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size < (height - 1) * step + row:
        raise InputError(
            f"image data ends after {buffer.size} bytes, {width} x {height} {encoding} with step {step} needs "
            f"{height * step}: the message is truncated"
        )
    rows = np.lib.stride_tricks.as_strided(buffer, (height, row), (step, 1), writeable=False)
    if dtype.itemsize > 1:
        if step != row:
            rows = np.ascontiguousarray(rows)
        stored = dtype.newbyteorder(">" if is_bigendian else "<")
        rows = rows.view(stored).astype(dtype, copy=False)
    return rows if channels == 1 else rows.reshape(height, width, channels)


def decode_depth(encoding: str, height: int, width: int, step: int, is_bigendian: int, data: Any) -> np.ndarray:
    """Raw depth image → (H, W) float32 metres, NaN where there is no reading; always a new array.

    REP 118: 16UC1 (and mono16) hold millimetres with 0 = no reading, 32FC1 metres with non-finite = no reading.
    """
    if encoding not in ("16UC1", "mono16", "32FC1"):
        raise InputError(f"depth encoding {encoding!r} is unknown: publish 16UC1 (millimetres) or 32FC1 (metres)")
    return _to_metres(decode(encoding, height, width, step, is_bigendian, data))


def decode_color(encoding: str, height: int, width: int, step: int, is_bigendian: int, data: Any) -> np.ndarray:
    """Raw colour image → (H, W, 3) uint8 RGB."""
    if encoding == "rgb8":
        return decode(encoding, height, width, step, is_bigendian, data)
    if encoding not in TO_RGB:
        raise InputError(f"color encoding {encoding!r} is unknown: publish rgb8 or one of {', '.join(sorted(TO_RGB))}")
    if encoding.startswith("yuv422") and width % 2:
        raise InputError(f"{encoding} needs an even width, got {width}: the publisher is wrong")
    return cv2.cvtColor(decode(encoding, height, width, step, is_bigendian, data), TO_RGB[encoding])


def decode_layers(encoding: str, height: int, width: int, step: int, is_bigendian: int, data: Any) -> np.ndarray:
    """Raw label image 16UC<L> (mono16 counts as L = 1) → (L, H, W) uint16."""
    if encoding != "mono16" and not re.fullmatch(r"16UC\d*", encoding):
        raise InputError(f"label encoding {encoding!r} is unknown: publish 16UC1, or 16UC<L> for amodal layers")
    image = decode(encoding, height, width, step, is_bigendian, data)
    return image[None] if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))


def decode_compressed_depth(format: str, data: Any) -> np.ndarray:
    """``sensor_msgs/CompressedImage`` of a compressedDepth topic → (H, W) float32 metres, NaN = no reading.

    ``format`` is ``"16UC1; compressedDepth png"`` (older publishers leave out ``png``), ``"… rvl"``, or the same with 32FC1.
    Before the PNG stand 12 bytes, before RVL's words width and height as well; 32FC1 holds quantised inverse depth.
    """
    encoding, _, rest = (word.strip() for word in format.partition(";"))
    stored, quantisation = (_rvl_depth if "rvl" in rest.lower() else _png_depth)(format, data)
    if encoding == "16UC1" or encoding == "mono16":
        return _to_metres(stored)
    if encoding == "32FC1" and quantisation is not None:
        a, b = quantisation
        with np.errstate(divide="ignore", invalid="ignore"):
            metres = np.float32(a) / (stored.astype(np.float32) - np.float32(b))
        metres[stored == 0] = np.nan
        return _to_metres(metres)
    raise InputError(f"compressed depth format {format!r} is unknown: publish 16UC1 or 32FC1 as compressedDepth png or rvl")


def decode_compressed_color(format: str, data: Any) -> np.ndarray:
    """``sensor_msgs/CompressedImage`` (JPEG, PNG, …) → (H, W, 3) uint8 RGB."""
    if "compressedDepth" in format:
        raise InputError(f"{format!r} is depth, not color: check the topic names")
    image = _imdecode(data, 0, cv2.IMREAD_COLOR, format)
    # Pictures come in as BGR, but compressed_image_transport may store RGB planes as they are and says so.
    return image if re.search(r"compressed rgba?\d", format) else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def encode(image: np.ndarray, encoding: str) -> dict[str, Any]:
    """Pixels (H, W) or (H, W, C) → fields of ``sensor_msgs/Image``: encoding, height, width, step, is_bigendian, data.

    ``data`` is a flat uint8 array that shares memory with ``image`` where it is contiguous and little-endian.
    """
    dtype, channels = _layout(encoding)
    if image.dtype != dtype or image.shape[2:] != (() if channels == 1 and image.ndim == 2 else (channels,)):
        raise InputError(f"an image of {image.dtype} {image.shape} is not {encoding}")
    pixels = np.ascontiguousarray(image, dtype.newbyteorder("<"))
    height, width = image.shape[:2]
    return {
        "encoding": encoding,
        "height": height,
        "width": width,
        "step": width * channels * dtype.itemsize,
        "is_bigendian": 0,
        "data": pixels.reshape(-1).view(np.uint8),
    }


def encode_layers(layers: np.ndarray) -> dict[str, Any]:
    """Fields of ``sensor_msgs/Image`` for labels (L, H, W) uint16, as 16UC<L>."""
    return encode(layers.transpose(1, 2, 0), f"16UC{len(layers)}")


def encode_compressed_depth(millimetres: np.ndarray) -> tuple[str, bytes]:
    """Depth (H, W) uint16 millimetres → (format, data) of a compressedDepth ``sensor_msgs/CompressedImage``."""
    ok, png = cv2.imencode(".png", millimetres)
    if not ok:
        raise InputError(f"cannot encode depth of {millimetres.dtype} {millimetres.shape} as PNG")
    return "16UC1; compressedDepth png", COMPRESSED_DEPTH_HEADER.pack(0, 0.0, 0.0) + png.tobytes()


def to_millimetres(metres: np.ndarray) -> np.ndarray:
    """Depth (H, W) float metres → uint16 millimetres, 0 = no reading (NaN, negative, beyond 65.535 m)."""
    scaled = np.rint(np.nan_to_num(metres * 1000.0, nan=0.0, posinf=0.0, neginf=0.0))
    return np.where((scaled > 0) & (scaled < 65536), scaled, 0).astype(np.uint16)


def _layout(encoding: str) -> tuple[np.dtype, int]:
    if encoding in ABSTRACT:
        dtype, channels = ABSTRACT[encoding]
        return np.dtype(dtype), channels
    match = GENERIC.fullmatch(encoding)
    kind = KINDS.get(match[1] + match[2]) if match else None
    channels = int(match[3] or 1) if match else 0
    if kind is None or channels < 1:
        raise InputError(f"image encoding {encoding!r} is unknown: publish one that sensor_msgs/image_encodings names")
    return np.dtype(kind), channels


def _to_metres(stored: np.ndarray) -> np.ndarray:
    if stored.dtype == np.uint16:
        return np.take(_METRES, stored, mode="clip")  # all are within; checking that takes a third of the time
    metres = np.array(stored, np.float32)
    metres[~(metres > 0) | np.isinf(metres)] = np.nan
    return metres


def _png_depth(format: str, data: Any) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Values (H, W) uint16 of a compressedDepth message, and the two numbers of its header, where it has one."""
    blob = bytes(memoryview(data)[:16])
    if blob.startswith(PNG_MAGIC):
        start, quantisation = 0, None
    elif blob[COMPRESSED_DEPTH_HEADER.size :].startswith(PNG_MAGIC):
        start, quantisation = COMPRESSED_DEPTH_HEADER.size, COMPRESSED_DEPTH_HEADER.unpack_from(blob)[1:]
    else:
        raise InputError(f"compressed depth ({format!r}) holds no PNG: subscribe to .../compressedDepth, not .../compressed")
    stored = _imdecode(data, start, cv2.IMREAD_UNCHANGED, format)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise InputError(f"compressed depth is {stored.dtype} of shape {stored.shape}: only 16-bit gray PNG keeps depth")
    return stored, quantisation


def _rvl_depth(format: str, data: Any) -> tuple[np.ndarray, tuple[float, float]]:
    """The same of RVL."""
    view = memoryview(data)
    if view.nbytes < RVL_HEADER.size:
        raise InputError(f"compressed depth of {view.nbytes} bytes ({format!r}) has no RVL header: it is truncated")
    _, a, b, width, height = RVL_HEADER.unpack_from(view)
    return decode_rvl(view[RVL_HEADER.size :], height, width), (a, b)


def _imdecode(data: Any, start: int, flags: int, format: str) -> np.ndarray:
    buffer = np.frombuffer(data, np.uint8)[start:]
    image = None
    if buffer.size and not _cut_short(buffer.tobytes()):
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(buffer, flags)
    if image is None:
        raise InputError(
            f"compressed image of {buffer.size} bytes ({format!r}) cannot be decoded: it is truncated or corrupt"
        )
    return image


def _cut_short(blob: bytes) -> bool:
    """Whether a PNG or JPEG lacks its end. Some OpenCVs give the upper part of such a picture, the others print to stderr."""
    return any(blob.startswith(magic) and end not in blob[-END_WITHIN:] for magic, end in ENDS.items())
