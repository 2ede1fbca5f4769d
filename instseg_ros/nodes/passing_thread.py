"""Where torch works for a moment only: loading a model, and having it answer a first frame for nobody.

GNU OpenMP keeps a team of threads for every thread that ever ran torch, and counts them all. Once there are more than
cores, none of them spins any more while it waits for the others: ``segment()`` of clusternet-bin in the worker's thread then took 168 to
203 ms instead of 111 to 122 on two cores (``instseg bench ros``). A thread that ends gives its team back.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def in_passing_thread(work: Callable[..., Result], *args: object) -> Result:
    """``work(*args)`` in a thread that ends with it; raises what it raises."""
    with ThreadPoolExecutor(1, "passing") as thread:
        return thread.submit(work, *args).result()
