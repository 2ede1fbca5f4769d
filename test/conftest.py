"""Fixtures of the ROS tests: a domain and an environment for each test, child processes that never outlive it."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stuck import pytest_configure, pytest_runtest_call, pytest_runtest_setup, pytest_runtest_teardown  # noqa: F401

from instseg_ros.errors import InputError
from instseg_ros.shared_memory import VARIABLE, fitting_profile, remove_dead_segments

# Torch's threads spin while they wait for each other; beside other processes one test took minutes instead of seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

with contextlib.suppress(ImportError):
    import hypothesis

    hypothesis.settings.register_profile("busy", deadline=None)  # an example that takes long is the machine's fault
    hypothesis.settings.load_profile("busy")

# A shell that runs the tests in the background has SIGINT ignored, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
COMPAT = ROOT / "compat"
STAND_INS = ("message_filters", "cv_bridge", "sensor_msgs_py")

if any(importlib.util.find_spec(name) is None for name in STAND_INS):
    sys.path.append(str(COMPAT))  # at the end: real packages win
with contextlib.suppress(InputError):  # no room in /dev/shm: the tests that need it will say so
    # Read once per process, when the first participant is made.
    os.environ[VARIABLE] = str(fitting_profile())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

_domains = itertools.count()


@pytest.fixture
def ros_domain() -> int:
    """A ROS domain of this test's own."""
    return new_domain()


@pytest.fixture
def ros_env(ros_domain: int) -> dict[str, str]:
    """Environment for child processes."""
    return {**os.environ, **node_environment(ros_domain)}


def node_environment(domain: int) -> dict[str, str]:
    """The variables that a node of this source tree needs in a process of its own."""
    env = {"ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    env["AMENT_PREFIX_PATH"] = os.environ.get("AMENT_PREFIX_PATH", sys.prefix)
    path = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    env["PYTHONPATH"] = os.pathsep.join([*path, str(COMPAT)] if str(COMPAT) in sys.path else path)
    return env


@pytest.fixture
def ros_context(ros_domain: int) -> Iterator[object]:
    """An rclpy context in this test's domain, for nodes in the test's own process."""
    with open_context(ros_domain) as context:
        yield context


@contextlib.contextmanager
def open_context(domain: int) -> Iterator[object]:
    """An rclpy context; each has a DDS participant of its own, as a process has."""
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    yield context
    rclpy.shutdown(context=context)


def new_domain() -> int:
    """A ROS domain that no other test of this process has, nor of one beside it that pytest-xdist started (1…100: the ports of
    higher ones may be taken)."""
    worker, workers = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first = os.getppid() if workers > 1 else os.getpid()
    return (first * 17 + next(_domains) * workers + worker) % 100 + 1


class Child:
    """A child process whose output goes to a file.

    Attributes:
        process: as of ``subprocess``.
    """

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)

    @property
    def output(self) -> str:
        """What it has printed so far, both streams."""
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str, timeout: float = 60.0) -> None:
        """Wait until ``text`` was printed; fails with the output where that does not happen."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert self.process.poll() is None, f"ended with {self.process.returncode} before {text!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {text!r} within {timeout} s:\n{self.output}"
            time.sleep(0.05)

    def send(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for the end. Returns the exit status."""
        return self.process.wait(timeout)

    def stop(self, number: int = signal.SIGINT, timeout: float = 60.0) -> int:
        """Send a signal and wait for the end. Returns the exit status."""
        self.send(number)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


@pytest.fixture
def spawn(ros_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """``spawn("module", "arg", …)`` starts ``python -m module arg …`` in the test's domain; ended with the test."""
    children: list[Child] = []

    def start(module: str, *args: object, env: dict[str, str] | None = None) -> Child:
        command = [sys.executable, "-m", module, *map(str, args)]
        child = Child(command, {**ros_env, **(env or {})}, tmp_path / f"child{len(children)}.log")
        children.append(child)
        return child

    yield start
    killed = [child.kill() for child in children if child.process.poll() is None]
    if killed or any(child.process.returncode < 0 for child in children):
        remove_dead_segments()
