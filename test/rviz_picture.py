"""What RViz would show: the displays of a .rviz file drawn from messages of its topics, in the view that the file sets.

    python test/rviz_picture.py out.png      # the bundled bag's first frame, answered by the default model

A reading of rviz_default_plugins (orbit view, points, sphere and text markers, axes), for machines without RViz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from instseg_ros.clouds import read_cloud

SIZE = (900, 700)
"""Width and height in pixels of the 3-D view."""
FIELD_OF_VIEW = np.pi / 4
"""RViz' vertical one."""
TYPES = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/PoseArray": "geometry_msgs/msg/PoseArray",
}


@dataclass(frozen=True)
class Display:
    """A display: what it subscribes to, and its settings as they stand in the file."""

    name: str
    topic: str
    type: str
    qos: dict[str, Any]
    settings: dict[str, Any]


def read_config(path: Path) -> tuple[list[Display], dict[str, Any], dict[str, Any]]:
    """Enabled displays, the current view, and the global options of a .rviz file."""
    manager = yaml.safe_load(path.read_text())["Visualization Manager"]
    displays = [
        Display(d["Name"], d["Topic"]["Value"], TYPES[d["Class"]], d["Topic"], d) for d in manager["Displays"] if d["Enabled"]
    ]
    return displays, manager["Views"]["Current"], manager["Global Options"]


class Camera:
    """RViz' orbit view (OrbitViewController::updateCamera), its target frame being the fixed frame."""

    def __init__(self, view: dict[str, Any]) -> None:
        sign = -1.0 if view["Invert Z Axis"] else 1.0
        yaw, pitch, distance = sign * view["Yaw"], sign * view["Pitch"], view["Distance"]
        focal = np.array([view["Focal Point"][axis] for axis in "XYZ"], float)
        offset = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
        self.position = focal + distance * offset
        right = np.cross(-offset, [0, 0, sign])
        right /= np.linalg.norm(right)
        self._axes = np.stack([right, np.cross(-offset, right), -offset])  # right, down, forward
        self._focal_pixels = SIZE[1] / 2 / np.tan(FIELD_OF_VIEW / 2)

    def pixels(self, length: float, distance: float) -> float:
        """What a length in metres at a distance takes on the picture."""
        return length / distance * self._focal_pixels

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, 3) of the fixed frame → pixels (N, 2), distances (N,) along the view, negative behind it."""
        seen = (points - self.position) @ self._axes.T
        with np.errstate(divide="ignore", invalid="ignore"):
            return seen[:, :2] / seen[:, 2:] * self._focal_pixels + np.array(SIZE) / 2, seen[:, 2]


def render(path: Path, messages: dict[str, Any]) -> np.ndarray:
    """RGB picture (H, W, 3) of the displays for whose topics there are messages; images stand on the left."""
    displays, view, options = read_config(path)
    camera = Camera(view)
    picture = np.full((SIZE[1], SIZE[0], 3), [int(v) for v in options["Background Color"].split(";")], np.uint8)
    panels = []
    for display in displays:
        message = messages.get(display.topic)
        if message is None:
            continue
        if display.type.endswith("/Image"):
            panels.append(np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3))
        elif display.type.endswith("/PointCloud2"):
            _draw_cloud(picture, camera, message, display.settings["Size (Pixels)"])
        elif display.type.endswith("/MarkerArray"):
            _draw_markers(picture, camera, message)
        else:
            _draw_axes(picture, camera, message, display.settings["Axes Length"])
    left = [cv2.resize(p, (SIZE[0] // 2, round(SIZE[0] / 2 * p.shape[0] / p.shape[1]))) for p in panels]
    column = np.vstack(left) if left else np.zeros((SIZE[1], 0, 3), np.uint8)
    column = np.pad(column, ((0, max(SIZE[1] - len(column), 0)), (0, 0), (0, 0)))[: SIZE[1]]
    return np.hstack([column, picture])


def _draw_cloud(picture: np.ndarray, camera: Camera, message: Any, size: int) -> None:
    table = read_cloud(message)
    pixels, distance = camera.project(np.stack([table["x"], table["y"], table["z"]], -1).astype(float))
    order = np.argsort(-distance, kind="stable")  # far to near: the nearer point is drawn last
    order = order[distance[order] > 0.01]
    corner = np.rint(pixels[order]).astype(int)
    packed = table["rgb"].view(np.uint32)[order]
    colors = np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], -1).astype(np.uint8)
    for dx, dy in np.ndindex(size, size):
        x, y = corner[:, 0] + dx, corner[:, 1] + dy
        inside = (x >= 0) & (x < SIZE[0]) & (y >= 0) & (y < SIZE[1])
        picture[y[inside], x[inside]] = colors[inside]


def _draw_markers(picture: np.ndarray, camera: Camera, message: Any) -> None:
    shown = [marker for marker in message.markers if marker.action == marker.ADD]
    around = np.random.default_rng(0).normal(size=(400, 3))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    for marker in sorted(shown, key=lambda m: (m.type == m.TEXT_VIEW_FACING, -camera.project(_position(m.pose)[None])[1][0])):
        color = [round(255 * getattr(marker.color, c)) for c in "rgb"]
        if marker.type == marker.SPHERE:
            scale = np.array([marker.scale.x, marker.scale.y, marker.scale.z])
            surface = (around * scale / 2) @ _rotation(marker.pose).T + _position(marker.pose)
            outline = cv2.convexHull(np.rint(camera.project(surface)[0]).astype(np.int32))
            filled = cv2.fillConvexPoly(picture.copy(), outline, color)
            picture[:] = np.rint(picture * (1 - marker.color.a) + filled * marker.color.a).astype(np.uint8)
            cv2.polylines(picture, [outline], True, (20, 20, 20), 1, cv2.LINE_AA)
        elif marker.type == marker.TEXT_VIEW_FACING:
            (at,), (distance,) = camera.project(_position(marker.pose)[None])
            size = camera.pixels(marker.scale.z, distance) / 22  # OpenCV's letters are 22 pixels high
            (width, _), _ = cv2.getTextSize(marker.text, 0, size, 1)
            cv2.putText(picture, marker.text, (round(at[0] - width / 2), round(at[1])), 0, size, color, 1, cv2.LINE_AA)


def _draw_axes(picture: np.ndarray, camera: Camera, message: Any, length: float) -> None:
    for pose in message.poses:
        ends = _position(pose) + np.vstack([np.zeros(3), length * _rotation(pose).T])
        at = [tuple(p) for p in np.rint(camera.project(ends)[0]).astype(int).tolist()]
        for end, color in zip(at[1:], ((255, 0, 0), (0, 255, 0), (0, 0, 255))):
            cv2.line(picture, at[0], end, color, 2, cv2.LINE_AA)


def _position(pose: Any) -> np.ndarray:
    return np.array([pose.position.x, pose.position.y, pose.position.z])


def _rotation(pose: Any) -> np.ndarray:
    q = pose.orientation
    return Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()


def main() -> None:
    """Render the shipped configuration with the bundled bag's first frame."""
    import sys

    from instseg_ros.bags import read_frames
    from instseg_ros.methods import load_segmenter
    from instseg_ros.nodes.outputs import OUTPUTS
    from instseg_ros.resources import find_bag, find_model, share_directory

    item = next(iter(read_frames(find_bag(""))))
    frame = getattr(item, "frame", item)
    instances = load_segmenter(find_model(""), "cpu").segment(frame)
    messages = {f"/instseg/{output.topic}": output.make(frame, instances) for output in OUTPUTS}
    picture = render(share_directory() / "config" / "bin_picking.rviz", messages)
    cv2.imwrite(sys.argv[1], picture[..., ::-1])


if __name__ == "__main__":
    main()
