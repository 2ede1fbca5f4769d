"""The thread between camera and topics: finds the camera, opens it, passes its frames on, and finds it again when it was lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from ...errors import InputError, explain
from ..complaints import Complaints
from .filters import FilterChain
from .outputs import CameraOutputs
from .parameters import CameraParameters
from .realsense import load
from .sources import Pace, Source
from .stamps import HostClock
from .statistics import CONNECTED, ENDED, SEARCHING, Camera, CameraStatistics
from .stream import Stream, describe, info

POLL = 0.2
"""Seconds that it waits for a frame before it looks around."""


class Capture:
    """Works from its making until ``stop``.

    Args:
        source: of devices.
        wanted: the node's parameters; ``change`` replaces them.
        outputs: where frames go.
        statistics, complaints: counters and warnings.
        say: writes a line to the log.
    """

    def __init__(
        self,
        source: Source,
        wanted: CameraParameters,
        outputs: CameraOutputs,
        statistics: CameraStatistics,
        complaints: Complaints,
        say: Callable[[str], object],
    ) -> None:
        self._source, self._outputs, self._statistics, self._complaints = source, outputs, statistics, complaints
        self._say = say
        self._wanted = wanted
        self._opened: Camera | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def change(self, wanted: CameraParameters) -> None:
        """Other parameters; filters and timeouts count from the next frame."""
        self._wanted = wanted

    def stop(self) -> None:
        """End after the frame in hand."""
        self._stopping.set()
        self._source.changed.set()
        self._thread.join()

    def _run(self) -> None:
        self._source.begin()
        while not self._stopping.is_set():
            self._source.changed.clear()
            try:
                device = self._source.find()
                if device is None:
                    self._statistics.connect(ENDED)
                    return
                self._serve(device)
            except Exception as error:  # not there, busy, or without the streams that are wanted
                if not self._stopping.is_set():
                    self._miss(explain(error))
                    self._source.changed.wait(self._wanted["reconnect_timeout"])

    def _serve(self, device: Any) -> None:
        """Pass on the frames of a device until it is lost, over, or the node stops."""
        stream = Stream(device, self._source.context, self._wanted)
        try:
            camera = _camera(device, stream)
            self._statistics.connect(CONNECTED, camera)
            self._complaints.forget("camera")
            if camera != self._opened:  # not each time that a recording begins anew
                self._say(f"opened {camera}")
                self._opened = camera
            self._outputs.opened(stream.profiles)
            self._source.started(device)
            why = self._pass_on(stream, device)
        finally:
            self._source.stopped(device)
            stream.close()
        if why:
            self._statistics.lost()
            self._miss(why)

    def _pass_on(self, stream: Stream, device: Any) -> str:
        """Returns why the camera counts as lost; empty: it does not."""
        session = Session(stream, self._outputs, self._statistics, self._source.pace)
        name, last = describe(device), time.monotonic()
        while not self._stopping.is_set():
            try:
                frames = stream.wait(POLL)
            except RuntimeError as error:  # librealsense tries to start a device again by itself that was unplugged
                self._statistics.lost()
                raise InputError(f"{name} broke off ({error}): opening it anew") from None
            if frames is not None:
                last = time.monotonic()
                self._pass(session, frames)
            elif self._source.over(device):
                if time.monotonic() - last > 1.5 * POLL:  # what was on its way has come
                    return ""
            elif self._source.gone(device):
                return f"{name} is gone, unplugged or without power: searching for it"
            elif time.monotonic() - last > self._wanted["frame_timeout"]:
                return f"{name} has sent no frame for {self._wanted['frame_timeout']:g} s: opening it anew"
        return ""

    def _pass(self, session: Session, frames: Any) -> None:
        try:
            session.pass_on(frames, self._wanted)
        except Exception as error:  # whatever a frame holds, the next one may be better
            why = f"frame not published: {explain(error)}"
            self._statistics.frame_failed(why)
            self._complaints.warn("frame", why)

    def _miss(self, why: str) -> None:
        self._opened = None
        self._statistics.connect(SEARCHING, missing=why)
        self._complaints.warn("camera", why)


class Session:
    """What is remembered from frame to frame of one stream.

    Args:
        stream: that the frames are of.
        outputs, statistics: where they go, and are counted.
        pace: what the frames' time stamps mean.
    """

    def __init__(self, stream: Stream, outputs: CameraOutputs, statistics: CameraStatistics, pace: Pace) -> None:
        self._stream, self._outputs, self._statistics, self._pace = stream, outputs, statistics, pace
        self._clock = HostClock()
        self._filters: FilterChain | None = None
        self._number: int | None = None

    def pass_on(self, frames: Any, wanted: CameraParameters) -> None:
        """Filter and publish a frameset."""
        arrived = time.time_ns()
        depth = frames.get_depth_frame()
        number = depth.get_frame_number() if depth else self._number
        if number == self._number or not self._stream.complete(frames):
            self._statistics.frame_received(0)
            self._statistics.frame_incomplete()
            return
        gap = 0 if self._number is None else max(0, number - self._number - 1)
        self._number = number
        self._statistics.frame_received(gap)
        stamp = self._stamp(depth, arrived)
        if self._filters is None or any(wanted[name] != value for name, value in self._filters.settings.items()):
            self._filters = FilterChain(wanted)
        self._outputs.publish(self._filters.process(frames), stamp)
        self._statistics.frame_published()

    def _stamp(self, depth: Any, arrived: int) -> int:
        """When the frame was captured, nanoseconds of the host's clock."""
        rs = load()
        if self._pace is Pace.NONE:
            return arrived
        live = self._pace is Pace.LIVE
        key = rs.frame_metadata_value.time_of_arrival
        if live and depth.supports_frame_metadata(key):
            arrived = min(arrived, depth.get_frame_metadata(key) * 1_000_000)  # when the driver had it
        is_host_time = live and depth.get_frame_timestamp_domain() != rs.timestamp_domain.hardware_clock
        return self._clock.stamp(depth.get_timestamp(), arrived, is_host_time=is_host_time)


def _camera(device: Any, stream: Stream) -> Camera:
    rs = load()
    streams = {p.stream_type().name: f"{p.width()}x{p.height()}x{p.fps()} {p.format().name}" for p in stream.profiles}
    keys = rs.camera_info
    return Camera(
        info(device, keys.name),
        info(device, keys.serial_number),
        info(device, keys.firmware_version),
        info(device, keys.usb_type_descriptor),
        streams["depth"],
        streams.get("color", ""),
    )
