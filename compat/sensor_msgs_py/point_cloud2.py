"""Stand-in for ``sensor_msgs_py.point_cloud2``: PointCloud2 messages from and to NumPy arrays."""

from __future__ import annotations

import array
import sys
from collections import namedtuple
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured, unstructured_to_structured
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

DUMMY_FIELD_PREFIX = "unnamed_field"

_DTYPES = {
    PointField.INT8: np.dtype(np.int8),
    PointField.UINT8: np.dtype(np.uint8),
    PointField.INT16: np.dtype(np.int16),
    PointField.UINT16: np.dtype(np.uint16),
    PointField.INT32: np.dtype(np.int32),
    PointField.UINT32: np.dtype(np.uint32),
    PointField.FLOAT32: np.dtype(np.float32),
    PointField.FLOAT64: np.dtype(np.float64),
}


def dtype_from_fields(fields: Iterable[PointField], point_step: int | None = None) -> np.dtype:
    """Structured dtype of the points; a field with count > 1 becomes ``name_0``, ``name_1``, …"""
    names: list[str] = []
    formats: list[np.dtype] = []
    offsets: list[int] = []
    for index, field in enumerate(fields):
        assert field.count > 0, "a field needs a count above 0"
        dtype = _DTYPES[field.datatype]
        name = field.name or f"{DUMMY_FIELD_PREFIX}_{index}"
        for part in range(field.count):
            names.append(f"{name}_{part}" if field.count > 1 else name)
            formats.append(dtype)
            offsets.append(field.offset + part * dtype.itemsize)
    assert len(set(names)) == len(names), "field names must differ"
    layout: dict[str, Any] = {"names": names, "formats": formats, "offsets": offsets}
    if point_step is not None:
        layout["itemsize"] = point_step
    return np.dtype(layout)


def read_points(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | np.ndarray | None = None,
    reshape_organized_cloud: bool = False,
) -> np.ndarray:
    """Points as a structured array.

    Args:
        cloud: the message.
        field_names: fields to read, None = all.
        skip_nans: leave points with a NaN out (where ``cloud.is_dense`` does not promise that there are none).
        uvs: indices of the points to read, None = all.
        reshape_organized_cloud: (width, height) array for clouds with more than one row.
    """
    assert isinstance(cloud, PointCloud2), "not a sensor_msgs.msg.PointCloud2"
    points = np.ndarray(
        shape=(cloud.width * cloud.height,),
        dtype=dtype_from_fields(cloud.fields, point_step=cloud.point_step),
        buffer=cloud.data,
    )
    if field_names is not None:
        assert set(field_names) <= set(points.dtype.names), "a requested field is not in the cloud"
        points = points[list(field_names)]
    if (sys.byteorder == "big") != bool(cloud.is_bigendian):
        points = points.byteswap()
    if skip_nans and not cloud.is_dense:
        keep = np.ones(len(points), bool)
        for name in points.dtype.names:
            keep &= ~np.isnan(points[name])
        points = points[keep]
    if uvs is not None:
        points = points[uvs if isinstance(uvs, np.ndarray) else np.fromiter(uvs, int)]
    if reshape_organized_cloud and cloud.height > 1:
        points = points.reshape(cloud.width, cloud.height)
    return points


def read_points_numpy(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | np.ndarray | None = None,
    reshape_organized_cloud: bool = False,
) -> np.ndarray:
    """Points as a plain (n, fields) array; the fields must have one datatype. Arguments as ``read_points``."""
    types = {field.datatype for field in cloud.fields if field_names is None or field.name in field_names}
    assert len(types) <= 1, "the fields have different datatypes: use read_points()"
    return structured_to_unstructured(read_points(cloud, field_names, skip_nans, uvs, reshape_organized_cloud))


def read_points_list(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | np.ndarray | None = None,
) -> list[Any]:
    """Points as named tuples (slow). Arguments as ``read_points``."""
    names = field_names if field_names is not None else [field.name for field in cloud.fields]
    return list(map(namedtuple("Point", names)._make, read_points(cloud, field_names, skip_nans, uvs)))


def create_cloud(
    header: Header, fields: Sequence[PointField], points: Iterable | np.ndarray, point_step: int | None = None
) -> PointCloud2:
    """PointCloud2 of a structured array (n,), a plain array (n, fields) of one datatype, or an iterable of tuples."""
    dtype = dtype_from_fields(fields, point_step)
    if not isinstance(points, np.ndarray):
        points = np.array([tuple(point) for point in points], dtype)
    elif points.dtype.names is None:
        assert len({field.datatype for field in fields}) == 1, "fields of different datatypes need a structured array"
        points = unstructured_to_structured(points, dtype=dtype)
    else:
        assert points.dtype == dtype, "the array's dtype is not that of the fields: check order, names and types"
    assert points.ndim <= 2, "points can be organized in two dimensions at most"
    width, height = points.shape[0], points.shape[1] if points.ndim == 2 else 1
    cloud = PointCloud2(
        header=header,
        height=height,
        width=width,
        fields=fields,
        is_dense=False,
        is_bigendian=sys.byteorder == "big",
        point_step=dtype.itemsize,
        row_step=dtype.itemsize * width,
    )
    cloud.data = array.array("B", points.tobytes())
    return cloud


def create_cloud_xyz32(header: Header, points: Iterable | np.ndarray) -> PointCloud2:
    """PointCloud2 with float32 fields x, y, z of points (n, 3)."""
    fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate("xyz")
    ]
    return create_cloud(header, fields, points)
