"""A limit for tests that are stuck outside of Python, where pytest-timeout's signal handler never runs; hooks for conftest.py.

The process ends and says where its threads stand; ``--max-worker-restart 0`` makes pytest-xdist then name the test and fail (with
``--dist loadfile`` it would start the same file again for ever).
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator

import pytest

STUCK_S = 400.0  # more than pytest-timeout's limit in pyproject.toml: what that can end it shall end

_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_stderr] = os.dup(2)  # now, before each test's output is captured


@pytest.hookimpl(wrapper=True)
def _limited(item: pytest.Item) -> Iterator[object]:
    # Each phase anew: pytest cancels the dump when one fails, and a teardown can be stuck, too.
    faulthandler.dump_traceback_later(STUCK_S, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


pytest_runtest_setup = pytest_runtest_call = pytest_runtest_teardown = _limited
