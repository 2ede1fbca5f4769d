"""Instances → markers for RViz."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from ..drawing import id_colors
from ..frame import Frame
from ..geometry import principal_axes
from ..instances import Instances
from ..placement import Placement
from .answers import instance_poses, placed_header

SIGMAS = 3**0.5
"""Half axes of the drawn ellipsoids in standard deviations of the surface points: as long as a part with an even surface."""
LEAST_SIZE = 1e-3
"""Metres; RViz draws nothing for an ellipsoid without thickness."""
LIFETIME = Duration(sec=5)
"""What the node drew last goes away when it stops."""
TEXT_HEIGHT = 0.008
"""Metres."""
WHITE = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)


def markers(frame: Frame, instances: Instances, placement: Placement | None = None) -> MarkerArray:
    """Covariance ellipsoids in the colours of the overlay, with label and # depth order above; replaces the last ones."""
    header = placed_header(frame, placement)
    optical_axis = np.array([0.0, 0.0, 1.0])
    away = optical_axis if placement is None else placement.direction(optical_axis)
    drawn = [Marker(header=header, action=Marker.DELETEALL)]
    sigma = principal_axes(instances.covariance.astype(np.float64))[1]
    sizes = np.maximum(2 * SIGMAS * sigma, LEAST_SIZE).tolist()
    colors = (id_colors(instances.names)[1:] / 255.0).tolist()
    ids = instances.names[1:].tolist()
    for i, (pose, (length, width, height), (r, g, b)) in enumerate(zip(instance_poses(instances), sizes, colors)):
        drawn.append(
            Marker(
                header=header,
                ns="parts",
                id=ids[i],
                type=Marker.SPHERE,
                pose=pose,
                scale=Vector3(x=length, y=width, z=height),
                color=ColorRGBA(r=r, g=g, b=b, a=0.45),
                lifetime=LIFETIME,
            )
        )
        x, y, z = (instances.centroid[i] - length / 2 * away).tolist()  # towards the camera
        drawn.append(
            Marker(
                header=header,
                ns="order",
                id=ids[i],
                type=Marker.TEXT_VIEW_FACING,
                pose=Pose(position=Point(x=x, y=y, z=z)),
                scale=Vector3(z=TEXT_HEIGHT),
                color=WHITE,
                text=f"{ids[i]} #{instances.depth_order[i]}",
                lifetime=LIFETIME,
            )
        )
    return MarkerArray(markers=drawn)
