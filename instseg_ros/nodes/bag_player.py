"""The bag_player node: publishes what a rosbag2 holds, and /clock, timed as recorded or in lockstep with the answers.

Lockstep: the next frame is played when every topic of ``answers`` has answered the one before with an equal stamp, so
that a slow segmenter loses no frame and a fast one does not wait. Messages go out as they were recorded (CDR bytes);
compressed images also raw, as image_transport's republish would make them.

State on ``~/state`` (diagnostic_msgs/DiagnosticStatus, latched): waiting, playing, finished, with the counts.
"""

from __future__ import annotations

if __name__ == "__main__":  # ahead of the imports that take long
    from .executables import run

    raise SystemExit(run("bag_player"))

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from ..bags import Bag, Bundle, Message, bundles, find_topics
from ..bags.reader import header_stamp
from ..errors import InputError
from ..files import write_json
from ..resources import find_bag
from . import runner
from .bag_output import LATCHED, RELIABLE, BagOutput
from .connections import SETTLE, Connections
from .lockstep import Answers
from .parameters import Spec, declare, values

SPECS = {
    "bag": Spec("", "Bag to play: a folder, an .mcap or a .db3 file; empty = the bundled one."),
    "lockstep": Spec(False, "Play a frame when the one before has been answered, instead of by the clock."),
    "rate": Spec(1.0, "Speed of timed playing, 1 = as recorded."),
    "passes": Spec(1, "How many times to play the bag, 0 = for ever."),
    "answers": Spec(["/instseg/masks"], "Lockstep: topics that answer each frame with a message of its stamp."),
    "answer_timeout": Spec(10.0, "Lockstep: seconds to wait for an answer before the frame counts as unanswered."),
    "subscribers": Spec(1, "Subscribers of the depth topic to wait for before playing."),
    "wait_for_subscribers": Spec(60.0, "Seconds to wait for them, 0 = do not wait."),
    "clock": Spec(True, "Publish /clock."),
    "decompress": Spec(True, "Publish compressed images also raw, where the bag does not hold them raw."),
    "exit_when_done": Spec(True, "End the process after the last pass."),
    "depth_topic": Spec("", "Depth topic in the bag, empty = found by name and type."),
    "info_topic": Spec("", "Camera info topic in the bag, empty = found by name and type."),
    "color_topic": Spec("", "Color topic in the bag, empty = found by name and type."),
    "report": Spec("", "File for a JSON report of every frame's latency, empty = none."),
}
CLOCK_PERIOD = 0.01
"""Seconds between two messages on /clock in timed playing."""
DIAGNOSTICS_WAIT = 3.0
"""Seconds to wait for the segmenter's last diagnostics, which come once a second, for the report."""


class BagPlayerNode(Node):
    """Plays one bag. ``start`` opens it, ``work`` plays it in the main thread."""

    def __init__(self, **options: Any) -> None:
        super().__init__("bag_player", **options)
        declare(self, SPECS, read_only=True)
        self.wanted = values(self, SPECS)
        self._check()
        self.played = self.unanswered = 0
        self.latencies: list[float] = []
        self.answered_at: list[float] = []
        self.answers = Answers(self.wanted["answers"] if self.wanted["lockstep"] else [])
        self._state = self.create_publisher(DiagnosticStatus, "~/state", LATCHED)
        self._diagnostics: dict[str, str] = {}
        self._stop = threading.Event()

    def _check(self) -> None:
        wanted = self.wanted
        for name, low in (
            ("rate", 1e-3),
            ("answer_timeout", 1e-3),
            ("passes", 0),
            ("subscribers", 0),
            ("wait_for_subscribers", 0),
        ):
            if not wanted[name] >= low:
                raise InputError(f"{name} must be at least {low:g}, got {wanted[name]:g}")
        if wanted["lockstep"] and not (wanted["answers"] and all(wanted["answers"])):
            raise InputError(
                f"answers is {list(wanted['answers'])}: lockstep needs topics that answer, such as /instseg/masks"
            )

    # ------------------------------------------------------------------------------------------------ start and end

    def start(self) -> bool:
        """Open the bag and offer its topics. InputError for a bag that cannot be played."""
        wanted = self.wanted
        self._bag = Bag(find_bag(wanted["bag"]))
        self.topics = find_topics(
            self._bag, depth=wanted["depth_topic"], info=wanted["info_topic"], color=wanted["color_topic"] or None
        )
        self.frames = self._bag.counts[self.topics.depth]
        self._output = BagOutput(self, self._bag, self.topics, decompress=wanted["decompress"], clock=wanted["clock"])
        if wanted["report"]:
            self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self._announce("waiting")
        return True

    def close(self) -> None:
        """Close the bag."""
        if hasattr(self, "_bag"):
            self._bag.close()

    def _connections(self) -> Connections:
        wanted = self.wanted
        return Connections(
            self,
            self._output,
            answers=self.answers.topics,
            on_answer=lambda topic, data: self.answers.answer(topic, header_stamp(data)),
            subscribers=wanted["subscribers"],
            patience=wanted["wait_for_subscribers"],
        )

    def work(self, stop: threading.Event) -> int:
        """Play. Returns the exit status: 0 = every frame was played, and answered in lockstep; 1 = not."""
        self._stop = stop
        if not self._connections().wait(stop):
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

    # ------------------------------------------------------------------------------------------------ playing

    def _play_timed(self) -> None:
        rate = self.wanted["rate"]
        begin, first = time.monotonic(), None
        for message in self._bag.messages():
            first = message.log_ns if first is None else first
            due = begin + (message.log_ns - first) * 1e-9 / rate
            while (left := due - time.monotonic()) > 0 and not self._stop.is_set():
                self._output.tell_time(message.log_ns - round(left * rate * 1e9))
                self._stop.wait(min(left, CLOCK_PERIOD))
            if self._stop.is_set():
                return
            self._output.tell_time(message.log_ns)
            self._output.send(message)
            if message.topic == self.topics.depth:
                self.played += 1
                self._announce("playing")

    def _play_lockstep(self) -> None:
        for bundle in bundles(self._bag.messages(), self.topics):
            if self._stop.is_set():
                return
            self._output.tell_time(bundle.depth.stamp_ns)
            for message in _in_order(bundle):
                self._output.send(message)
            self._ask(bundle.depth)
            self.played += 1
            self._announce("playing")

    def _ask(self, depth: Message) -> None:
        """Play the depth image and wait for its answers."""
        outgoing = self._output.prepare(depth)
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
            f"frame {self.played + 1} (stamp {depth.stamp_ns * 1e-9:.3f}) was not answered on {', '.join(missing)} "
            f"within {self.wanted['answer_timeout']:g} s"
        )

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
            text += (
                f", {np.median(self.latencies) * 1e3:.1f} ms from depth published to {self.answers.topics[0]} (median)"
            )
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


def main(args: Sequence[str] | None = None) -> int:
    """Executable ``bag_player``."""
    return runner.run(lambda: [BagPlayerNode()], args)
