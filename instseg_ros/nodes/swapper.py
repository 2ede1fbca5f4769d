"""Plays frames at a fixed rate and has the segmenter change its model meanwhile, to and fro: the node behind ``instseg bench swap``."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image

from ..bags import BagFrames
from ..errors import InputError
from ..files import write_json
from . import runner
from .connections import SETTLE
from .messages import frame_to_messages, stamp_ns
from .outputs import NEWEST_RELIABLE
from .parameters import Spec, declare, values

SPECS = {
    "bag": Spec("", "Frames to play, over and over."),
    "rate": Spec(0.0, "Frames a second; 0 = half of what the segmenter reaches."),
    "models": Spec([""], "Models to change to, in turn."),
    "swaps": Spec(20, "How many changes."),
    "frames_between": Spec(10, "Frames between a change and the next."),
    "report": Spec("", "File for a JSON report."),
}
TOPICS = {"depth/image": Image, "depth/camera_info": CameraInfo, "color/image": Image}
PATIENCE = 120.0
"""Seconds to wait for the segmenter at the start, and for a change."""
SAMPLES = 6
"""Answers from which the segmenter's speed is taken."""
LOST = 10.0
"""Seconds after which a frame was not heard."""


class SwapperNode(Node):
    """Publishes, calls ``/instseg/set_parameters`` and notes when what was sent, answered and changed."""

    def __init__(self, **options: Any) -> None:
        super().__init__("swapper", **options)
        declare(self, SPECS, read_only=True)
        self._wanted = values(self, SPECS)
        self._inputs = [self.create_publisher(type_, name, 10) for name, type_ in TOPICS.items()]
        self._client = self.create_client(SetParameters, "/instseg/set_parameters")
        self._answers: list[tuple[int, float]] = []
        self._answered = threading.Event()
        self.create_subscription(Image, "/instseg/masks", self._on_masks, NEWEST_RELIABLE)

    def start(self) -> bool:
        """Read the frames."""
        self._frames = [frame for frame, _ in BagFrames(self._wanted["bag"])]
        return True

    def close(self) -> None:
        """Nothing to close."""

    def work(self, stop: threading.Event) -> int:
        """Play until all changes are made, then write the report."""
        rate = self._measure(stop)
        sent: list[tuple[int, float]] = []
        swaps: list[tuple[float, float]] = []
        models = itertools.cycle(self._wanted["models"])
        future, since = None, 0
        period, due = 1.0 / rate, time.monotonic()
        for frame in itertools.cycle(self._frames):
            stop.wait(max(0.0, due - time.monotonic()))
            due += period
            if stop.is_set() or (len(swaps) == self._wanted["swaps"] and since == self._wanted["frames_between"]):
                break
            sent.append(self._send(frame))
            if future is None:
                since += 1
                if since == self._wanted["frames_between"] and len(swaps) < self._wanted["swaps"]:
                    begin, future = time.monotonic(), self._change(next(models))
            elif future.done():
                swaps.append((begin, self._done(future)))
                future, since = None, 0
            elif time.monotonic() - begin > PATIENCE:
                raise InputError(f"the segmenter did not change its model within {PATIENCE:.0f} s")
        stop.wait(SETTLE)
        write_json(self._wanted["report"], {"rate_hz": rate, "sent": sent, "answers": self._answers, "swaps": swaps})
        return 0

    def _measure(self, stop: threading.Event) -> float:
        """Wait for the segmenter, and see how fast it is. Returns the rate at which to play."""
        limit, latencies = time.monotonic() + PATIENCE, []
        while len(latencies) < SAMPLES and not stop.is_set():
            if time.monotonic() > limit:
                raise InputError(f"the segmenter did not answer within {PATIENCE:.0f} s")
            self._answered.clear()
            stamp, begin = self._send(self._frames[0])
            if self._answered.wait(LOST) and self._answers[-1][0] == stamp and self._client.service_is_ready():
                latencies.append(self._answers[-1][1] - begin)
        return self._wanted["rate"] or 0.5 / float(np.median(latencies[1:]))

    def _send(self, frame: Any) -> tuple[int, float]:
        """Publish a frame with the time of now. Returns its stamp and the monotonic time."""
        stamp = time.time_ns()
        depth, info, color = frame_to_messages(replace(frame, stamp_ns=stamp))
        begin = time.monotonic()
        for publisher, message in zip(self._inputs, (depth, info, color)):
            if message is not None:
                publisher.publish(message)
        return stamp, begin

    def _change(self, model: str) -> Any:
        future = self._client.call_async(SetParameters.Request(parameters=[Parameter("model", value=model).to_parameter_msg()]))
        future.add_done_callback(lambda done: setattr(done, "at", time.monotonic()))
        return future

    def _done(self, future: Any) -> float:
        (result,) = future.result().results
        if not result.successful:
            raise InputError(f"the segmenter refused: {result.reason}")
        return future.at

    def _on_masks(self, message: Image) -> None:
        self._answers.append((stamp_ns(message.header), time.monotonic()))
        self._answered.set()


def main(args: Sequence[str] | None = None) -> int:
    """``python -m instseg_ros.nodes.swapper``."""
    return runner.run(lambda: [SwapperNode()], args)


if __name__ == "__main__":
    raise SystemExit(main())
