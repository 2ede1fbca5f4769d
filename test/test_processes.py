"""Child processes and shared memory of the commands that start nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest

from instseg_ros import shared_memory
from instseg_ros.errors import InputError
from instseg_ros.processes import NodeProcesses, parameter_arguments, resident_bytes
from instseg_ros.resources import share_directory

STUBBORN = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('up')\ntime.sleep(600)\n"
POLITE = "import time\nprint('up')\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    print('bye')\n"
FAILING = "import sys\nprint('line of the log')\nsys.exit('no such camera')\n"


@pytest.fixture
def start(tmp_path, monkeypatch):
    """``start(nodes, name, code)`` starts a module with this code in place of a node."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def start(nodes, name, code):
        (tmp_path / f"stand_in_{name}.py").write_text(code)
        nodes.environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return nodes.start(name, f"stand_in_{name}", {"a": 1})

    return start


def wait_for(condition):
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_all_nodes_end_with_the_block_politely_or_not(tmp_path, start, monkeypatch):
    monkeypatch.setattr("instseg_ros.processes.GRACE", 0.5)
    with NodeProcesses(tmp_path / "logs") as nodes:
        polite, stubborn = start(nodes, "polite", POLITE), start(nodes, "stubborn", STUBBORN)
        for name in ("polite", "stubborn"):
            wait_for(lambda name=name: "up" in nodes.log(name).read_text())
        nodes.check()
        assert resident_bytes(polite.pid) > 1 << 20
    assert "bye" in nodes.log("polite").read_text() and polite.returncode == 0
    assert stubborn.returncode == -signal.SIGKILL
    with pytest.raises(InputError, match="cannot read the memory"):
        resident_bytes(polite.pid)


def test_a_node_that_dies_is_named_with_the_end_of_its_log(tmp_path, start):
    with NodeProcesses(tmp_path / "logs") as nodes:
        start(nodes, "failing", FAILING)
        wait_for(lambda: nodes.ended("failing"))
        with pytest.raises(
            InputError, match=r"node failing ended with status 1; .*\n  line of the log\n  no such camera"
        ):
            nodes.check(may_end=("failing",))


def test_sigterm_ends_the_nodes_too(tmp_path, start):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), NodeProcesses(tmp_path / "logs") as nodes:
        polite = start(nodes, "polite", POLITE)
        wait_for(lambda: "up" in nodes.log("polite").read_text())
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert polite.poll() == 0 and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: the kernel ends the nodes")
def test_nodes_die_with_a_parent_that_is_killed(tmp_path, spawn):
    (tmp_path / "polite_stand_in.py").write_text(POLITE)
    (tmp_path / "parent_stand_in.py").write_text(
        "import sys, time\nfrom instseg_ros.processes import NodeProcesses\n"
        "with NodeProcesses(sys.argv[1]) as nodes:\n"
        "    print('child', nodes.start('polite', 'polite_stand_in').pid, flush=True)\n    time.sleep(600)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(share_directory())])
    parent = spawn("parent_stand_in", tmp_path / "logs", env={"PYTHONPATH": path})
    log = tmp_path / "logs" / "polite.log"
    wait_for(lambda: log.is_file() and "up" in log.read_text())
    child = int(parent.output.split()[1])
    parent.kill()
    wait_for(lambda: not _alive(child))


def _alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().split()[2] != "Z"
    except OSError:
        return False


def test_parameters_become_yaml():
    values = {"path": "a b", "flag": True, "list": ["/x"], "number": 1.0}
    assert parameter_arguments(values)[1::2] == ['path:="a b"', "flag:=true", 'list:=["/x"]', "number:=1.0"]


Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch, tmp_path):
    """Set the free space in shared memory."""
    monkeypatch.delenv(shared_memory.VARIABLE, raising=False)
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    return lambda size: monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda folder: Usage(size, 0, size))


def test_the_profile_fits_the_shared_memory(free, tmp_path, monkeypatch):
    shipped = share_directory() / "config" / "fastdds_shm.xml"
    free(1 << 30)
    assert shared_memory.fitting_profile(tmp_path) == shipped
    free(64 << 20)
    small = shared_memory.fitting_profile(tmp_path)
    assert small.parent == tmp_path
    (size,) = {int(match[2]) for match in shared_memory._SIZE.finditer(small.read_text())}
    assert 4 * size <= 64 << 20 and size >= shared_memory.SMALLEST
    assert int(shared_memory._MESSAGE.search(small.read_text())[2]) <= size
    free(20 << 20)
    with pytest.raises(InputError, match="20 MB free, images need 30: .*--shm-size"):
        shared_memory.fitting_profile(tmp_path)
    monkeypatch.setenv(shared_memory.VARIABLE, "/my/own.xml")
    assert str(shared_memory.fitting_profile(tmp_path)) == "/my/own.xml"


@pytest.mark.parametrize(("distribution", "name"), [("humble", "FASTRTPS"), ("jazzy", "FASTRTPS"), ("kilted", "FASTDDS"), ("", "FASTDDS")])
def test_the_variable_is_the_one_that_the_distribution_s_fast_dds_reads(distribution, name):
    command = [sys.executable, "-c", "from instseg_ros.shared_memory import VARIABLE; print(VARIABLE)"]
    found = subprocess.run(command, env={**os.environ, "ROS_DISTRO": distribution}, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"{name}_DEFAULT_PROFILES_FILE"


def test_only_segments_of_dead_processes_are_removed(tmp_path, monkeypatch):
    """Not those in use, not those of a process that is just starting, and no ports, which others may be sending to."""
    import fcntl

    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    dead, alive, newborn = (f"fastdds_{letter * 16}" for letter in "abc")
    old = f"fastrtps_{'0' * 16}"  # of Fast DDS 2
    others = ["fastdds_port7411", "fastdds_port7411_el", "sem.fastdds_port7411_mutex", "other_el"]
    for name in [dead, f"{dead}_el", old, f"{old}_el", alive, f"{alive}_el", newborn, f"{newborn}_el", *others]:
        (tmp_path / name).write_text("")
        if newborn not in name:
            os.utime(tmp_path / name, (0, 0))
    with (tmp_path / f"{alive}_el").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        shared_memory.remove_dead_segments()
    assert {p.name for p in tmp_path.iterdir()} == {alive, f"{alive}_el", newborn, f"{newborn}_el", *others}
