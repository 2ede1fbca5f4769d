"""Ports of Fast DDS in shared memory that were left behind after ``kill -9``: tell those who still use them.

A process that starts takes over the port of one that was killed: Fast DDS removes the file and makes a new one of the same name,
but does not mark the old one as out of order (``SharedMemGlobal::open_port_internal``, up to 3.6 at least; eProsima/Fast-DDS
issues 5053 and 5469, pull request 4737). Whoever has mapped the old file goes on writing into it. Fast DDS notices only where
the dead reader was waiting for a message or in the middle of one. If it was killed between the two, or if others took the port
over in the same moment, reader and writers stay apart for good, over any number of restarts. Who uses a port that is marked
opens it anew by its name.

Layout: ``PortNode`` of ``SharedMemGlobal.hpp``, the same from Fast DDS 2.6 (Humble) to 3.6. Memory that does not look like that is
left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import struct
import threading
from pathlib import Path
from typing import BinaryIO

from .shared_memory import FOLDER

PERIOD = 1.0
"""Seconds between two looks."""
_NAME = re.compile(r"fast(?:dds|rtps)_port(\d+)")  # rtps: Fast DDS 2
_LOCKS = ("_el", "_sl")
"""Endings of the lock files: of a port with one reader, and with several."""
_GONE = re.compile(rf"([0-9a-f]+)-.* {FOLDER}/{_NAME.pattern} \(deleted\)")
"""A line of /proc/self/maps."""
_NODE = struct.Struct("<7I")
"""Port, readers, health check ms, wait ms (a third of it), descriptors, waiting readers, flags."""
_FLAGS = _NODE.size - 4
_OK, _ALL = 1, 7
_SEARCHED = 4096
"""Bytes; the node lies near the begin of the memory, behind what the allocator keeps there."""


def mark_dead_ports() -> None:
    """Mark every port that no process reads from; to be called before a node takes one of them over."""
    for path in FOLDER.glob("fast*_port*"):
        if (name := _NAME.fullmatch(path.name)) is None:
            continue
        for lock in (path.with_name(path.name + ending) for ending in _LOCKS):
            try:
                with lock.open() as held, path.open("r+b") as file:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _mark(file, 0, int(name[1]))
            except OSError:  # no such lock, or its reader has it; gone meanwhile, or another user's
                continue


class PortWatch:
    """Marks the ports whose files are gone among those that this process has mapped: its own, and those that it writes to."""

    def __init__(self) -> None:
        self._suspects: set[tuple[int, int]] = set()

    def look(self) -> None:
        """Look once. Only what was gone at the last look, too, is marked: Fast DDS itself may be about to let go of it."""
        lines = Path("/proc/self/maps").read_text().splitlines()
        found = [_GONE.fullmatch(line) for line in lines if line.endswith("(deleted)")]
        gone = {(int(mapping[1], 16), int(mapping[2])) for mapping in found if mapping}
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            for address, number in gone & self._suspects:
                with contextlib.suppress(OSError):  # unmapped by now
                    _mark(memory, address, number)
        self._suspects = gone

    def run(self, stop: threading.Event) -> None:
        """Look every second until ``stop`` is set."""
        while not stop.wait(PERIOD):
            try:
                self.look()
            except OSError:  # no /proc, or writing to it is forbidden: nothing can be done
                return


def _mark(file: BinaryIO, begin: int, number: int) -> None:
    """Mark the port ``number`` whose memory begins at ``begin``. OSError where it cannot be read or written."""
    file.seek(begin)
    memory = file.read(_SEARCHED)
    for at in range(0, len(memory) - _NODE.size, 4):
        port, _, check, wait, descriptors, _, flags = _NODE.unpack_from(memory, at)
        if port == number and check > 0 and wait == check // 3 and descriptors > 0 and flags <= _ALL and flags & _OK:
            file.seek(begin + at + _FLAGS)
            file.write(bytes([flags & ~_OK]))
            return
