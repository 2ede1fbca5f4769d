"""Ports that were left behind: what is marked, and what is not. The same with real nodes: ``test_faults_processes.py``."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from pathlib import Path

import pytest

from instseg_ros import shared_memory_ports
from instseg_ros.shared_memory_ports import PortWatch, mark_dead_ports

OK, MARKED = 7, 6
NUMBER = 7411
FOLDER = Path("/dev/shm")


def port_memory(number=NUMBER, flags=OK, at=276, wait=333):
    """The begin of a port as Fast DDS 3.2 writes it (the fields' values were read from one)."""
    memory = bytearray(os.urandom(at)) + struct.pack("<7I", number, 1, 1000, wait, 512, 0, flags)
    return bytes(memory) + os.urandom(8192 - len(memory))


def flags(memory, at=276):
    return memory[at + 24]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory_ports, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [f"fastdds_port{NUMBER}", f"fastrtps_port{NUMBER}"])
@pytest.mark.parametrize("lock", ["_el", "_sl"])
@pytest.mark.parametrize("at", [276, 200, 1000])
def test_a_port_whose_reader_is_dead_is_marked_and_nothing_else_changes(folder, name, lock, at):
    before = port_memory(at=at)
    (folder / name).write_bytes(before)
    (folder / f"{name}{lock}").touch()
    mark_dead_ports()
    after = (folder / name).read_bytes()
    assert flags(after, at) == MARKED
    assert after[: at + 24] + bytes([OK]) + after[at + 25 :] == before


@pytest.mark.parametrize("mode", [fcntl.LOCK_EX, fcntl.LOCK_SH])
def test_a_port_that_is_read_from_is_left_alone(folder, mode):
    before = port_memory()
    (folder / f"fastdds_port{NUMBER}").write_bytes(before)
    lock = folder / f"fastdds_port{NUMBER}{'_el' if mode == fcntl.LOCK_EX else '_sl'}"
    lock.touch()
    with lock.open() as held:
        fcntl.flock(held, mode)
        mark_dead_ports()
    assert (folder / f"fastdds_port{NUMBER}").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (f"fastdds_port{NUMBER}", port_memory(number=NUMBER + 2)),
        (f"fastdds_port{NUMBER}", port_memory(wait=500)),
        (f"fastdds_port{NUMBER}", port_memory(flags=1 << 20)),
        (f"fastdds_port{NUMBER}", port_memory(at=6000)),
        (f"fastdds_port{NUMBER}", b""),
        ("fastdds_0123456789abcdef", port_memory()),
        ("fastdds_portal", port_memory()),
    ],
    ids=["another number", "wait", "flags", "far from the begin", "empty", "segment", "another name"],
)
def test_what_does_not_look_like_a_port_is_left_alone(folder, name, content):
    (folder / name).write_bytes(content)
    (folder / f"{name}_el").touch()
    mark_dead_ports()
    assert (folder / name).read_bytes() == content


def test_a_port_without_a_lock_is_left_alone(folder):
    before = port_memory()
    (folder / f"fastdds_port{NUMBER}").write_bytes(before)
    mark_dead_ports()
    assert (folder / f"fastdds_port{NUMBER}").read_bytes() == before


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no /dev/shm")
def test_a_port_that_this_process_uses_is_marked_once_its_file_is_gone_for_two_looks():
    number = 10**6 + os.getpid()  # beyond any of Fast DDS
    path = FOLDER / f"fastdds_port{number}"
    before = port_memory(number=number)
    path.write_bytes(before)
    try:
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        watch = PortWatch()
        for _ in range(3):
            watch.look()
        assert memory[:] == before  # its name still leads to it
    finally:
        path.unlink()
    watch.look()
    assert memory[:] == before  # Fast DDS may be about to let go of it
    watch.look()
    assert flags(memory) == MARKED and memory[: 276 + 24] == before[: 276 + 24] and memory[276 + 25 :] == before[276 + 25 :]
    memory.close()
