"""An example to start from: hears ``/instseg/instances``, chooses the next part to pick, says how to approach it.

    ros2 run instseg_ros grasp_planner --ros-args -p up:="[0.0, 0.0, 1.0]"      # with target_frame:=base_link

The choice: of the parts that are sure and visible enough, the one on top. The gripper comes from above, its fingers close
across the part's long axis. ``~/approach`` is where the tool waits before it goes down: z points at the part, x along it.
A real planner adds the gripper's reach, the walls of the bin and a check against collisions.
"""

from __future__ import annotations

if __name__ == "__main__":  # ahead of the imports that take long
    from .executables import run

    raise SystemExit(run("grasp_planner"))

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, PoseStamped, Quaternion
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from sensor_msgs_py import point_cloud2

from ..clouds import table_moments
from ..errors import InputError
from ..geometry import principal_axes, quaternion_from_matrix
from . import runner
from .parameters import Spec, check, declare, values

SPECS = {
    "up": Spec([0.0, 0.0, -1.0], "Direction from which the gripper comes, in the frame of the answers; default: the camera looks down."),
    "standoff": Spec(0.1, "Metres between the approach pose and the part's centre.", 0.0, 2.0),
    "min_score": Spec(0.5, "Less certain parts are not picked.", 0.0, 1.0),
    "min_visible": Spec(0.7, "Parts of which less is visible are not picked; unknown counts as visible.", 0.0, 1.0),
    "max_age": Spec(2.0, "Seconds; older answers are ignored, the bin may have changed. 0 = never.", 0.0, 3600.0),
}
TALK_PERIOD = 1.0
"""Seconds between two lines of the log."""


@dataclass(frozen=True)
class Pick:
    """A part to pick.

    Attributes:
        label: as in ``/instseg/masks``.
        score, visible: [0, 1]; ``visible`` is NaN where the method cannot tell.
        center: (3,) metres.
        approach: (3,) metres, where the tool waits.
        rotation: (3, 3) of the tool: z towards the part, x along its long axis, the fingers close along y.
        width: metres that the fingers have to open, four standard deviations of the surface.
    """

    label: int
    score: float
    visible: float
    center: np.ndarray
    approach: np.ndarray
    rotation: np.ndarray
    width: float


def choose(table: np.ndarray, up: np.ndarray, *, standoff: float, min_score: float, min_visible: float) -> Pick | None:
    """The next part to pick.

    Args:
        table: structured array with the fields of ``/instseg/instances``, a row a part.
        up: (3,) unit vector against which the gripper moves.
        standoff, min_score, min_visible: as in ``SPECS``.

    Returns:
        the part on top of those that are sure and visible enough, None where there is none.
    """
    hidden = table["visible_fraction"] < min_visible  # NaN, not known, compares false
    fit = np.flatnonzero((table["score"] >= min_score) & ~hidden)
    if not len(fit):
        return None
    row = table[fit[[np.argmin(table["depth_order"][fit])]]]
    (center,), (covariance,) = (moment.astype(np.float64) for moment in table_moments(row))
    rotation = tool_rotation(covariance, up)
    width = 4 * np.sqrt(max(rotation[:, 1] @ covariance @ rotation[:, 1], 0.0))
    return Pick(
        int(row["label"][0]), float(row["score"][0]), float(row["visible_fraction"][0]), center, center + standoff * up, rotation, width
    )


def tool_rotation(covariance: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) of a tool that comes down: z against ``up``, x along what is longest of the part, seen from above."""
    z = -up
    flat = np.eye(3) - np.outer(z, z)
    axes, _ = principal_axes(flat @ covariance @ flat)  # the axis along z has no extent and comes last
    x = flat @ axes[:, 0]
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


class GraspPlannerNode(Node):
    """Chooses anew at every answer."""

    def __init__(self, **options: Any) -> None:
        super().__init__("grasp_planner", **options)
        declare(self, SPECS)
        self._wanted = values(self, SPECS)
        check(self._wanted, SPECS)
        length = np.linalg.norm(self._wanted["up"])
        if len(self._wanted["up"]) != 3 or not 0 < length < np.inf:
            raise InputError(f"up must be a direction [x, y, z], got {list(self._wanted['up'])}")
        self._up = np.asarray(self._wanted["up"]) / length
        self._approach = self.create_publisher(PoseStamped, "~/approach", 1)
        # Reliable with depth 1, as the segmenter publishes: the newest answer, whole.
        self.create_subscription(PointCloud2, "instseg/instances", self._on_instances, QoSProfile(depth=1))
        self.get_logger().info(f"waiting for {self.resolve_topic_name('instseg/instances')}")

    def start(self) -> bool:
        """Nothing to prepare."""
        return True

    def close(self) -> None:
        """Nothing to end."""

    def _on_instances(self, message: PointCloud2) -> None:
        stamp = message.header.stamp
        age = self.get_clock().now().nanoseconds * 1e-9 - (stamp.sec + stamp.nanosec * 1e-9)
        if 0 < self._wanted["max_age"] < age:
            return self._say(f"ignored: the answer is {age:.1f} s old (for a bag, set use_sim_time)")
        table = point_cloud2.read_points(message)
        limits = {name: self._wanted[name] for name in ("standoff", "min_score", "min_visible")}
        pick = choose(table, self._up, **limits)
        if pick is None:
            return self._say(f"none of {len(table)} parts is sure and visible enough" if len(table) else "the bin is empty")
        self._approach.publish(approach_message(pick, message))
        visible = "" if np.isnan(pick.visible) else f", {pick.visible:.0%} visible"
        at, frame = np.round(pick.center, 3).tolist(), message.header.frame_id
        self._say(
            f"next pick: part {pick.label} of {len(table)} at {at} m in {frame} (score {pick.score:.2f}{visible}), "
            f"approach from {np.round(pick.approach, 3).tolist()}, open to {pick.width * 1e3:.0f} mm"
        )

    def _say(self, text: str) -> None:
        self.get_logger().info(text, throttle_duration_sec=TALK_PERIOD)


def approach_message(pick: Pick, answer: PointCloud2) -> PoseStamped:
    """Where the tool waits, with stamp and frame of the answer."""
    message = PoseStamped(header=answer.header)
    message.pose.position = Point(**dict(zip("xyz", pick.approach.tolist())))
    message.pose.orientation = Quaternion(**dict(zip("xyzw", quaternion_from_matrix(pick.rotation).tolist())))
    return message


def main(args: Sequence[str] | None = None) -> int:
    """Executable ``grasp_planner``."""
    return runner.run(lambda: [GraspPlannerNode()], args)
