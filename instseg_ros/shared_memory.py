"""Room for images in the shared memory of Fast DDS: the shipped profile, made to fit where /dev/shm is small.

Every process takes its whole segment at once. Docker gives a container 64 MB unless it is told otherwise: with segments
of 64 MB none would fit, Fast DDS would fall back to UDP without a word, and best-effort images would be lost.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from .errors import InputError
from .files import write_atomic
from .resources import share_directory

OLD_FAST_DDS = ("humble", "iron", "jazzy")
"""Distributions with Fast DDS 2, which knows the variable by its old name only; the new ones warn of that."""
_OLD = os.environ.get("ROS_DISTRO") in OLD_FAST_DDS
VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE" if _OLD else "FASTDDS_DEFAULT_PROFILES_FILE"
"""Names the file with the profiles that a process takes."""
FOLDER = Path("/dev/shm")
PARTICIPANTS = 4
"""Processes that should fit: player or camera, segmenter, evaluator, and one to look at it."""
MARGIN = 0.8
SMALLEST = 6 << 20
"""Bytes of a segment that holds one 640x480 frame with all its topics; measured: 8 MB lose nothing in lockstep."""
NEWBORN = 3.0
"""Seconds. A younger lock file may be about to be locked by the process that made it."""
_SIZE = re.compile(r"(<segment_size>)(\d+)(</segment_size>)")
_SEGMENT_LOCK = re.compile(r"fast(dds|rtps)_[0-9a-f]{16}_el")  # rtps: Fast DDS 2
_MESSAGE = re.compile(r"(<maxMessageSize>)(\d+)(</maxMessageSize>)")


def fitting_profile(folder: str | Path | None = None) -> Path:
    """The profile to put in the environment variable ``VARIABLE``.

    Args:
        folder: where a smaller copy is written if the shipped one does not fit; None = a place of this user's in /tmp.

    Returns:
        the user's own profile if the environment names one, the shipped one if there is room, else the copy.

    Raises:
        InputError: there is no room even for small segments.
    """
    shipped = share_directory() / "config" / "fastdds_shm.xml"
    named = os.environ.get(VARIABLE)
    if named and Path(named).resolve() != shipped.resolve():
        return Path(named)
    text = shipped.read_text()
    size = segment_size(int(_SIZE.search(text)[2]))  # type: ignore[index]
    if size is None:
        return shipped
    message = min(size, int(_MESSAGE.search(text)[2]))  # type: ignore[index]
    copy = Path(folder or Path(tempfile.gettempdir()) / f"instseg_ros-{os.getuid()}") / shipped.name
    adapted = _MESSAGE.sub(rf"\g<1>{message}\g<3>", _SIZE.sub(rf"\g<1>{size}\g<3>", text))
    write_atomic(copy, lambda temporary: temporary.write_text(adapted))
    return copy


def segment_size(wanted: int) -> int | None:
    """Bytes of a segment of which ``PARTICIPANTS`` fit into /dev/shm; None = ``wanted`` fits. InputError: too small."""
    if not FOLDER.is_dir():
        return None
    if shutil.disk_usage(FOLDER).free * MARGIN < PARTICIPANTS * wanted:
        remove_dead_segments()
    size = int(shutil.disk_usage(FOLDER).free * MARGIN / PARTICIPANTS)
    if size < SMALLEST:
        free, need = shutil.disk_usage(FOLDER).free >> 20, round(PARTICIPANTS * SMALLEST / MARGIN) >> 20
        raise InputError(
            f"{FOLDER} has {free} MB free, images need {need}: start the container with --shm-size=512m, or empty it"
        )
    return None if size >= wanted else size


def remove_dead_segments() -> None:
    """Remove the shared memory of Fast DDS processes that were killed: their lock files are no longer locked.

    Segments only, whose names are never used again. Ports (``fastdds_port7411``) are: a process that starts takes over the one
    that a dead process left. If it were removed meanwhile, listener and senders could end up with different memory of the same
    name; ``shared_memory_ports`` sees to it that they do not.
    """
    for lock in FOLDER.glob("fast*_el"):
        try:
            if not _SEGMENT_LOCK.fullmatch(lock.name) or time.time() - lock.stat().st_mtime < NEWBORN:
                continue
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.with_name(lock.name.removesuffix("_el")).unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
        except OSError:  # in use, removed meanwhile, or another user's
            continue
