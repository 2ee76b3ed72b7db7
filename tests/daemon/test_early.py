"""Signals before the loop listens: remembered, raised where it helps, never lost, and the second one ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon import early

if TYPE_CHECKING:
    from collections.abc import Callable

HELD = """
import os, signal, sys
from daemon import early
early.hold()
os.kill(os.getpid(), signal.SIGTERM)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
LISTENS = """
from daemon import early
try:
    early.listen()
except early.Left:
    raise SystemExit(0)
raise SystemExit("the signal is lost")
"""


@pytest.fixture
def come(monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """SIGTERM comes, in a process of which nothing else is known; no handler is installed in this one."""
    handlers: dict[int, Callable[..., object]] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: None)
    monkeypatch.setattr(early, "_asked", False)
    early.listen()
    assert set(handlers) == {signal.SIGTERM, signal.SIGINT}
    return lambda: handlers[signal.SIGTERM](signal.SIGTERM, None)


def test_a_signal_during_imports_is_raised_where_the_start_begins(
    come: Callable[[], object],
) -> None:
    come()
    with pytest.raises(early.Left), early.raising():
        raise AssertionError("started")


def test_a_signal_during_the_start_is_raised_where_it_comes(come: Callable[[], object]) -> None:
    with pytest.raises(early.Left), early.raising():
        come()


def test_a_signal_that_something_swallowed_is_still_known(come: Callable[[], object]) -> None:
    with early.raising(), suppress(BaseException):
        come()
    with pytest.raises(early.Left):
        early.check()


def test_what_was_taken_is_given_back_undisturbed(come: Callable[[], object]) -> None:
    with early.raising():
        early.check()
    come()


def test_a_second_signal_leaves_at_once(
    come: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    come()
    assert codes == []
    come()
    assert codes == [128 + signal.SIGTERM]


def test_a_signal_that_was_held_is_found_by_the_program_that_comes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELD, LISTENS],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
