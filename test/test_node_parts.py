"""Parts of the nodes that need no ROS graph: the worker, the counters, the throttled warnings."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from instseg_ros import freed_memory  # noqa: E402
from instseg_ros.nodes import engine as engine_module  # noqa: E402
from instseg_ros.nodes.complaints import REPEAT_AFTER, Complaints  # noqa: E402
from instseg_ros.nodes.executables import SPINS  # noqa: E402
from instseg_ros.nodes.host import Setup  # noqa: E402
from instseg_ros.nodes.passing_thread import in_passing_thread  # noqa: E402
from instseg_ros.nodes.sets import Arrival  # noqa: E402
from instseg_ros.nodes.statistics import RATE_SPAN, Statistics  # noqa: E402
from instseg_ros.nodes.worker import NewestFirst  # noqa: E402


class Gate:
    """Work that waits until it is let through."""

    def __init__(self):
        self.done, self.started, self._open = [], threading.Semaphore(0), threading.Semaphore(0)

    def work(self, item):
        self.started.release()
        self._open.acquire()
        self.done.append(item)
        return f"did {item}"

    def open(self, times=1):
        self._open.release(times)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def worker(gate):
    made = NewestFirst(gate.work, "test")
    yield made
    gate.open(100)
    made.stop()


def test_only_the_newest_of_those_that_wait_is_worked_on(worker, gate):
    assert worker.offer(1) is None
    gate.started.acquire()
    assert worker.offer(2) is None
    assert worker.offer(3) == 2
    assert worker.offer(4) == 3
    gate.open(2)
    gate.started.acquire()
    assert worker.stop() is None
    assert gate.done == [1, 4]


def test_stopping_finishes_the_item_in_hand_and_gives_back_the_other(worker, gate):
    worker.offer(1)
    gate.started.acquire()
    worker.offer(2)
    stopper = threading.Thread(target=lambda: left.append(worker.stop()))
    left = []
    stopper.start()
    gate.open()
    stopper.join(10)
    assert (gate.done, left) == ([1], [2])


def test_a_demanded_item_is_answered_even_where_it_is_replaced(worker, gate):
    worker.offer(1)
    gate.started.acquire()
    taken = []
    future = worker.demand(2, lambda: taken.append(2))
    assert taken
    assert worker.offer(3) == 2  # newer: it answers the demand
    gate.open(2)
    assert future.result(10) == "did 3"


def test_a_demand_takes_what_waits_already(worker, gate):
    worker.offer(1)
    gate.started.acquire()
    worker.offer(2)
    future = worker.demand(1, lambda: pytest.fail("it was not taken"))
    gate.open(2)
    assert future.result(10) == "did 2"


def test_a_stopped_worker_takes_nothing(worker, gate):
    worker.stop()
    assert worker.offer(1) == 1
    assert worker.demand(1, lambda: pytest.fail("it was not taken")).cancelled()


def test_the_rate_is_limited_but_not_for_demands():
    starts = []
    worker = NewestFirst(lambda item: starts.append((item, time.monotonic())), "test")
    worker.limit(5.0)
    worker.offer(0)
    while not starts:
        time.sleep(0.001)
    worker.offer(1)
    while len(starts) < 2:
        time.sleep(0.001)
    assert starts[1][1] - starts[0][1] >= 0.2
    worker.limit(0.001)
    worker.offer(2)
    future = worker.demand(3)
    future.result(10)  # would take a quarter of an hour by the rate
    worker.stop()
    assert [item for item, _ in starts] == [0, 1, 2]


class Bench:
    """An engine without ROS whose work ends when, and how, the test says.

    Attributes:
        values: what the statistics say.
    """

    def __init__(self, patch):
        patch.setattr(engine_module, "Intake", lambda *_, **__: SimpleNamespace(close=lambda: None))
        patch.setattr(engine_module, "DEMAND_TIMEOUT", 0.0)
        self._statistics, self._fates, self._done = Statistics(), queue.Queue(), threading.Semaphore(0)
        host = SimpleNamespace(node=None, intake=None, statistics=self._statistics)
        wanted = SimpleNamespace(max_rate=0.0, target_frame="")
        self.engine = engine_module.Engine(host, Setup(SimpleNamespace(needs_color=False), Path(), wanted))
        self.engine._pipeline.answer = self._work

    def _work(self, job):
        if self._fates.get(timeout=10) == "answer":
            self._statistics.frame_answered(0.0, 0.0, 0)
        else:
            self._statistics.frame_skipped("failed")
        self._done.release()
        return True, ""

    @property
    def values(self):
        return Counter({key: int(value) for key, value in self._statistics.values().items() if value.lstrip("-").isdigit()})

    def do(self, action):
        """One of ``ACTIONS``. Returns whether it could be done."""
        engine, working = self.engine, self.engine._worker is not None
        if action == "frame":
            engine._on_frame(Arrival(None, None, None, 0.0))
        elif action == "ask":
            engine.segment_now()
        elif action in ("enable", "disable"):
            engine.answer_all(action == "enable")
        elif action in ("answer", "fail"):
            if not self.values["pending"]:
                return False
            self._fates.put(action)
            assert self._done.acquire(timeout=10)
        elif action == "start":
            if not working:
                engine.start()
        elif action == "stop":
            self._fates.put("answer")  # the frame in hand is finished, if there is one
            engine.stop()
            self._fates, self._done = queue.Queue(), threading.Semaphore(0)
        return True


ACTIONS = ("frame", "frame", "frame", "answer", "fail", "ask", "disable", "enable", "stop", "start")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(ACTIONS), max_size=30))
def test_whatever_happens_every_frame_is_accounted_for_at_every_moment(actions):
    with pytest.MonkeyPatch.context() as patch:
        bench, did = Bench(patch), Counter()
        for action in ["start", *actions, "stop"]:
            did[action] += bench.do(action)
            values = bench.values
            assert 0 <= values["pending"] <= 2, action
            assert values["skipped"] == sum(n for key, n in values.items() if key.startswith("skipped_"))
    assert values["pending"] == 0
    assert values["received"] == values["answered"] + values["replaced_by_newer"] + values["skipped"]
    assert values["received"] - values["requested"] == did["frame"]
    assert values["skipped_failed"] == did["fail"]
    assert did["answer"] <= values["answered"] <= did["answer"] + did["stop"]


def test_statistics_add_up_and_tell_rates_and_percentiles():
    clock = [0.0]
    statistics = Statistics(lambda: clock[0])
    for i in range(1, 101):
        clock[0] = i * 0.1
        statistics.frame_received()
        if i % 10 == 0:
            statistics.frame_skipped("depth", "bad depth")
        elif i % 10 == 1:
            statistics.frame_replaced()
        else:
            statistics.frame_answered(latency=i * 1e-3, segment=i * 1e-3 - 5e-4, instances=i)
    values = statistics.values()
    assert int(values["received"]) == int(values["answered"]) + int(values["replaced_by_newer"]) + int(values["skipped"]) == 100
    assert values["skipped_depth"] == "10" and values["last_error"] == "bad depth"
    assert float(values["rate_in_hz"]) == pytest.approx(10, abs=0.2)
    assert float(values["latency_ms_median"]) == pytest.approx(50.5, abs=1)
    assert float(values["latency_ms_p99"]) == pytest.approx(99, abs=1)
    assert float(values["overhead_ms_median"]) == pytest.approx(0.5)
    assert statistics.seconds_since_fault() == pytest.approx(0)
    clock[0] += RATE_SPAN + 1
    assert float(statistics.values()["rate_in_hz"]) == 0


def test_warnings_are_repeated_seldom_and_one_kind_does_not_hide_another():
    class Logger:
        def __init__(self):
            self.lines = []

        def warning(self, text):
            self.lines.append(text)

    clock, logger = [0.0], Logger()
    complaints = Complaints(logger, lambda: clock[0])
    for second in range(int(REPEAT_AFTER) + 1):
        clock[0] = float(second)
        complaints.warn("depth", f"no depth {second}")
        complaints.warn("color", f"no color {second}")
    assert logger.lines == [
        "no depth 0",
        "no color 0",
        "no depth 10 (9 more like this since)",
        "no color 10 (9 more like this since)",
    ]


@pytest.mark.parametrize("name", ["segmenter", "bag_player", "evaluator", "up"])
def test_executables_catch_ctrl_c_before_they_import_what_takes_long(name):
    code = (
        "import importlib, os, runpy, signal, sys\n"
        "def imported(name):\n"
        "    assert 'rclpy' not in sys.modules\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "importlib.import_module = imported\n"
        f"runpy.run_module('instseg_ros.nodes.{name}', run_name='__main__')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (run.returncode, run.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("already", "expected"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_executables_set_how_long_threads_spin_before_torch_is_loaded(already, expected):
    code = (
        "import importlib, os, runpy, sys\n"
        "def imported(name):\n"
        "    assert 'torch' not in sys.modules\n"
        "    sys.exit(os.environ.get('GOMP_SPINCOUNT', 'not set'))\n"
        "importlib.import_module = imported\n"
        "runpy.run_module('instseg_ros.nodes.segmenter', run_name='__main__')\n"
    )
    rest = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, env={**rest, **already})
    assert run.stderr.strip() == (expected or "not set")


def in_a_new_process(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_freed_images_are_used_again_and_not_cleared_by_the_system():
    """By itself glibc has each of them mapped anew, or trims them off: two thousand pages each."""
    faults = in_a_new_process(
        "import resource, numpy as np\n"
        "from instseg_ros.freed_memory import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "def frame(): return [np.ones(1 << 20) for _ in range(3)]\n"
        "frame()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): frame()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    assert int(faults) < 2048


def test_what_torch_did_in_passing_leaves_no_thread_behind():
    pytest.importorskip("torch", reason="needs the package torch")
    before, during, after = in_a_new_process(
        "import os, time, torch\n"
        "from instseg_ros.nodes.passing_thread import in_passing_thread\n"
        "torch.set_num_threads(3)\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "def work():\n"
        "    torch.set_num_threads(3)\n"
        "    torch.ones(1 << 22).exp().sum()\n"
        "    return threads()\n"
        "before, during, until = threads(), in_passing_thread(work), time.monotonic() + 10\n"
        "while threads() > before and time.monotonic() < until: time.sleep(0.01)\n"
        "print(before, during, threads())\n"
    ).split()
    assert int(during) >= int(before) + 3 and after == before


def test_what_is_raised_in_passing_arrives():
    with pytest.raises(SystemExit, match="3"):
        in_passing_thread(sys.exit, 3)


def test_freed_memory_goes_back_to_the_system_from_between_what_is_in_use(monkeypatch):
    monkeypatch.setattr(freed_memory, "PERIOD", 0.05)
    process, stop = psutil.Process(), threading.Event()
    blocks = [b"%d" % (i % 10) * 60_000 for i in range(3000)]  # too small for a mapping of their own
    held = blocks[::100]
    del blocks
    before = process.memory_info().rss
    thread = threading.Thread(target=freed_memory.return_freed_memory, args=[stop])
    thread.start()
    deadline = time.monotonic() + 10
    while process.memory_info().rss > before - 150e6 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join(5)
    assert not thread.is_alive() and len(held) == 30
    assert process.memory_info().rss < before - 150e6
