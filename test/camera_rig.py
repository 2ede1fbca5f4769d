"""A camera node over software devices and a client that hears its topics; views whose aligned depth is known by arithmetic."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from conftest import open_context
from diagnostic_msgs.msg import DiagnosticArray
from node_rig import wait_until
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from instseg_ros.nodes.camera.node import CameraNode
from instseg_ros.nodes.camera.realsense import load
from instseg_ros.nodes.camera.software import SoftwareCamera, SoftwareCameras
from instseg_ros.nodes.camera.views import NUDGE, Lens, Views
from instseg_ros.nodes.messages import stamp_ns
from instseg_ros.nodes.runner import Spinner

HEIGHT, WIDTH, FOCAL, BASELINE = 120, 160, 300.0, 0.0415
FLOOR, BOX = 800, 600
"""Millimetres; the second imager sees them 15.6 and 20.8 pixels further right, and librealsense rounds down."""
ROWS, COLUMNS = slice(30, 80), slice(50, 100)
HOLE = (slice(40, 44), slice(60, 64))
IMAGES = {"color": "color/image_raw", "depth": "depth/image_rect_raw", "aligned": "aligned_depth_to_color/image_raw"}
INFOS = {name: f"{topic.rsplit('/', 1)[0]}/camera_info" for name, topic in IMAGES.items()}


def lens(cx: float = 79.5) -> Lens:
    return Lens(np.array([[FOCAL, 0, cx], [0, FOCAL, 59.5], [0, 0, 1]]), (HEIGHT, WIDTH))


def depth_image(hole: bool = True) -> np.ndarray:
    """(H, W) uint16 mm of the depth imager: a box on a floor, with a hole in it."""
    image = np.full((HEIGHT, WIDTH), FLOOR, np.uint16)
    image[ROWS, COLUMNS] = BOX
    if hole:
        image[HOLE] = 0
    return image


def color_image() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def aligned_truth(image: np.ndarray) -> np.ndarray:
    """What the colour imager, ``BASELINE`` beside the other, sees of it: each reading moves by f b / z, the nearest wins."""
    found = np.full(image.shape, 65535)
    for z in (FLOOR, BOX):
        shift = int(FOCAL * BASELINE / (z * 1e-3))
        moved = np.zeros_like(image)
        moved[:, shift:] = np.where(image == z, image, 0)[:, :-shift]
        found = np.where((moved > 0) & (moved < found), moved, found)
    return np.where(found == 65535, 0, found)


def box_views(images: list[np.ndarray] | None = None, *, baseline: float = BASELINE, units: float = 0.001) -> Views:
    pictures = [(image, color_image()) for image in (images or [depth_image()])]
    return Views(lens(), lens(), pictures, np.array([baseline, NUDGE, 0.0]), units)


def counting_views(count: int) -> Views:
    """Each view is one depth, 500 mm and one more from view to view."""
    return box_views([np.full((HEIGHT, WIDTH), 500 + i, np.uint16) for i in range(count)], baseline=0.0)


def record(path: Path, views: Views, fps: float = 30.0, begin_ms: float = 1_600_000_000_000.0) -> Path:
    """Record each view once with librealsense; time stamps are ``fps`` apart."""
    rs = load()
    camera = SoftwareCamera(views, serial="1234", fps=0)
    recorder = rs.recorder(str(path), camera.device)
    pipeline = rs.pipeline()
    pipeline.set_device(recorder)
    pipeline.start()
    for i in range(len(views.images)):
        camera.send(begin_ms + i * 1000 / fps)
        assert pipeline.try_wait_for_frames(5000)[0]
    pipeline.stop()
    recorder.pause()
    return path


class CameraClient(Node):
    """Hears cameras.

    Attributes:
        heard: topic → messages, in order.
    """

    def __init__(self, context: object) -> None:
        super().__init__("client", context=context)
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self.status: dict[str, dict[str, str]] = {}
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(self)
        self._spinner = Spinner(executor)
        self._spinner.start()

    def hear(self, node: CameraNode, *names: str) -> None:
        """Subscribe to images and infos of a camera, and wait for the connections."""
        base = node.get_fully_qualified_name()
        for name in names:
            for topic, kind in ((f"{base}/{IMAGES[name]}", Image), (f"{base}/{INFOS[name]}", CameraInfo)):
                self.create_subscription(kind, topic, self.heard[topic].append, QoSProfile(depth=100))
                (publisher,) = (p for p in node.publishers if p.topic_name == topic)
                wait_until(lambda: publisher.get_subscription_count() > 0, f"the node to know that {topic} is heard")

    def wait_for(self, topic: str, count: int = 1) -> list[Any]:
        wait_until(lambda: len(self.heard[topic]) >= count, lambda: f"{topic}: {len(self.heard[topic])} of {count}; {self.status}")
        return self.heard[topic]

    def wait_for_status(self, holds: Any, node: str = "camera/camera") -> dict[str, str]:
        wait_until(lambda: node in self.status and holds(self.status[node]), lambda: f"a certain status; {self.status}")
        return self.status[node]

    def end(self) -> None:
        self._spinner.stop()
        self.destroy_node()

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        (status,) = array.status
        values = {pair.key: pair.value for pair in status.values} | {"level": str(status.level[0]), "message": status.message}
        self.status[status.name.removesuffix(": camera")] = values


class CameraRig:
    """Camera nodes in one context, their client in another.

    Args:
        domain: ROS domain.
        cameras: software cameras that may be plugged in.
    """

    def __init__(self, domain: int, *cameras: SoftwareCamera) -> None:
        self._contexts = contextlib.ExitStack()
        self._context, other = (self._contexts.enter_context(open_context(domain)) for _ in range(2))
        self.cameras = cameras
        self.client = CameraClient(other)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._spinner = Spinner(self._executor)
        self._spinner.start()
        self.nodes: list[CameraNode] = []

    def add(self, *, name: str = "camera", hear: tuple[str, ...] = ("aligned",), start: bool = True, **parameters: Any) -> CameraNode:
        """A node. With cameras it looks among these; else its parameters say where. ``a__b`` stands for parameter ``a.b``."""
        overrides = [Parameter(key.replace("__", "."), value=value) for key, value in parameters.items()]
        options: dict[str, Any] = {"context": self._context, "parameter_overrides": overrides}
        if name != "camera":
            options["cli_args"] = ["--ros-args", "-r", f"__node:={name}"]
        if self.cameras:
            options["open_source"] = lambda wanted: SoftwareCameras(self.cameras, wanted["serial_no"])
        node = CameraNode(**options)
        self.nodes.append(node)
        self._executor.add_node(node)
        if start or hear:
            assert node.trigger_configure().name == "SUCCESS"
        self.client.hear(node, *hear)
        if start:
            assert node.trigger_activate().name == "SUCCESS"
        return node

    def show(self, node: CameraNode, topic: str = "aligned", camera: int = 0) -> Image:
        """Have a camera send its next view; the image that the node makes of it."""
        name = f"{node.get_fully_qualified_name()}/{IMAGES[topic]}"
        before = len(self.client.heard[name])
        self.ready(node)
        self.cameras[camera].send()
        return self.client.wait_for(name, before + 1)[before]

    def ready(self, node: CameraNode) -> None:
        """Wait until a node's camera is open."""
        wait_until(lambda: node._statistics.connection in ("connected", "streaming"), lambda: node._statistics.missing)

    def end(self) -> None:
        for node in self.nodes:
            node.close()
        self._spinner.stop()
        for node in self.nodes:
            node.destroy_node()
        self.client.end()
        for camera in self.cameras:
            camera.stop()
        self._contexts.close()


def pixels(image: Image) -> np.ndarray:
    """Pixels of an rgb8 or 16UC1 image."""
    if image.encoding == "rgb8":
        return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    assert image.encoding == "16UC1"
    return np.frombuffer(image.data, np.uint16).reshape(image.height, image.width)


def age(message: Any) -> float:
    """Seconds since the message's stamp."""
    return time.time() - stamp_ns(message.header) * 1e-9
