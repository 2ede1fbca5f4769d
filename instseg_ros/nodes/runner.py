"""Running nodes as a process: start, spin, and a clean end on SIGINT and SIGTERM, however often they come."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

import rclpy
from rclpy.exceptions import InvalidHandle, ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from ..errors import InputError
from ..freed_memory import keep_freed_memory, return_freed_memory
from ..shared_memory import remove_dead_segments
from ..shared_memory_ports import PortWatch, mark_dead_ports
from .signals import Signals


class Runnable(Protocol):
    """A node that ``run`` can start and end.

    One with a task of its own also has ``work(stop: threading.Event) -> int``: it is called in the main thread after
    ``start`` and returns the process' exit status, soon after ``stop`` is set or whenever the task is done.
    """

    def start(self) -> bool:
        """Called once services are answered; False, after the log has said why, ends the process with status 2."""

    def close(self) -> None:
        """Called before the node is destroyed, with ROS still up: stop working. Callbacks may still be on their way; those
        that wait for something must not wait any longer."""

    def destroy_node(self) -> None:
        """As of every node."""


def run(make_nodes: Callable[[], Sequence[Runnable]], args: Sequence[str] | None = None) -> int:
    """Make the nodes, start them, and spin until a signal comes or the (only) node with a task is done.

    Returns:
        exit status: 0 = ended on request, 1 = a callback raised, 2 = bad input (one line on stderr).
    """
    stop = threading.Event()
    signals = Signals(stop)
    # Of nodes that were killed: segments would fill the memory, and ports go on being written to by those who knew them.
    remove_dead_segments()
    mark_dead_ports()
    threading.Thread(target=PortWatch().run, args=[stop], name="ports", daemon=True).start()
    keep_freed_memory()
    threading.Thread(target=return_freed_memory, args=[stop], name="memory", daemon=True).start()
    # rclpy's own handlers would take ROS down at once, under the feet of the frame in hand.
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # arguments that rcl cannot parse, a YAML that is not there
        return _refuse(error)
    executor = SingleThreadedExecutor()
    spinner = Spinner(executor, on_end=stop.set)
    nodes: list[Runnable] = []
    status = 0
    try:
        nodes.extend(make_nodes())
        for node in nodes:
            executor.add_node(node)  # type: ignore[arg-type]
        spinner.start()
        if not all(node.start() for node in nodes):
            status = 2
        elif tasks := [node.work for node in nodes if hasattr(node, "work")]:
            status = tasks[0](stop)
        else:
            stop.wait()
    except (InputError, ParameterException) as error:
        status = _refuse(error)
    finally:
        stop.set()
        for node in nodes:
            node.close()
        spinner.stop()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
        signals.ignore()  # all is done but for Python's own clean-up, which takes a second with torch
    return status or int(spinner.failed)


class Spinner:
    """A thread that spins an executor. ``Executor.spin`` itself cannot be ended without taking the executor down under it.

    Args:
        executor: to spin; it is taken down with the spinner.
        on_end: called when the spinning has ended.
        on_error: called with the traceback of what a callback raised; None: print it and end.

    Attributes:
        failed: a callback raised, which ended the spinning.
    """

    def __init__(
        self, executor: Executor, *, on_end: Callable[[], None] = lambda: None, on_error: Callable[[str], object] | None = None
    ) -> None:
        self.failed = False
        self._executor, self._on_end, self._on_error = executor, on_end, on_error
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="executor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the callbacks in hand, and take the executor down."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._executor.create_task(lambda: None)  # wakes it
            if self._thread.is_alive():
                self._thread.join()
            self._executor.shutdown(timeout_sec=5.0)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set() and self._executor.context.ok():
                try:
                    self._executor.spin_once()
                except InvalidHandle:  # an entity was destroyed while its callback was on the way
                    continue
                except ExternalShutdownException:  # whoever owns the context took it down
                    break
                except Exception:
                    if self._on_error is None:
                        raise
                    self._on_error(traceback.format_exc())
        except Exception:
            traceback.print_exc()
            self.failed = True
        finally:
            self._on_end()


def _refuse(error: Exception) -> int:
    """Say what is wrong in one line; exit status 2."""
    print(f"{os.path.basename(sys.argv[0]).removesuffix('.py')}: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
