"""Decoded messages (of rosbags or rclpy: the attributes are the same) → Frame and Truth."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .. import clouds, images
from ..bop import Truth
from ..camera_info import read_camera_info
from ..errors import InputError
from ..frame import Frame
from ..geometry import depth_order


def decode_frame(depth: Any, info: Any, color: Any | None, stamp_ns: int) -> Frame:
    """Frame of a depth image, its camera info and, where there is one, its colour image (each raw or compressed).

    Raises:
        InputError: encodings, sizes or intrinsics that do not fit.
    """
    metres = _pixels(depth, images.decode_depth, images.decode_compressed_depth)
    rgb = None if color is None else _pixels(color, images.decode_color, images.decode_compressed_color)
    K, size = read_camera_info(info)
    if size != metres.shape:
        raise InputError(
            f"depth is {metres.shape[1]} x {metres.shape[0]}, camera_info describes {size[1]} x {size[0]}: "
            "use the camera_info of the same stream as the depth image"
        )
    return Frame(metres, K, rgb, stamp_ns, depth.header.frame_id)


def decode_labels(image: Any) -> np.ndarray:
    """Label image 16UC<L> → (L, H, W) uint16."""
    return images.decode_layers(*_raw(image))


def decode_part_names(text: str) -> dict[int, str]:
    """JSON object → obj_id → name."""
    try:
        return {int(key): str(name) for key, name in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"part names {text[:80]!r} are not a JSON object from object_id to name: {error}") from None


def decode_truth(
    masks: Any, layers: Any | None, instances: Any | None, part_names: dict[int, str], depth: np.ndarray | None = None
) -> Truth:
    """Truth of one view, as BopDataset gives it.

    Args:
        masks: visible labels, Image 16UC1.
        layers: amodal stack, Image 16UC<L>, or None.
        instances: instance cloud with one point for each label 1…N, or None: then centroids, covariances and visible
            fractions are NaN and N is the highest label.
        part_names: object_id → name; others are called ``part``.
        depth: (H, W) m; gives the depth order where the cloud is missing.

    Raises:
        InputError: the three do not belong together.
    """
    labels = decode_labels(masks)[0]
    stack = None if layers is None else decode_labels(layers)
    if stack is not None and stack.shape[1:] != labels.shape:
        raise InputError(f"amodal layers are {stack.shape[1:]} pixels, masks {labels.shape}: they must be of one image")
    highest = int(max(labels.max(initial=0), 0 if stack is None else stack.max(initial=0)))
    if instances is None:
        n = highest
        order = np.arange(n, dtype=np.int32) if depth is None else depth_order(labels, depth, n)
        centroid, covariance, fraction = (
            np.full((n, 3), np.nan),
            np.full((n, 3, 3), np.nan),
            np.full(n, np.nan, np.float32),
        )
        object_id = np.zeros(n, np.int64)
    else:
        table = clouds.read_cloud(instances)
        missing = set(clouds.INSTANCE_DTYPE.names) - set(table.dtype.names)
        if missing:
            raise InputError(f"the truth's instance cloud lacks the field {sorted(missing)[0]!r}")
        if highest > len(table) or not np.array_equal(table["label"], np.arange(1, len(table) + 1)):
            raise InputError(f"the truth's instance cloud must hold labels 1…{highest} in order, got {table['label']}")
        n = len(table)
        centroid, covariance = (moment.astype(np.float64) for moment in clouds.table_moments(table))
        fraction, order = table["visible_fraction"].astype(np.float32), table["depth_order"].astype(np.int32)
        object_id = table["object_id"].astype(np.int64) if "object_id" in table.dtype.names else np.zeros(n, np.int64)
    return Truth(
        labels=np.ascontiguousarray(labels),
        masks=None,
        layers=stack,
        visible_fraction=fraction,
        centroid=centroid,
        covariance=covariance,
        part=[part_names.get(int(i), "part") for i in object_id],
        object_id=object_id,
        pose=np.full((n, 4, 4), np.nan),
        depth_order=order,
    )


def _pixels(message: Any, raw: Any, compressed: Any) -> np.ndarray:
    return compressed(message.format, message.data) if hasattr(message, "format") else raw(*_raw(message))


def _raw(image: Any) -> tuple[str, int, int, int, int, Any]:
    return image.encoding, image.height, image.width, image.step, image.is_bigendian, image.data
