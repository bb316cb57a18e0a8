"""A signal ends the work, but never amid an import: a module half imported would fail whatever comes next."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from come.runs import interrupts
from come.runs.interrupts import termination_interrupts

SLOW_MODULE = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.01)\nWHOLE = True\n"


@pytest.fixture
def slow_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that asks its own process to end while it is imported."""
    (tmp_path / "slow_to_import.py").write_text(SLOW_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_to_import", raising=False)
    return "slow_to_import"


def test_a_signal_interrupts_the_work() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), termination_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_import_comes_to_its_end_first(slow_module: str) -> None:
    with pytest.raises(KeyboardInterrupt), termination_interrupts():
        __import__(slow_module)
        time.sleep(10)
    assert sys.modules[slow_module].WHOLE


def test_work_that_ended_meanwhile_does_not_end_the_next(slow_module: str) -> None:
    with termination_interrupts():
        __import__(slow_module)
    with termination_interrupts():
        time.sleep(3 * interrupts.TRY_AGAIN)
