"""Places where a test may kill the process: armed by name and count, silent otherwise."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import failpoints

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that this process would have been sent."""
    found: list[int] = []
    monkeypatch.setattr(failpoints, "_armed", None)
    monkeypatch.setattr(os, "kill", lambda _, number: found.append(number))
    return found


def test_without_the_variable_a_reach_does_nothing(
    kills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MTLD_FAILPOINT", raising=False)
    for name in failpoints.NAMES:
        failpoints.reach(name)
    assert not kills


def test_an_armed_place_kills_the_first_time(
    kills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTLD_FAILPOINT", "stepped")
    failpoints.reach("entered")
    assert not kills
    failpoints.reach("stepped")
    assert kills == [signal.SIGKILL]


def test_a_count_waits_for_the_nth_time(kills: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLD_FAILPOINT", "stepped:3")
    for expected in (0, 0, 1):
        failpoints.reach("stepped")
        assert len(kills) == expected


def test_an_unknown_name_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoints, "_armed", None)
    monkeypatch.setenv("MTLD_FAILPOINT", "steped")
    with pytest.raises(ValueError, match=r"'steped', known are .*stepped"):
        failpoints.reach("entered")


def test_the_process_dies_by_sigkill_and_runs_nothing_more() -> None:
    code = (
        "import atexit; atexit.register(print, 'cleaned up')\n"
        "from daemon.failpoints import reach\n"
        "try:\n    reach('written'); print('lived')\nfinally:\n    print('unwound')\n"
    )
    died = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"MTLD_FAILPOINT": "written", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert died.stdout == b""


def test_every_name_is_reached_somewhere_and_every_place_has_a_name() -> None:
    called: set[str] = set()
    for path in (ROOT / "daemon").rglob("*.py"):
        called |= set(re.findall(r'\breach(?:, |\()"(\w+)"', path.read_text()))
    assert called == set(failpoints.NAMES)
