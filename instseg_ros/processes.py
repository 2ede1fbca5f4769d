"""Nodes as child processes of a command: started with the settings that images need, and ended whatever happens."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .shared_memory import VARIABLE, fitting_profile, remove_dead_segments

if TYPE_CHECKING:
    from .bags import Topics

GRACE = 8.0
"""Seconds that a node has to end by itself."""
LAST_LINES = 12
_NODES = ("segmenter", "bag_player", "evaluator", "camera", "soak", "bare")
SEGMENTER, PLAYER, EVALUATOR, CAMERA, SOAK, BARE = (f"instseg_ros.nodes.{name}" for name in _NODES)
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: a child before exec must not take locks


class NodeProcesses:
    """A group of nodes, each a process. Use as a context manager: leaving it ends them all.

    Args:
        log_dir: folder for each node's output, ``<name>.log``.
        domain_id: ROS domain, None = the environment's, or where that names none, one of this process' own, so that a
            robot that is running on this network is left alone.
    """

    def __init__(self, log_dir: str | Path, domain_id: int | None = None) -> None:
        self.log_dir = Path(log_dir)
        self.environment = node_environment(self.log_dir, domain_id)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._terminate: Any = None

    def __enter__(self) -> NodeProcesses:
        if threading.current_thread() is threading.main_thread():
            self._terminate = signal.signal(
                signal.SIGTERM, signal.default_int_handler
            )  # so that it unwinds, as Ctrl-C does
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._terminate is not None:
            signal.signal(signal.SIGTERM, self._terminate)

    def start(
        self,
        name: str,
        module: str,
        parameters: Mapping[str, Any] | None = None,
        remappings: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start ``python -m module`` with ROS parameters and remappings."""
        arguments = [*parameter_arguments(parameters or {})]
        for old, new in (remappings or {}).items():
            arguments += ["-r", f"{old}:={new}"]
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-u", "-m", module, "--ros-args", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches this process alone, which then ends the nodes
                preexec_fn=_die_with_parent if _LIBC is not None else None,
            )
        return self._processes[name]

    def log(self, name: str) -> Path:
        """Where a node's output goes."""
        return self.log_dir / f"{name}.log"

    def check(self, *, may_end: tuple[str, ...] = ()) -> None:
        """InputError, with the end of its log, when a node has ended that should be running, or ended in failure."""
        for name, process in self._processes.items():
            status = process.poll()
            if status is not None and not (status == 0 and name in may_end):
                raise self.obituary(name)

    def ended(self, name: str) -> bool:
        """Whether a node has ended."""
        return self._processes[name].poll() is not None

    def obituary(self, name: str) -> InputError:
        """How a node ended, with the last lines that it wrote."""
        lines = self.log(name).read_text(errors="replace").splitlines()[-LAST_LINES:]
        status = self._processes[name].poll()
        return InputError(f"node {name} ended with status {status}; the end of {self.log(name)}:", log=lines)

    def wait(self, name: str, timeout: float, *, may_end: tuple[str, ...] = ()) -> int:
        """Wait for a node to end and return its status, watching the others. InputError after ``timeout`` seconds."""
        limit = time.monotonic() + timeout
        process = self._processes[name]
        while process.poll() is None:
            self.check(may_end=(name, *may_end))
            if time.monotonic() > limit:
                raise InputError(f"node {name} did not finish within {timeout:g} s: see {self.log(name)}")
            time.sleep(0.05)
        return process.returncode

    def stop(self) -> None:
        """End all nodes: SIGINT, and after some seconds SIGKILL."""
        running = [process for process in self._processes.values() if process.poll() is None]
        for process in running:
            _signal(process, signal.SIGINT)
        limit = time.monotonic() + GRACE
        for process in running:
            try:
                process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
        if any(process.returncode < 0 for process in self._processes.values()):
            remove_dead_segments()  # a process that was killed leaves its shared memory behind


def camera_remappings(topics: Topics) -> dict[str, str]:
    """The segmenter's inputs ← the topics of a bag, as bag_player publishes them (raw)."""
    names = {"depth/image": topics.depth, "depth/camera_info": topics.info}
    if topics.color is not None:
        names["color/image"] = topics.color
    return {name: topic.removesuffix("/compressedDepth").removesuffix("/compressed") for name, topic in names.items()}


def node_environment(folder: str | Path, domain_id: int | None = None) -> dict[str, str]:
    """This process' environment with room for images in shared memory, discovery on this machine, and a ROS domain.

    ``folder`` is for a DDS profile, where the shipped one does not fit this machine.
    """
    environment = dict(os.environ)
    environment[VARIABLE] = str(fitting_profile(folder))
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment["PYTHONUNBUFFERED"] = "1"
    if domain_id is not None:
        environment["ROS_DOMAIN_ID"] = str(domain_id)
    environment.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))  # up to 101 the ports are free on Linux
    return environment


def parameter_arguments(parameters: Mapping[str, Any]) -> list[str]:
    """``-p name:=value`` for each; values are written as YAML, of which JSON is a part."""
    return [word for name, value in parameters.items() for word in ("-p", f"{name}:={json.dumps(value)}")]


def resident_bytes(pid: int) -> int:
    """Resident memory of a process (Linux)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        raise InputError(
            f"cannot read the memory of process {pid}: /proc is needed (Linux), and the process must run"
        ) from None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _die_with_parent() -> None:
    """Runs in the child: if this process is killed, and cannot end its nodes, the kernel does (Linux)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # type: ignore[union-attr]
