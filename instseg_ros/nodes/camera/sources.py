"""Where devices come from: cameras that are plugged in and out, and recordings."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import InputError
from .realsense import load
from .stream import info

ROSBAG1 = b"#ROSBAG V2.0"


class Pace(Enum):
    """What the time stamps of frames mean."""

    LIVE = "they are captured now"
    RECORDED = "they come as fast as they were captured, long ago"
    NONE = "they come as fast as they are taken"


class Source:
    """Gives one device after the other.

    Attributes:
        pace: what the time stamps of its frames mean.
        context: ``rs.context`` of the devices, None = any.
        changed: set when a device may have come or gone.
    """

    pace = Pace.LIVE
    context: Any = None

    def __init__(self) -> None:
        self.changed = threading.Event()

    def begin(self) -> None:
        """From here on, as if nothing had been found yet."""

    def find(self) -> Any | None:
        """The next device, None when there will be no more. InputError: it is not there yet."""
        raise NotImplementedError

    def gone(self, device: Any) -> bool:
        """Whether the device was unplugged."""
        return False

    def over(self, device: Any) -> bool:
        """Whether there will be no more frames of the device, and that is how it should be."""
        return False

    def started(self, device: Any) -> None:
        """The device streams now."""

    def stopped(self, device: Any) -> None:
        """It does not any more."""

    def close(self) -> None:
        """Let go of everything."""


class Cameras(Source):
    """RealSense cameras on this machine.

    Args:
        serial: of the one that is wanted, empty = the first.
    """

    def __init__(self, serial: str) -> None:
        super().__init__()
        self._serial = serial
        self.context, self._listeners = _this_machine()
        self._listeners.append(self.changed)

    def find(self) -> Any:
        """See ``Source``."""
        return pick(list(self.context.query_devices()), self._serial)

    def gone(self, device: Any) -> bool:
        """See ``Source``."""
        return not device.is_connected()

    def close(self) -> None:
        """See ``Source``."""
        self._listeners.remove(self.changed)


class Recording(Source):
    """A file that librealsense recorded, from its begin to its end or over and over.

    Args:
        path: .db3 (since librealsense 2.58) or .bag.
        loop: whether to begin anew.
        real_time: as fast as it was recorded, leaving out what is not taken in time; else each frame.

    Raises:
        InputError: it is no such file; the message says what to do.
    """

    def __init__(self, path: str | Path, *, loop: bool, real_time: bool) -> None:
        super().__init__()
        self.pace = Pace.RECORDED if real_time else Pace.NONE
        self._path, self._loop, self._real_time = Path(path).expanduser(), loop, real_time
        self._played = False
        check_recording(self._path)
        self._open()

    def begin(self) -> None:
        """See ``Source``."""
        self._played = False

    def find(self) -> Any | None:
        """See ``Source``."""
        if self._played and not self._loop:
            return None
        self._played = True
        device = self._open()
        device.set_real_time(self._real_time)
        device.pause()  # else it plays while the streams are being opened, and the first frames are lost
        return device

    def started(self, device: Any) -> None:
        """See ``Source``."""
        device.resume()

    def over(self, device: Any) -> bool:
        """See ``Source``."""
        return device.current_status() == load().playback_status.stopped

    def _open(self) -> Any:
        try:
            return load().context().load_device(str(self._path))
        except RuntimeError as error:
            raise InputError(f"{self._path} cannot be played: {error}") from None


@cache
def _this_machine() -> tuple[Any, list[threading.Event]]:
    """The context of all cameras, and whom it tells that one came or went. It lives as long as the process: its destructor waits
    for its thread with Python's lock held, and that thread may be waiting for the lock to call back."""
    context, listeners = load().context(), []

    def tell(_event: Any) -> None:
        for listener in list(listeners):
            listener.set()

    context.set_devices_changed_callback(tell)
    return context, listeners


def pick(devices: Sequence[Any], serial: str) -> Any:
    """The device of this serial number, the first one where it is empty. InputError: it is not there."""
    rs = load()
    serials = {info(device, rs.camera_info.serial_number): device for device in devices}
    if serial in serials:
        return serials[serial]
    if serial:
        others = f"; connected: {', '.join(sorted(serials))}" if serials else ""
        raise InputError(f"no camera with serial number {serial} is connected{others}: plug it in, or correct serial_no")
    if not serials:
        raise InputError("no RealSense camera is connected: plug it in; in a container, pass the USB devices on")
    return next(iter(serials.values()))


def check_recording(path: Path) -> None:
    """InputError, saying what to do, for a path that is no recording of librealsense."""
    other = "play it with bag_player (bag:=…), or show it on a software device (software:=…)"
    if not path.exists():
        raise InputError(f"the recording {path} does not exist")
    if path.is_dir() or path.suffix == ".mcap":
        raise InputError(f"{path} is a rosbag2 of ROS topics, not a RealSense recording: {other}")
    if path.suffix == ".db3":
        topics = _topics(path)
        if not any(topic.startswith("/device_") for topic in topics):
            raise InputError(f"{path} is a rosbag2 of ROS topics ({', '.join(topics[:3])} …), not a RealSense recording: {other}")
    elif path.suffix == ".bag":
        with path.open("rb") as file:
            if file.read(len(ROSBAG1)) != ROSBAG1:
                raise InputError(f"{path} is no recording: it does not begin with {ROSBAG1.decode()!r}")
    else:
        raise InputError(f"{path} is no RealSense recording: those end in .db3 (since librealsense 2.58) or .bag")


def _topics(path: Path) -> list[str]:
    """Names of a rosbag2's topics (sqlite3)."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        return [name for (name,) in connection.execute("SELECT name FROM topics ORDER BY name")]
    except sqlite3.Error as error:
        raise InputError(f"{path} is no recording: {error}") from None
    finally:
        connection.close()
