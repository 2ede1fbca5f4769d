"""A test that is stuck outside of Python ends the run with its name, whatever phase it is in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOLD_THE_INTERPRETER = "ctypes.PyDLL(None).sleep(120)"
CASES = {
    "call": f"def test_stuck():\n    {HOLD_THE_INTERPRETER}\n",
    "teardown after a failure": f"@pytest.fixture\ndef part():\n    yield\n    {HOLD_THE_INTERPRETER}\n\ndef test_stuck(part):\n    assert False\n",
}


@pytest.mark.parametrize("phase", CASES)
def test_a_stuck_test_is_named_with_its_traceback(tmp_path, phase):
    pytest.importorskip("xdist")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text("import stuck\nstuck.STUCK_S = 2.0\nfrom stuck import *\n")
    (tmp_path / "test_it.py").write_text(f"import ctypes\nimport pytest\n\n{CASES[phase]}")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--max-worker-restart", "0", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
    output = run.stdout + run.stderr
    assert run.returncode != 0
    assert "crashed while running 'test_it.py::test_stuck'" in output, output
    assert "Timeout (0:00:02)!" in output and "test_it.py" in output.split("Timeout (0:00:02)!")[1], output
