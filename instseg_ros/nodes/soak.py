"""The listener of ``instseg bench soak --minutes``: starts the camera, hears camera and segmenter, ends the camera, and adds up.

The camera comes with ``autostart:=false``. It is activated when everybody is connected, so that no frame goes to nobody; every
answer's age is taken when it arrives; at the end the camera is deactivated, so that both nodes' counters come to rest, and they
are read from ``/diagnostics``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2

from ..errors import InputError
from ..files import write_json
from . import runner
from .connections import SETTLE
from .messages import stamp_ns
from .parameters import Spec, declare, values

SPECS = {
    "seconds": Spec(1800.0, "How long, from the first answer on."),
    "report": Spec("", "File for the JSON report."),
    "camera": Spec("/camera/camera", "Name of the camera node."),
    "segmenter": Spec("/instseg", "Name of the segmenter node."),
    "patience": Spec(180.0, "Seconds to wait for the first answer, and for the nodes to come to rest."),
}
SETTLED = 3
"""Diagnostics with the same counters after which a node is at rest."""
COUNTERS = {
    "camera": ("frames", "published", "incomplete", "failed", "dropped", "reconnects"),
    "segmenter": ("received", "answered", "replaced_by_newer", "skipped", "depth_images"),
}


class SoakNode(Node):
    """Hears masks and instances, as a grasp planner does."""

    def __init__(self, **options: Any) -> None:
        super().__init__("soak", **options)
        declare(self, SPECS, read_only=True)
        self.wanted = values(self, SPECS)
        self._lock = threading.Lock()
        self._ages: list[float] = []
        self._times: list[float] = []
        self._instances = 0
        self._heard: dict[str, list[dict[str, str]]] = {"camera": [], "segmenter": []}

    def start(self) -> bool:
        """Subscribe."""
        segmenter = self.wanted["segmenter"]
        self.create_subscription(Image, f"{segmenter}/masks", self._on_masks, QoSProfile(depth=10))
        self.create_subscription(PointCloud2, f"{segmenter}/instances", self._on_instances, QoSProfile(depth=10))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=20))
        self._depth = f"{self.wanted['camera']}/aligned_depth_to_color/image_raw"
        self._change = self.create_client(ChangeState, f"{self.wanted['camera']}/change_state")
        return True

    def close(self) -> None:
        """See ``Runnable``."""

    def work(self, stop: threading.Event) -> int:
        """Start the camera, listen, end the camera, write the report."""
        self._wait(stop, lambda: bool(self.count_publishers(f"{self.wanted['segmenter']}/masks")), "no segmenter came")
        self._move_camera(stop, Transition.TRANSITION_CONFIGURE)
        self._wait(stop, lambda: bool(self.count_subscribers(self._depth)), f"nobody subscribed to {self._depth}")
        stop.wait(SETTLE)
        self._move_camera(stop, Transition.TRANSITION_ACTIVATE)
        self._wait(stop, lambda: bool(self._times), "no answer came")
        stop.wait(max(0.0, self._times[0] + self.wanted["seconds"] - time.monotonic()) if self._times else 0.0)
        end = time.monotonic()
        if stop.is_set():
            return 1
        self._move_camera(stop, Transition.TRANSITION_DEACTIVATE)
        self._wait(stop, lambda: all(map(self._at_rest, self._heard)), "the counters did not come to rest")
        write_json(self.wanted["report"], self._report(end))
        return 0

    def _move_camera(self, stop: threading.Event, transition: int) -> None:
        """Take a step of the camera's lifecycle."""
        self._wait(stop, self._change.service_is_ready, f"{self.wanted['camera']} offered no change_state")
        future = self._change.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self._wait(stop, future.done, f"{self.wanted['camera']} did not answer")
        if not stop.is_set() and not future.result().success:
            raise InputError(f"{self.wanted['camera']} refused transition {transition}: see its log")

    def _wait(self, stop: threading.Event, holds: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + self.wanted["patience"]
        while not holds() and not stop.wait(0.05):
            if time.monotonic() > limit:
                raise InputError(f"{what} within {self.wanted['patience']:g} s: see the logs of camera and segmenter")

    def _at_rest(self, role: str) -> bool:
        with self._lock:
            last = self._heard[role][-SETTLED:]
        if len(last) < SETTLED or (role == "camera" and last[0]["state"] != "inactive"):
            return False
        if role == "segmenter" and last[0]["pending"] != "0":
            return False
        return all(values[name] == last[0][name] for values in last for name in COUNTERS[role])

    def _report(self, end: float) -> dict[str, Any]:
        with self._lock:
            counts = {role: {name: int(heard[-1][name]) for name in COUNTERS[role]} for role, heard in self._heard.items()}
            skipped = {k: int(v) for k, v in self._heard["segmenter"][-1].items() if k.startswith("skipped_")}
            ages = np.array(self._ages)
            return {
                "first_answer_at_s": self._times[0],
                "end_at_s": end,
                "answers_heard": len(ages),
                "instances_heard": self._instances,
                "age_s": {"median": float(np.median(ages)), "p99": float(np.percentile(ages, 99)), "oldest": float(ages.max())},
                **counts,
                "skipped": skipped,
                "camera_name": self._heard["camera"][-1]["name"],
                "method": self._heard["segmenter"][-1]["method"],
            }

    def _on_masks(self, masks: Image) -> None:
        with self._lock:
            self._ages.append(time.time() - stamp_ns(masks.header) * 1e-9)
            self._times.append(time.monotonic())

    def _on_instances(self, _: PointCloud2) -> None:
        self._instances += 1

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            role = next((r for r in self._heard if status.name.startswith(f"{self.wanted[r].lstrip('/')}: ")), None)
            if role is not None:
                with self._lock:
                    self._heard[role].append({pair.key: pair.value for pair in status.values})
                    del self._heard[role][:-SETTLED]


def main(args: Sequence[str] | None = None) -> int:
    """``python -m instseg_ros.nodes.soak``."""
    return runner.run(lambda: [SoakNode()], args)


if __name__ == "__main__":
    raise SystemExit(main())
