"""One camera from the start of its streams to their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import InputError
from .conversion import ENCODINGS
from .parameters import CameraParameters, Profile
from .realsense import load

SIZES_SHOWN = 12
JITTER = 2.0
"""Milliseconds, beside half a period, by which frames taken together may lie apart."""


class Stream:
    """Depth and colour of one device, synchronised by librealsense's pipeline.

    Args:
        device: ``rs.device``.
        context: ``rs.context`` that the device is of; None = a new one.
        wanted: the node's parameters.

    Attributes:
        profiles: what is streamed, ``rs.video_stream_profile``: depth, and colour where it is wanted.

    Raises:
        InputError: the camera does not offer what is asked for.
        RuntimeError: of librealsense, for a device that is busy or gone.
    """

    def __init__(self, device: Any, context: Any, wanted: CameraParameters) -> None:
        rs = load()
        self.profiles = [choose(device, rs.stream.depth, ["z16"], wanted.depth_profile)]
        if wanted["enable_color"]:
            self.profiles.append(choose(device, rs.stream.color, list(ENCODINGS), wanted.color_profile))
        config = rs.config()
        for p in self.profiles:
            config.enable_stream(p.stream_type(), p.stream_index(), p.width(), p.height(), p.format(), p.fps())
        self._pipeline = rs.pipeline() if context is None else rs.pipeline(context)
        self._pipeline.set_device(device)
        self._pipeline.start(config)

    def wait(self, seconds: float) -> Any | None:
        """The next frameset with all streams, None if none came in time. RuntimeError of librealsense."""
        came, frames = self._pipeline.try_wait_for_frames(round(seconds * 1000))
        return frames.as_frameset() if came else None

    def complete(self, frames: Any) -> bool:
        """Whether a frameset has a frame of each stream, taken at one moment.

        The pipeline fills a set up with an older frame where one is late, and sends the set again when that has come.
        """
        taken = [frames.first_or_default(profile.stream_type()) for profile in self.profiles]
        if not all(taken):
            return False
        if len({frame.get_frame_timestamp_domain() for frame in taken}) > 1:
            return True  # nothing to compare
        times = [frame.get_timestamp() for frame in taken]
        return max(times) - min(times) <= 500.0 / min(profile.fps() for profile in self.profiles) + JITTER

    def close(self) -> None:
        """Stop the streams."""
        try:
            self._pipeline.stop()
        except RuntimeError:  # a device that is gone cannot be told
            pass


def choose(device: Any, stream: Any, formats: Sequence[str], wanted: Profile) -> Any:
    """The profile of ``stream`` that fits ``wanted``, the earliest of ``formats`` and the camera's defaults first.

    Raises:
        InputError: there is none; the message lists what there is.
    """
    offered = [
        profile.as_video_stream_profile()
        for sensor in device.query_sensors()
        for profile in sensor.get_stream_profiles()
        if profile.stream_type() == stream and profile.is_video_stream_profile() and profile.format().name in formats
    ]
    name = describe(device)
    if not offered:
        remedy = " set enable_color and align_depth.enable to false" if stream.name == "color" else " use a depth camera"
        raise InputError(f"{name} has no {stream.name} stream of format {', '.join(formats)}:{remedy}")
    default = next((p for p in offered if p.is_default()), offered[0])
    fitting = [p for p in offered if all(w in (0, o) for w, o in zip((wanted.width, wanted.height, wanted.fps), _shape(p)))]
    if not fitting:
        sizes = sorted({"x".join(map(str, _shape(p))) for p in offered}, key=lambda s: [int(n) for n in s.split("x")])
        shown = ", ".join(sizes[:SIZES_SHOWN]) + (", …" if len(sizes) > SIZES_SHOWN else "")
        raise InputError(f"{name} has no {stream.name} stream of {wanted}: choose one of {shown}")
    size = _shape(default)[:2]
    return min(fitting, key=lambda p: (_shape(p)[:2] != size, formats.index(p.format().name), abs(p.fps() - default.fps())))


def describe(device: Any) -> str:
    """Name and serial number."""
    rs = load()
    return f"{info(device, rs.camera_info.name) or 'camera'} {info(device, rs.camera_info.serial_number)}".strip()


def info(device: Any, key: Any) -> str:
    """A line that the device says about itself, empty where it does not."""
    return device.get_info(key) if device.supports(key) else ""


def _shape(profile: Any) -> tuple[int, int, int]:
    return profile.width(), profile.height(), profile.fps()
