"""A rosbag2 as a stream of undecoded messages, in the order in which they were recorded."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import InputError


@dataclass(frozen=True, eq=False)
class Message:
    """One recorded message.

    Attributes:
        topic: its name.
        log_ns: when it was recorded (ns).
        stamp_ns: stamp of its header (ns), ``log_ns`` for types without one.
        data: CDR bytes, as they were on the wire.
    """

    topic: str
    log_ns: int
    stamp_ns: int
    data: bytes


class Bag:
    """A rosbag2: a directory with metadata.yaml, or a single .mcap or .db3 file. Use as a context manager.

    Attributes:
        path: where it lies.
        types: topic → message type, ``package/msg/Name``.
        counts: topic → number of messages.
        duration_ns: from the first message to the last.

    Raises:
        InputError: missing, truncated, corrupt or not a bag; the message says which and what to do.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _check_path(self.path)
        from rosbags.rosbag2 import Reader

        with self._readable():
            self._reader = Reader(self.path)
            self._reader.open()
            self.types = {connection.topic: connection.msgtype for connection in self._reader.connections}
            self.counts = dict.fromkeys(self.types, 0)
            for connection in self._reader.connections:
                self.counts[connection.topic] += connection.msgcount
            if not all(isinstance(text, str) for item in self.types.items() for text in item):
                raise TypeError("topics without a name or type")  # SQLite gives what it finds
        self.duration_ns = max(0, self._reader.duration - 1) if self._reader.message_count else 0

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        if self._reader.is_open:
            self._reader.close()

    def messages(self, topics: Sequence[str] | None = None) -> Iterator[Message]:
        """Messages of ``topics`` (None = all) in the order of their recording."""
        wanted = [c for c in self._reader.connections if topics is None or c.topic in topics]
        stamped = {topic for topic, type_name in self.types.items() if has_header(type_name)}
        if not wanted:
            return
        with self._readable():
            for connection, log_ns, data in self._reader.messages(wanted):
                topic = connection.topic
                yield Message(topic, log_ns, header_stamp(data) if topic in stamped else log_ns, data)

    def decode(self, message: Message) -> Any:
        """The message's fields, an object with the attributes that rclpy's would have."""
        type_name = self.types[message.topic]
        try:
            return typestore().deserialize_cdr(message.data, type_name)
        except Exception as error:  # the library checks nothing: what it raises depends on which bytes are wrong
            raise InputError(
                f"{self.path}: the message on {message.topic} at {message.log_ns} ns is not a {type_name} ({error!r}): "
                "the bag is corrupt, record it again"
            ) from None

    def listing(self) -> str:
        """The topics in one line, for messages."""
        return ", ".join(f"{t} ({self.types[t]}, {self.counts[t]})" for t in sorted(self.types)) or "no topic"

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # as above: assertions, struct, YAML, SQL, zstd, …
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{self.path} cannot be read as a rosbag2 ({reason}): it is truncated or corrupt, "
                "try `ros2 bag reindex` or record it again"
            ) from None


@lru_cache(maxsize=1)
def typestore() -> Any:
    """Message definitions; the ones used here have been the same since Humble."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_KILTED)


def has_header(type_name: str) -> bool:
    """Whether messages of this type begin with a std_msgs/Header."""
    if type_name == "std_msgs/msg/Header":
        return True
    _, fields = typestore().fielddefs.get(type_name, ([], []))
    return bool(fields) and fields[0][0] == "header" and fields[0][1][1] == "std_msgs/msg/Header"


def header_stamp(data: bytes) -> int:
    """Stamp (ns) of a CDR message that begins with a header, without decoding the rest.

    Behind four bytes of encapsulation (the second says the byte order) stand int32 seconds and uint32 nanoseconds.
    """
    if len(data) < 12:
        raise InputError(f"a message of {len(data)} bytes is too short for a header")
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return seconds * 1_000_000_000 + nanoseconds


def _check_path(path: Path) -> None:
    if not path.exists():
        raise InputError(f"bag {path} does not exist")
    if path.is_dir():
        if not (path / "metadata.yaml").is_file():
            raise InputError(
                f"{path} is not a rosbag2, it has no metadata.yaml: give the bag's own folder, or `ros2 bag reindex` it"
            )
    elif path.name == "metadata.yaml":
        raise InputError(f"{path} is a part of a bag: give its folder {path.parent}")
    elif path.suffix == ".bag":
        raise InputError(
            f"{path} is a ROS 1 bag: convert it with `rosbags-convert --src {path} --dst {path.with_suffix('')}`"
        )
    elif path.suffix not in (".mcap", ".db3"):
        raise InputError(f"{path} is not a rosbag2: give a bag folder, an .mcap or a .db3 file")
