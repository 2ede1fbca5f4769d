"""The bytes of ``sensor_msgs/PointCloud2``, without ROS, and the instance table that travels in one.

``/instseg/instances`` and ``/truth/instances`` hold one point per instance with the fields of ``INSTANCE_DTYPE``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InputError
from .instances import Instances

INSTANCE_DTYPE = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z", "cxx", "cxy", "cxz", "cyy", "cyz", "czz")]
    + [("label", "<u4"), ("score", "<f4"), ("visible_fraction", "<f4"), ("depth_order", "<u4"), ("pixels", "<u4")]
)
"""Centroid m, upper triangle of the covariance m², label as in the mask (the instance's id), score and visible fraction in [0, 1], 0 = pick
first, visible pixels."""

# PointField.INT8 … FLOAT64
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
NUMBERS = {kind: number for number, kind in DATATYPES.items()}
TRIANGLE = (("cxx", 0, 0), ("cxy", 0, 1), ("cxz", 0, 2), ("cyy", 1, 1), ("cyz", 1, 2), ("czz", 2, 2))


def cloud_fields(dtype: np.dtype) -> list[tuple[str, int, int, int]]:
    """(name, offset, datatype, count) of the PointFields that describe ``dtype``."""
    return [(name, dtype.fields[name][1], NUMBERS[dtype[name].str[1:]], 1) for name in dtype.names]


def read_cloud(message: Any) -> np.ndarray:
    """Points of a PointCloud2 message (of rclpy, rosbags or alike) as a structured array, one row a point.

    Raises:
        InputError: fields or sizes that do not fit the data.
    """
    order = ">" if message.is_bigendian else "<"
    try:
        dtype = np.dtype(
            {
                "names": [field.name for field in message.fields],
                "formats": [
                    (order + DATATYPES[field.datatype], field.count)
                    if field.count > 1
                    else order + DATATYPES[field.datatype]
                    for field in message.fields
                ],
                "offsets": [field.offset for field in message.fields],
                "itemsize": message.point_step,
            }
        )
    except (KeyError, ValueError) as error:
        raise InputError(
            f"the fields of the point cloud do not fit its point_step {message.point_step}: {error}"
        ) from None
    points = message.width * message.height
    data = np.frombuffer(message.data, np.uint8)
    row = message.width * message.point_step
    if message.height > 1 and message.row_step != row:  # padded rows
        if message.row_step < row or data.size < message.height * message.row_step:
            raise InputError(
                f"the point cloud's row_step {message.row_step} does not fit its size, the publisher is wrong"
            )
        data = np.ascontiguousarray(
            data[: message.height * message.row_step].reshape(message.height, -1)[:, :row]
        ).ravel()
    if data.size < points * message.point_step:
        raise InputError(
            f"the point cloud ends after {data.size} bytes, {points} points of {message.point_step} were announced: "
            "the message is truncated"
        )
    return data[: points * message.point_step].view(dtype) if points else np.zeros(0, dtype)


def instance_table(instances: Instances) -> np.ndarray:
    """Instances → (N,) structured array of ``INSTANCE_DTYPE``."""
    table = np.zeros(len(instances), INSTANCE_DTYPE)
    fill_moments(table, instances.centroid, instances.covariance)
    table["label"] = instances.names[1:]
    table["score"] = instances.score
    table["visible_fraction"] = instances.visible_fraction
    table["depth_order"] = instances.depth_order
    table["pixels"] = instances.pixels
    return table


def fill_moments(table: np.ndarray, centroid: np.ndarray, covariance: np.ndarray) -> None:
    """Put centroids (N, 3) m and covariances (N, 3, 3) m² into an instance table of N rows."""
    table["x"], table["y"], table["z"] = centroid.T
    for name, i, j in TRIANGLE:
        table[name] = covariance[:, i, j]


def table_moments(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroid (N, 3) float32 m and covariance (N, 3, 3) float32 m² of an instance table."""
    centroid = np.stack([table["x"], table["y"], table["z"]], -1).astype(np.float32)
    covariance = np.empty((len(table), 3, 3), np.float32)
    for name, i, j in TRIANGLE:
        covariance[:, i, j] = covariance[:, j, i] = table[name]
    return centroid, covariance


def instances_from(labels: np.ndarray, table: np.ndarray, layers: np.ndarray | None = None) -> Instances:
    """The answer that a segmenter published: masks (H, W) uint16, instance table, and where known layers (L, H, W).

    Raises:
        InputError: the three do not belong together.
    """
    missing = set(INSTANCE_DTYPE.names) - set(table.dtype.names or ())
    if missing:
        raise InputError(f"the instance cloud lacks the field {sorted(missing)[0]!r}: another version published it")
    ids = table["label"]
    if not ((ids > 0) & (ids <= np.iinfo(np.uint16).max)).all() or len(np.unique(ids)) < len(ids):
        raise InputError(f"the labels of the instance cloud must differ and lie in 1…65535, got {ids}")
    layers = labels[None] if layers is None else layers
    tracked = not np.array_equal(ids, np.arange(1, len(ids) + 1))
    if tracked:  # row i is label i + 1 in here
        row = np.zeros(np.iinfo(np.uint16).max + 1, np.uint16)
        row[ids] = np.arange(1, len(ids) + 1)
        strange = (layers > 0) & (row[layers] == 0)
        if strange.any():
            raise InputError(f"id {layers[strange][0]} of the masks is not in the instance cloud, which has {ids}")
        labels, layers = row[labels], row[layers]
    centroid, covariance = table_moments(table)
    return Instances(
        labels=np.ascontiguousarray(labels),
        score=table["score"].astype(np.float32),
        centroid=centroid,
        covariance=covariance,
        visible_fraction=table["visible_fraction"].astype(np.float32),
        depth_order=table["depth_order"].astype(np.int32),
        layers=layers,
        ids=ids.astype(np.uint16) if tracked else None,
    )
