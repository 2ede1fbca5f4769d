"""Instances → the messages of the output topics, one function a topic. All carry the stamp of the depth image.

Images are in the camera's frame. What has a place in space takes a ``Placement``, and the instances already placed by it;
None is the camera's frame.
"""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseArray, Quaternion
from sensor_msgs.msg import Image, PointCloud2, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

from .. import images
from ..clouds import INSTANCE_DTYPE, cloud_fields, instance_table
from ..drawing import colorize_depth, draw_overlay, id_colors
from ..frame import Frame
from ..geometry import deproject, principal_axes, quaternion_from_matrix
from ..instances import Instances
from ..placement import Placement
from .messages import fill_image, header_of, image_message

BACKGROUND_GRAY = 96


def _fields(names: str, datatype: int, offset: int = 0) -> list[PointField]:
    return [
        PointField(name=name, offset=offset + 4 * i, datatype=datatype, count=1) for i, name in enumerate(names.split())
    ]


INSTANCE_FIELDS = [
    PointField(name=name, offset=offset, datatype=datatype, count=count)
    for name, offset, datatype, count in cloud_fields(INSTANCE_DTYPE)
]
"""Fields of ``~/instances``: metres, m², label as in ``~/masks``, [0, 1], [0, 1] or NaN, 0 = on top, visible pixels."""
POINT_FIELDS = [*_fields("x y z rgb", PointField.FLOAT32), *_fields("label", PointField.UINT32, 16)]
"""Fields of ``~/points``; ``rgb`` is packed as PCL does."""


def placed_header(frame: Frame, placement: Placement | None) -> Header:
    """Header with the stamp of ``frame`` and the frame of ``placement``."""
    header = header_of(frame)
    if placement is not None:
        header.frame_id = placement.frame_id
    return header


def masks(frame: Frame, instances: Instances) -> Image:
    """Label image 16UC1, 0 = background."""
    return image_message(instances.named(instances.labels), "16UC1", header_of(frame))


def amodal_layers(frame: Frame, instances: Instances) -> Image:
    """Amodal stack 16UC<L>; channel 0 equals the masks, channel k is what lies k-th from the front."""
    return fill_image(images.encode_layers(instances.named(instances.layers)), header_of(frame))


def instances_cloud(frame: Frame, instances: Instances, placement: Placement | None = None) -> PointCloud2:
    """One point per instance: centroid, covariance, label as in the masks, and the rest of ``INSTANCE_FIELDS``."""
    return point_cloud2.create_cloud(placed_header(frame, placement), INSTANCE_FIELDS, instance_table(instances))


def poses(frame: Frame, instances: Instances, placement: Placement | None = None) -> PoseArray:
    """Centroid and principal axes (x = longest) of each instance, in depth order: the first is on top."""
    ordered = instance_poses(instances)
    return PoseArray(header=placed_header(frame, placement), poses=[ordered[i] for i in np.argsort(instances.depth_order)])


def points(frame: Frame, instances: Instances, placement: Placement | None = None) -> PointCloud2:
    """Every valid depth pixel as x y z rgb label; label 0 keeps the camera's colour, or gray without one."""
    valid = np.flatnonzero(np.isfinite(frame.depth))  # indices: far faster than a boolean mask
    labels = instances.labels.reshape(-1).take(valid)
    palette = _packed(id_colors(instances.names))
    palette[0] = BACKGROUND_GRAY * 0x010101
    columns = np.empty((len(valid), 5), np.uint32)
    xyz = deproject(frame.depth, frame.K).reshape(-1, 3).take(valid, 0)
    columns[:, :3] = (xyz if placement is None else placement.points(xyz)).view(np.uint32)
    columns[:, 3] = palette.take(labels)
    if frame.color is not None:
        background = np.flatnonzero(labels == 0)
        columns[background, 3] = _packed(frame.color.reshape(-1, 3).take(valid.take(background), 0))
    columns[:, 4] = instances.named(labels)
    rows = columns.view(point_cloud2.dtype_from_fields(POINT_FIELDS)).reshape(-1)
    return point_cloud2.create_cloud(placed_header(frame, placement), POINT_FIELDS, rows)


def _packed(rgb: np.ndarray) -> np.ndarray:
    """(n, 3) uint8 RGB → (n,) uint32 as PCL packs it."""
    r, g, b = rgb.astype(np.uint32).T
    return r << 16 | g << 8 | b


def overlay(frame: Frame, instances: Instances) -> Image:
    """Labels with their ids over the colour image, or over gray depth without one, rgb8."""
    background = colorize_depth(frame.depth, gray=True) if frame.color is None else frame.color
    return image_message(draw_overlay(background, instances.labels, ids=True, names=instances.names), "rgb8", header_of(frame))


def instance_poses(instances: Instances) -> list[Pose]:
    """Pose of each instance in label order: position = centroid, axes = principal axes with x the longest."""
    quaternions = quaternion_from_matrix(principal_axes(instances.covariance.astype(np.float64))[0]) if len(instances) else []
    return [
        Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))
        for (x, y, z), (qx, qy, qz, qw) in zip(instances.centroid.tolist(), np.asarray(quaternions).tolist())
    ]


def detections(frame: Frame, instances: Instances, placement: Placement | None = None) -> object:
    """``vision_msgs/Detection3DArray``, one detection per instance: id as in the masks, covariance in the position block.

    The box is the solid one with the same second moments: its edges are √12 standard deviations along the axes.
    """
    from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

    header = placed_header(frame, placement)
    sigma = principal_axes(instances.covariance.astype(np.float64))[1]
    array = Detection3DArray(header=header)
    for i, pose in enumerate(instance_poses(instances)):
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = "part"
        hypothesis.hypothesis.score = float(instances.score[i])
        hypothesis.pose.pose = pose
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = instances.covariance[i]
        hypothesis.pose.covariance = covariance.reshape(-1)
        detection = Detection3D(header=header, id=str(instances.names[i + 1]), results=[hypothesis])
        detection.bbox.center = pose
        size = detection.bbox.size
        size.x, size.y, size.z = (np.sqrt(12.0) * sigma[i]).tolist()
        array.detections.append(detection)
    return array
