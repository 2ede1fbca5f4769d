"""librealsense's software device as a camera: the test double, and a stand-in where no camera is.

Frames go in where a USB driver would put them; everything behind that (syncer, pipeline, filters, align, recorder) is real.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .realsense import load
from .sources import Source, pick
from .views import Lens, Views

NAME, FIRMWARE, USB = "Software Device", "0.0.0.0", "none"
STEREO_BASELINE = 50.0
"""Millimetres, as of a D435; the disparity filter asks for it."""
DEFAULT_FPS = 30
_unique_ids = itertools.count(1)


class SoftwareCamera:
    """A camera that can be plugged in and out, and sends its views while it streams.

    Args:
        views: what it shows.
        serial: its serial number.
        fps: frames per second; 0 = only those that ``send`` is called for.

    Attributes:
        device: ``rs.software_device``, None while it is unplugged.
        sent: frames sent since it was made.
    """

    def __init__(self, views: Views, *, serial: str = "software", fps: int = DEFAULT_FPS) -> None:
        self.views, self.serial, self.fps = views, serial, fps
        self.sent = 0
        self.device: Any | None = None
        self.listeners: list[threading.Event] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.plug()

    def plug(self) -> None:
        """Appear, as a new device."""
        rs = load()
        device = rs.software_device()
        for key, text in (("name", NAME), ("serial_number", self.serial), ("firmware_version", FIRMWARE), ("usb_type_descriptor", USB)):
            device.register_info(getattr(rs.camera_info, key), text)
        self._depth_sensor, self._color_sensor = device.add_sensor("Stereo Module"), device.add_sensor("RGB Camera")
        fps = self.fps or DEFAULT_FPS
        depth = self._depth_sensor.add_video_stream(_stream(rs, rs.stream.depth, rs.format.z16, 2, self.views.depth, fps), True)
        color = self._color_sensor.add_video_stream(_stream(rs, rs.stream.color, rs.format.rgb8, 3, self.views.color, fps), True)
        self._depth, self._color = depth.as_video_stream_profile(), color.as_video_stream_profile()
        self._depth_sensor.add_read_only_option(rs.option.depth_units, self.views.units)
        self._depth_sensor.add_read_only_option(rs.option.stereo_baseline, STEREO_BASELINE)
        extrinsics = rs.extrinsics()
        extrinsics.rotation, extrinsics.translation = np.eye(3).reshape(-1).tolist(), self.views.baseline.tolist()
        self._depth.register_extrinsics_to(self._color, extrinsics)
        device.create_matcher(rs.matchers.dlr_c)
        self.device = device
        self._tell()

    def unplug(self) -> None:
        """Disappear."""
        self.stop()
        self.device = None
        self._tell()

    def start(self) -> None:
        """Begin to send."""
        if self.fps and self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="software camera", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def send(self, time_ms: float | None = None) -> None:
        """Send the next view.

        Args:
            time_ms: its time stamp, by the host's clock; None = now.
        """
        rs = load()
        time_ms = time.time() * 1e3 if time_ms is None else time_ms
        depth, color = self.views.images[self.sent % len(self.views.images)]
        self.sent += 1
        for sensor, profile, pixels in ((self._depth_sensor, self._depth, depth), (self._color_sensor, self._color, color)):
            frame = rs.software_video_frame()
            frame.pixels = np.ascontiguousarray(pixels)
            frame.bpp = pixels.nbytes // (pixels.shape[0] * pixels.shape[1])
            frame.stride = pixels.shape[1] * frame.bpp
            frame.timestamp, frame.domain, frame.frame_number = time_ms, rs.timestamp_domain.system_time, self.sent
            frame.profile, frame.depth_units = profile, self.views.units
            sensor.on_video_frame(frame)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self.send()
            due = max(due + 1 / self.fps, time.monotonic() - 1 / self.fps)  # a machine that is behind does not catch up in a burst

    def _tell(self) -> None:
        for listener in self.listeners:
            listener.set()


class SoftwareCameras(Source):
    """Software cameras in place of real ones, found in the same way.

    Args:
        cameras: all that may be plugged in; other sources may have the same.
        serial: of the one that is wanted, empty = the first.
    """

    def __init__(self, cameras: Sequence[SoftwareCamera], serial: str = "") -> None:
        super().__init__()
        self._cameras, self._serial = list(cameras), serial
        for camera in self._cameras:
            camera.listeners.append(self.changed)

    def find(self) -> Any:
        """See ``Source``."""
        return pick([camera.device for camera in self._cameras if camera.device is not None], self._serial)

    def gone(self, device: Any) -> bool:
        """See ``Source``."""
        return all(camera.device is not device for camera in self._cameras)

    def started(self, device: Any) -> None:
        """See ``Source``."""
        for camera in self._cameras:
            if camera.device is device:
                camera.start()

    def stopped(self, device: Any) -> None:
        """See ``Source``."""
        for camera in self._cameras:
            if camera.device is device:
                camera.stop()

    def close(self) -> None:
        """See ``Source``."""
        for camera in self._cameras:
            camera.listeners.remove(self.changed)


def _stream(rs: Any, kind: Any, format_: Any, bytes_per_pixel: int, lens: Lens, fps: int) -> Any:
    """Description of a video stream."""
    intrinsics = rs.intrinsics()
    intrinsics.height, intrinsics.width = lens.size
    intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy = lens.K[0, 0], lens.K[1, 1], lens.K[0, 2], lens.K[1, 2]
    intrinsics.model, intrinsics.coeffs = rs.distortion.brown_conrady, [0.0] * 5
    stream = rs.video_stream()
    stream.type, stream.fmt, stream.bpp, stream.fps, stream.index = kind, format_, bytes_per_pixel, fps, 0
    stream.uid = next(_unique_ids)
    stream.height, stream.width = lens.size
    stream.intrinsics = intrinsics
    return stream
