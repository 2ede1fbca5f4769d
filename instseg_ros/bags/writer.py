"""Writing a rosbag2 of RealSense-like topics, with truth where there is one."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import clouds, images
from ..bop import Truth
from ..errors import InputError
from ..frame import Frame
from . import topics as names
from .reader import typestore

ZSTD_LEVEL = 6
"""Depth gets a seventh smaller than at the usual 3, for 6 ms a frame (640x480); 19 takes 240 ms for another fifth."""
JPEG_QUALITY = 90


class BagWriter:
    """Writes ``aligned_depth_to_color/image_raw`` (16UC1 mm), its ``camera_info``, ``color/image_raw`` and truth.

    Use as a context manager. The bag (a folder with one .mcap, zstd) appears under its name only when it is whole: an
    exception inside the ``with`` leaves nothing behind.

    Args:
        path: folder to make; must not exist.
        jpeg: write colour as ``color/image_raw/compressed`` (JPEG), a tenth of the size.

    Raises:
        InputError: the folder exists, cannot be written, or the disk is full.
    """

    def __init__(self, path: str | Path, *, jpeg: bool = False) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
        from zstandard import ZstdCompressor

        self.path, self.jpeg = Path(path), jpeg
        if self.path.exists():
            raise InputError(f"{self.path} exists already: choose another name or remove it")
        self._types = typestore().types
        self._connections: dict[str, Any] = {}
        self._part_names: dict[str, str] = {}
        self._last_ns = -1
        self._temporary: Path | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}."))
            # Version 8 is read by every rosbag2 since Humble.
            # The library names the file inside after the folder, so the folder already has its final name.
            self._writer = Writer(self._temporary / self.path.name, version=8, storage_plugin=StoragePlugin.MCAP)
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
        except OSError as error:
            self._remove()
            raise _cannot_write(self.path, error) from error
        self._writer.storage.compressor = ZstdCompressor(level=ZSTD_LEVEL).compress  # type: ignore[union-attr]

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, frame: Frame, truth: Truth | None = None) -> None:
        """Add one frame; its stamp must be later than the one before.

        Of ``truth``, masks go to /truth/masks, and where they are given ``layers`` to /truth/amodal_layers and the
        instances' moments, visible fractions and parts to /truth/instances and /truth/part_names.
        """
        if frame.stamp_ns <= self._last_ns:
            raise InputError(f"stamp {frame.stamp_ns} ns is not later than the one before ({self._last_ns} ns)")
        self._last_ns = frame.stamp_ns
        try:
            if truth is not None:
                self._write_truth(frame, truth)
            self._write(names.INFO, frame.stamp_ns, self._camera_info(frame))
            if frame.color is not None:
                self._write_color(frame)
            # Depth comes last: a player that goes by the bag's order has sent everything that belongs to it.
            depth = images.encode(images.to_millimetres(frame.depth), "16UC1")
            self._write(names.DEPTH, frame.stamp_ns, self._image(frame, depth))
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def close(self) -> None:
        """Finish the bag and give it its name."""
        if self._temporary is None:
            return
        try:
            self._writer.close()
            if not self._connections:
                raise InputError(f"{self.path}: a bag needs at least one frame")
            (self._temporary / self.path.name).rename(self.path)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        finally:
            self._remove()

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._temporary is not None:
            with suppress(Exception):  # whatever is wrong with the unfinished file, it goes now
                self._writer.close()
        self._remove()

    def _remove(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _write(self, topic: str, stamp_ns: int, message: Any) -> None:
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=typestore())
        self._writer.write(self._connections[topic], stamp_ns, typestore().serialize_cdr(message, kind))

    def _header(self, frame: Frame) -> Any:
        stamp = self._types["builtin_interfaces/msg/Time"](*divmod(frame.stamp_ns, 1_000_000_000))
        return self._types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame.frame_id)

    def _image(self, frame: Frame, fields: dict[str, Any]) -> Any:
        return self._types[names.IMAGE](header=self._header(frame), **fields)

    def _write_color(self, frame: Frame) -> None:
        if not self.jpeg:
            self._write(names.COLOR, frame.stamp_ns, self._image(frame, images.encode(frame.color, "rgb8")))
            return
        bgr = cv2.cvtColor(frame.color, cv2.COLOR_RGB2BGR)
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        message = self._types[names.COMPRESSED](
            self._header(frame), format="rgb8; jpeg compressed bgr8", data=data.ravel()
        )
        self._write(f"{names.COLOR}/compressed", frame.stamp_ns, message)

    def _camera_info(self, frame: Frame) -> Any:
        region = self._types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        return self._types[names.CAMERA_INFO](
            header=self._header(frame),
            height=frame.shape[0],
            width=frame.shape[1],
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=frame.K.ravel(),
            r=np.eye(3).ravel(),
            p=np.hstack([frame.K, np.zeros((3, 1))]).ravel(),
            binning_x=0,
            binning_y=0,
            roi=region,
        )

    def _write_truth(self, frame: Frame, truth: Truth) -> None:
        if truth.labels.shape != frame.shape:
            raise InputError(
                f"truth masks are {truth.labels.shape} pixels, depth {frame.shape}: they must be of one camera"
            )
        new = {str(i): name for i, name in zip(truth.object_id.tolist(), truth.part)} | self._part_names
        if new != self._part_names:
            self._part_names = new
            self._write(names.TRUTH_PARTS, frame.stamp_ns, self._types[names.STRING](json.dumps(new, sort_keys=True)))
        self._write(names.TRUTH_MASKS, frame.stamp_ns, self._image(frame, images.encode(truth.labels, "16UC1")))
        if truth.layers is not None:
            self._write(names.TRUTH_LAYERS, frame.stamp_ns, self._image(frame, images.encode_layers(truth.layers)))
        self._write(names.TRUTH_INSTANCES, frame.stamp_ns, self._cloud(frame, truth_table(truth)))

    def _cloud(self, frame: Frame, table: np.ndarray) -> Any:
        field = self._types["sensor_msgs/msg/PointField"]
        return self._types[names.CLOUD](
            header=self._header(frame),
            height=1,
            width=len(table),
            fields=[field(*values) for values in clouds.cloud_fields(table.dtype)],
            is_bigendian=False,
            point_step=table.dtype.itemsize,
            row_step=table.nbytes,
            data=table.view(np.uint8),
            is_dense=False,
        )


def truth_table(truth: Truth) -> np.ndarray:
    """Instance table of the truth, score 1, with the further field ``object_id``."""
    table = np.zeros(len(truth), np.dtype([*clouds.INSTANCE_DTYPE.descr, ("object_id", "<u4")]))
    clouds.fill_moments(table, truth.centroid, truth.covariance)
    table["label"] = np.arange(1, len(truth) + 1)
    table["score"] = 1.0
    table["visible_fraction"] = truth.visible_fraction
    table["depth_order"] = truth.depth_order
    table["pixels"] = np.bincount(truth.labels.ravel(), minlength=len(truth) + 1)[1:]
    table["object_id"] = truth.object_id
    return table


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {error.strerror or error}; choose a folder with space and permission")
