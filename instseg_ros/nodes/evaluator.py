"""The evaluator node: a segmenter's answers against truth topics, by equal stamps → metrics, latency, pictures.

Callbacks only note arrival times and keep the bytes; scoring runs in the main thread. ``~/scored`` (std_msgs/Header)
tells when a frame is done: a bag_player in lockstep that waits for it, too, keeps scoring out of the next frame's
latency.

The run ends when bag_player reports ``finished``, after ``idle_timeout``, or on Ctrl-C; metrics.json is written then.
"""

from __future__ import annotations

if __name__ == "__main__":  # ahead of the imports that take long
    from .executables import run

    raise SystemExit(run("evaluator"))

import queue
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_msgs.msg import Header, String

from ..bags import topics as bag_topics
from ..bags.decoding import decode_part_names
from ..bags.reader import header_stamp
from ..errors import InputError
from ..files import write_json
from . import runner
from .bag_output import LATCHED, RELIABLE
from .complaints import Complaints
from .pairing import Collected, Pairing
from .parameters import Spec, declare, values
from .scoring import TYPES, Scoring

SPECS = {
    "out": Spec("", "Folder for metrics.json and pictures, empty = only the log."),
    "picture_every": Spec(5, "A picture of each n-th frame, 0 = none."),
    "segmenter": Spec("/instseg", "Name of the segmenter node, below which its answers are."),
    "truth": Spec("/truth", "Name below which the truth topics are."),
    "depth_topic": Spec(bag_topics.DEPTH, "Depth images that the segmenter answers."),
    "color_topic": Spec(bag_topics.COLOR, "Color images for the pictures; also its /compressed."),
    "player": Spec("/bag_player", "Name of the bag_player whose end ends the run."),
    "idle_timeout": Spec(0.0, "Seconds without an answer after which the run ends, 0 = never."),
    "exit_when_done": Spec(True, "End the process when the run ends."),
}
ANY_PUBLISHER = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
PROGRESS_PERIOD = 1.0
"""Seconds between two lines of progress."""
CONNECTION_PERIOD = 0.1
"""Seconds between two looks at the connections."""
LINGER = 0.5
"""Seconds for which messages may still come after the player's end."""
ALWAYS = frozenset({"depth", "masks", "instances"})
COLORS = frozenset({"color", "compressed_color"})


class EvaluatorNode(Node):
    """Scores one run."""

    def __init__(self, **options: Any) -> None:
        super().__init__("evaluator", **options)
        declare(self, SPECS, read_only=True)
        self.wanted = values(self, SPECS)
        if self.wanted["picture_every"] < 0:
            raise InputError(f"picture_every must be at least 0, got {self.wanted['picture_every']}")
        folder = Path(self.wanted["out"]).expanduser() if self.wanted["out"] else None
        self.folder = folder
        self.scoring = Scoring(folder, self.wanted["picture_every"])
        self._complaints = Complaints(self.get_logger())
        self._frames: queue.SimpleQueue[Collected] = queue.SimpleQueue()
        self._player: dict[str, str] = {}
        self._segmenter: dict[str, str] = {}
        self._finished = threading.Event()
        self._last_message = time.monotonic()
        self._errors = 0
        segmenter, truth = self.wanted["segmenter"], self.wanted["truth"]
        self._topics = {
            "depth": self.wanted["depth_topic"],
            "color": self.wanted["color_topic"],
            "compressed_color": f"{self.wanted['color_topic']}/compressed",
            "masks": f"{segmenter}/masks",
            "instances": f"{segmenter}/instances",
            "layers": f"{segmenter}/amodal_layers",
            "true_masks": f"{truth}/masks",
            "true_layers": f"{truth}/amodal_layers",
            "true_instances": f"{truth}/instances",
        }
        self._pairing = Pairing(self._expected, once="masks")
        self._inputs: dict[str, Subscription] = {}
        self._scored: Publisher | None = None

    def start(self) -> bool:
        """Subscribe."""
        if self.scoring.missing:
            self.get_logger().warning(self.scoring.missing)
        for kind, topic in self._topics.items():
            qos = ANY_PUBLISHER if kind in COLORS | {"depth"} else RELIABLE
            subscription = self.create_subscription(TYPES[kind], topic, partial(self._on_message, kind), qos, raw=True)
            self._inputs[kind] = subscription
        self.create_subscription(String, f"{self.wanted['truth']}/part_names", self._on_part_names, RELIABLE)
        self.create_subscription(DiagnosticStatus, f"{self.wanted['player']}/state", self._on_player, LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self.create_timer(CONNECTION_PERIOD, self._offer, clock=Clock(clock_type=ClockType.STEADY_TIME))
        return True

    def close(self) -> None:
        """Nothing to close."""

    def work(self, stop: threading.Event) -> int:
        """Score until the run ends. Returns 0, or 1 when not a single frame was answered."""
        said, done = 0.0, False
        while not done:
            done = stop.is_set() or self._over()
            try:
                frame = self._frames.get(timeout=0.1)
            except queue.Empty:
                continue
            done = False
            text = self._score(frame)
            if text and time.monotonic() - said > PROGRESS_PERIOD:
                said = time.monotonic()
                self.get_logger().info(f"frame {self.scoring.counts['answered']}{self._of_total()}: {text}")
        for frame in self._pairing.flush():
            self._score(frame)
        result = self._result()
        if self.folder is not None:
            write_json(self.folder / "metrics.json", result)
        self.get_logger().info(describe(result))
        if not self.wanted["exit_when_done"]:
            stop.wait()
        return int(result["frames"]["answered"] == 0)

    def _over(self) -> bool:
        quiet = time.monotonic() - self._last_message
        idle = self.wanted["idle_timeout"]
        heard = self.scoring.counts["answered"] > 0
        return (self._finished.is_set() and quiet > LINGER) or (idle > 0 and heard and quiet > idle)

    def _score(self, frame: Collected) -> str:
        try:
            text = self.scoring.add(frame)
        except InputError as error:
            self._errors += 1
            self._complaints.warn("frame", f"frame {frame.stamp_ns * 1e-9:.3f} is not scored: {error}")
            text = ""
        if self._scored is not None and "masks" in frame.messages:
            seconds, nanoseconds = divmod(frame.stamp_ns, 1_000_000_000)
            self._scored.publish(Header(stamp=Time(sec=seconds, nanosec=nanoseconds)))
        return text

    def _result(self) -> dict:
        result = self.scoring.result()
        result["frames"] |= {"duplicates": self._pairing.duplicates, "refused": self._errors}
        if "frames" in self._player:
            result["player"] = {key: int(value) for key, value in self._player.items()}
        if self._segmenter:
            result["segmenter"] = self._segmenter
        return result

    def _of_total(self) -> str:
        return f" of {self._player['frames']}" if "frames" in self._player else ""

    # ------------------------------------------------------------------------------------------------ messages

    def _expected(self) -> set[str]:
        """Kinds of messages that a frame needs: those that somebody publishes. Pictures do not wait for colour."""
        optional = self._topics.keys() - ALWAYS - COLORS
        return ALWAYS | {kind for kind in optional if self.count_publishers(self._topics[kind])}

    def _offer(self) -> None:
        """Offer ``~/scored`` once everything is connected: a player that waits for that topic loses no first frame."""
        if self._scored is None and all(_connections(self, self._inputs[kind]) for kind in self._expected()):
            self._scored = self.create_publisher(Header, "~/scored", LATCHED)

    def _on_message(self, kind: str, data: bytes) -> None:
        self._last_message = time.monotonic()
        for frame in self._pairing.add(kind, header_stamp(data), data):
            self._frames.put(frame)

    def _on_part_names(self, message: String) -> None:
        try:
            self.scoring.part_names.update(decode_part_names(message.data))
        except InputError as error:
            self._complaints.warn("part_names", str(error))

    def _on_player(self, status: DiagnosticStatus) -> None:
        self._player = {pair.key: pair.value for pair in status.values}
        if status.message == "finished":
            self._last_message = time.monotonic()
            self._finished.set()

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            values = {pair.key: pair.value for pair in status.values}
            if "segment_ms_median" in values and status.name.startswith(self.wanted["segmenter"].lstrip("/")):
                self._segmenter = values


def _connections(node: Node, subscription: Subscription) -> int:
    """Publishers that the subscription is connected to; before Jazzy, those that exist."""
    if hasattr(subscription, "get_publisher_count"):
        return subscription.get_publisher_count()
    return node.count_publishers(subscription.topic_name)


def describe(result: dict) -> str:
    """The result in one line."""
    frames, latency = result["frames"], result["latency_ms"]
    parts = [f"{frames['answered']} of {frames['seen']} frames answered"]
    if frames["scored"]:
        figures = (("mIoU", "mIoU"), ("AP", "AP"), ("AP50", "AP50"), ("centroid_mm_median", "centroid error mm"))
        parts += [f"{title} {result[key]:.3f}" for key, title in figures if result[key] is not None]
    if latency["median"] is not None:
        parts.append(f"latency {latency['median']:.0f} ms (p90 {latency['p90']:.0f})")
    return ", ".join(parts)


def main(args: Sequence[str] | None = None) -> int:
    """Executable ``evaluator``."""
    return runner.run(lambda: [EvaluatorNode()], args)
