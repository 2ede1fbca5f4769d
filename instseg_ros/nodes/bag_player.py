"""The bag_player node: publishes what a rosbag2 holds, and /clock, timed as recorded or in lockstep with the answers.

Lockstep: the next frame is played when every topic of ``answers`` has answered the one before with an equal stamp, so
that a slow segmenter loses no frame and a fast one does not wait. Messages go out as they were recorded (CDR bytes);
compressed images also raw, as image_transport's republish would make them.

State on ``~/state`` (diagnostic_msgs/DiagnosticStatus, latched): waiting, playing, finished, with the counts.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from ..bags import Bag, Bundle, Message, bundles, find_topics
from ..bags.decompress import raw_image, raw_topic
from ..bags.reader import header_stamp
from ..bags.topics import IMAGE, TRUTH_PARTS
from ..errors import InputError
from ..files import write_json
from ..resources import find_bag
from . import runner
from .lockstep import Answers

PARAMETERS: dict[str, tuple[Any, str]] = {
    "bag": ("", "Bag to play: a folder, an .mcap or a .db3 file; empty = the bundled one."),
    "lockstep": (False, "Play a frame when the one before has been answered, instead of by the clock."),
    "rate": (1.0, "Speed of timed playing, 1 = as recorded."),
    "passes": (1, "How many times to play the bag, 0 = for ever."),
    "answers": (["/instseg/masks"], "Lockstep: topics that answer each frame with a message of its stamp."),
    "answer_timeout": (10.0, "Lockstep: seconds to wait for an answer before the frame counts as unanswered."),
    "subscribers": (1, "Subscribers of the depth topic to wait for before playing."),
    "wait_for_subscribers": (60.0, "Seconds to wait for them, 0 = do not wait."),
    "clock": (True, "Publish /clock."),
    "decompress": (True, "Publish compressed images also raw, where the bag does not hold them raw."),
    "exit_when_done": (True, "End the process after the last pass."),
    "depth_topic": ("", "Depth topic in the bag, empty = found by name and type."),
    "info_topic": ("", "Camera info topic in the bag, empty = found by name and type."),
    "color_topic": ("", "Color topic in the bag, empty = found by name and type."),
    "report": ("", "File for a JSON report of every frame's latency, empty = none."),
}
RELIABLE = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
)
LATCHED = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
)
LATCHED_TOPICS = {TRUTH_PARTS, "/tf_static", "/robot_description"}
SETTLE = 1.0
"""Seconds: discovery tells the two sides of a connection about each other at slightly different times, and nobody can see
whether the other side knows."""
CLOCK_PERIOD = 0.01
"""Seconds between two messages on /clock in timed playing."""
DIAGNOSTICS_WAIT = 3.0
"""Seconds to wait for the segmenter's last diagnostics, which come once a second, for the report."""


class BagPlayerNode(Node):
    """Plays one bag. ``start`` opens it, ``work`` plays it in the main thread."""

    def __init__(self, **options: Any) -> None:
        super().__init__("bag_player", **options)
        for name, (default, text) in PARAMETERS.items():
            self.declare_parameter(name, default, ParameterDescriptor(description=text, read_only=True))
        self.wanted = {name: self.get_parameter(name).value for name in PARAMETERS}
        self._check()
        self.played = self.unanswered = 0
        self.latencies: list[float] = []
        self.answered_at: list[float] = []
        self.answers = Answers(self.wanted["answers"] if self.wanted["lockstep"] else [])
        self._state = self.create_publisher(DiagnosticStatus, "~/state", LATCHED)
        self._clock = self.create_publisher(Clock, "/clock", RELIABLE) if self.wanted["clock"] else None
        self._out: dict[str, Publisher] = {}
        self._raw: dict[str, str] = {}
        self._diagnostics: dict[str, str] = {}
        self._bag: Bag | None = None
        self._stop = threading.Event()

    def _check(self) -> None:
        wanted = self.wanted
        for name, low in (("rate", 1e-3), ("answer_timeout", 1e-3), ("passes", 0), ("subscribers", 0), ("wait_for_subscribers", 0)):
            if not wanted[name] >= low:
                raise InputError(f"{name} must be at least {low:g}, got {wanted[name]:g}")
        if wanted["lockstep"] and not (wanted["answers"] and all(wanted["answers"])):
            raise InputError(f"answers is {list(wanted['answers'])}: lockstep needs topics that answer, such as /instseg/masks")

    # ------------------------------------------------------------------------------------------------ start and end

    def start(self) -> bool:
        """Open the bag and offer its topics. InputError for a bag that cannot be played."""
        wanted = self.wanted
        self._bag = bag = Bag(find_bag(wanted["bag"]))
        self.topics = find_topics(
            bag, depth=wanted["depth_topic"], info=wanted["info_topic"], color=wanted["color_topic"] or None
        )
        self.frames = bag.counts[self.topics.depth]
        for topic, type_name in bag.types.items():
            if topic == "/clock":
                continue  # two clocks would fight
            message_type = _message_type(type_name)
            if message_type is None:
                if topic in self.topics.names():
                    raise InputError(f"{topic} needs the package of {type_name}, which is not installed")
                self.get_logger().warning(f"{topic} is not played: {type_name} is not installed here")
                continue
            self._out[topic] = self.create_publisher(message_type, topic, LATCHED if topic in LATCHED_TOPICS else RELIABLE)
            raw = raw_topic(bag, topic) if wanted["decompress"] else None
            if raw is not None:
                self._raw[topic] = raw
                self._out[raw] = self.create_publisher(_message_type(IMAGE), raw, RELIABLE)
        if wanted["report"]:
            self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self._announce("waiting")
        return True

    def close(self) -> None:
        """Close the bag."""
        if self._bag is not None:
            self._bag.close()

    def work(self, stop: threading.Event) -> int:
        """Play. Returns the exit status: 0 = every frame was played, and answered in lockstep; 1 = not."""
        self._stop = stop
        if not self._ready():
            return 0
        self._announce("playing")
        begin = time.monotonic()
        done = 0
        while not stop.is_set() and (self.wanted["passes"] == 0 or done < self.wanted["passes"]):
            self._play_lockstep() if self.wanted["lockstep"] else self._play_timed()
            done += 1
        if self.wanted["lockstep"]:
            stop.wait(0.1)  # a second answer to the last frame would come about now
        self._announce("finished")
        self._summary(time.monotonic() - begin)
        if self.wanted["report"]:
            self._write_report()
        if not self.wanted["exit_when_done"]:
            stop.wait()
        stop.wait(SETTLE)  # let the state reach its readers before it is taken back
        return int(self.unanswered > 0)

    def _ready(self) -> bool:
        """Wait until those who should hear the first frame do; False when the process is told to end."""
        patience = self.wanted["wait_for_subscribers"]
        limit = time.monotonic() + patience
        if self.wanted["lockstep"]:
            self._listen(limit)
        since: float | None = None
        while patience > 0 and not self._stop.is_set():
            missing, now = self._missing() or self._unconnected(), time.monotonic()
            since = None if missing else (since or now)
            if since is not None and now - since >= SETTLE:
                break
            if now > limit and missing:
                if self.wanted["lockstep"] and self._missing():
                    raise InputError(f"after {patience:g} s {missing}: start the segmenter, or raise wait_for_subscribers")
                self.get_logger().warning(f"after {patience:g} s {missing}: playing all the same")
                break
            self._stop.wait(0.05)
        return not self._stop.is_set()

    def _listen(self, limit: float) -> None:
        """Subscribe to the answers, whose types are known once somebody offers them."""
        left = list(self.answers.topics)
        while left and not self._stop.is_set():
            types = dict(self.get_topic_names_and_types())
            for topic in [topic for topic in left if topic in types]:
                message_type = _message_type(types[topic][0])
                if message_type is None:
                    raise InputError(f"answers: {topic} is a {types[topic][0]}, which is not installed")
                # Latched answers are taken as such: the first one may come before the connection is complete.
                offered = {info.qos_profile.durability for info in self.get_publishers_info_by_topic(topic)}
                qos = LATCHED if offered == {DurabilityPolicy.TRANSIENT_LOCAL} else RELIABLE
                self.create_subscription(message_type, topic, partial(self._on_answer, topic), qos, raw=True)
                left.remove(topic)
            if left and self.wanted["wait_for_subscribers"] > 0 and time.monotonic() > limit:
                raise InputError(
                    f"after {self.wanted['wait_for_subscribers']:g} s nobody publishes {', '.join(left)}: start the segmenter, "
                    "or raise wait_for_subscribers"
                )
            self._stop.wait(0.05)

    def _missing(self) -> str:
        """What is still missing, in words; empty when all are there."""
        heard = self._out[self.topics.depth].get_subscription_count()
        if (raw := self._raw.get(self.topics.depth)) is not None:
            heard += self._out[raw].get_subscription_count()
        if heard < self.wanted["subscribers"]:
            return f"{self.topics.depth} has {heard} of {self.wanted['subscribers']} subscribers"
        silent = [topic for topic in self.answers.topics if not self.count_publishers(topic)]
        return f"nobody publishes {', '.join(silent)}" if silent else ""

    def _unconnected(self) -> str:
        """Subscribers that are known but not connected yet, in words; empty when there are none."""
        for topic, publisher in self._out.items():
            if publisher.get_subscription_count() < self.count_subscribers(topic):
                return f"{topic} is not connected to all of its subscribers (does their QoS fit reliable, volatile?)"
        return ""

    # ------------------------------------------------------------------------------------------------ playing

    def _play_timed(self) -> None:
        assert self._bag is not None
        rate = self.wanted["rate"]
        begin, first = time.monotonic(), None
        for message in self._bag.messages():
            first = message.log_ns if first is None else first
            due = begin + (message.log_ns - first) * 1e-9 / rate
            while (left := due - time.monotonic()) > 0 and not self._stop.is_set():
                self._publish_clock(message.log_ns - round(left * rate * 1e9))
                self._stop.wait(min(left, CLOCK_PERIOD))
            if self._stop.is_set():
                return
            self._publish_clock(message.log_ns)
            self._send(message)
            if message.topic == self.topics.depth:
                self.played += 1
                self._announce("playing")

    def _play_lockstep(self) -> None:
        assert self._bag is not None
        for bundle in bundles(self._bag.messages(), self.topics):
            if self._stop.is_set():
                return
            self._publish_clock(bundle.depth.stamp_ns)
            for message in _in_order(bundle):
                self._send(message)
            self._ask(bundle.depth)
            self.played += 1
            self._announce("playing")

    def _ask(self, depth: Message) -> None:
        """Play the depth image and wait for its answers."""
        outgoing = self._outgoing(depth)
        self.answers.ask(depth.stamp_ns)
        begin = time.monotonic()
        for publisher, data in outgoing:
            publisher.publish(data)
        limit = begin + self.wanted["answer_timeout"]
        while not self.answers.wait(0.2):
            if self._stop.is_set():
                return
            if time.monotonic() > limit:
                self._give_up(depth)
                return
        came = self.answers.times()[self.answers.topics[0]]
        self.latencies.append(came - begin)
        self.answered_at.append(came)

    def _give_up(self, depth: Message) -> None:
        self.unanswered += 1
        missing = self.answers.missing()
        gone = [topic for topic in missing if not self.count_publishers(topic)]
        if gone:
            raise InputError(f"nobody publishes {', '.join(gone)} any more: see the log of the node that did")
        self.get_logger().warning(
            f"frame {self.played + 1} (stamp {depth.stamp_ns * 1e-9:.3f}) was not answered on {', '.join(missing)} within "
            f"{self.wanted['answer_timeout']:g} s"
        )

    def _send(self, message: Message) -> None:
        for publisher, data in self._outgoing(message):
            publisher.publish(data)

    def _outgoing(self, message: Message) -> list[tuple[Publisher, bytes]]:
        """The message as recorded and, where somebody listens to it, decompressed."""
        assert self._bag is not None
        outgoing = [(self._out[message.topic], message.data)] if message.topic in self._out else []
        raw = self._raw.get(message.topic)
        if raw is not None and self._out[raw].get_subscription_count():
            outgoing.append((self._out[raw], raw_image(self._bag, message)))
        return outgoing

    def _publish_clock(self, now_ns: int) -> None:
        if self._clock is not None:
            seconds, nanoseconds = divmod(max(now_ns, 0), 1_000_000_000)
            self._clock.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))

    def _on_answer(self, topic: str, data: bytes) -> None:
        self.answers.answer(topic, header_stamp(data))

    # ------------------------------------------------------------------------------------------------ telling

    def counts(self) -> dict[str, int]:
        """frames in the bag; played; in lockstep answered, unanswered, duplicate and stray answers."""
        counts = {"frames": self.frames, "played": self.played}
        if self.wanted["lockstep"]:
            counts |= {
                "answered": len(self.latencies),
                "unanswered": self.unanswered,
                "duplicates": self.answers.duplicates,
                "strays": self.answers.strays,
            }
        return counts

    def _announce(self, state: str) -> None:
        level = DiagnosticStatus.WARN if self.unanswered else DiagnosticStatus.OK
        values = [KeyValue(key=key, value=str(value)) for key, value in self.counts().items()]
        self._state.publish(DiagnosticStatus(level=level, name="bag_player", message=state, values=values))

    def _summary(self, seconds: float) -> None:
        text = f"played {self.played} frames in {seconds:.1f} s"
        if self.wanted["lockstep"]:
            text += f", {len(self.latencies)} answered, {self.unanswered} unanswered"
        if self.latencies:
            text += f", {np.median(self.latencies) * 1e3:.1f} ms from depth published to {self.answers.topics[0]} (median)"
        self.get_logger().info(text)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            values = {pair.key: pair.value for pair in status.values}
            if "segment_ms_median" in values:
                self._diagnostics = values

    def _write_report(self) -> None:
        """Latencies in milliseconds; the segmenter's own figures come with its diagnostics."""
        self._diagnostics = {}
        limit = time.monotonic() + DIAGNOSTICS_WAIT
        while not self._diagnostics and time.monotonic() < limit and not self._stop.is_set():
            self._stop.wait(0.05)
        write_json(
            self.wanted["report"],
            self.counts()
            | {
                "latency_ms": [round(latency * 1e3, 4) for latency in self.latencies],
                "answered_at_s": self.answered_at,
                "segmenter": self._diagnostics,
            },
        )


def _in_order(bundle: Bundle) -> Iterator[Message]:
    """What belongs to a frame, without its depth image, which goes last."""
    yield from bundle.others
    for message in (bundle.masks, bundle.layers, bundle.instances, bundle.info, bundle.color):
        if message is not None:
            yield message


def _message_type(name: str) -> Any | None:
    """``package/msg/Name`` → class, None where the package is not installed."""
    try:
        package, kind, message = name.split("/")
        return getattr(importlib.import_module(f"{package}.{kind}"), message, None)
    except (ImportError, ValueError):
        return None


def main(args: Sequence[str] | None = None) -> int:
    """Executable ``bag_player``."""
    return runner.run(lambda: [BagPlayerNode()], args)


if __name__ == "__main__":
    raise SystemExit(main())
