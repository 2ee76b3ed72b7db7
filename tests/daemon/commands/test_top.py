"""`mtld top`: one screen of 80 by 24 from the vitals alone, whatever is in them; and a terminal left as it was."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.commands import top
from daemon.condition import judge
from daemon.types import Vitals
from tests.daemon.commands.conftest import Mtld
from tests.daemon.commands.test_status import full

Tell = Callable[..., Vitals]
ROOT = Path(__file__).parents[3]


def test_everything_fits_a_screen_of_80_by_24(mtld: Mtld, tell: Tell) -> None:
    events = [{"at": "2026-01-01T00:00:00", "kind": "task_switched", "detail": {"x": "y" * 99}}] * 8
    tell(**full(), events=events)
    shown = mtld("top", "--once").out.splitlines()
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80
    assert shown[-1].startswith("q quits")
    assert "and 2 more: `mtld task list`" in shown


def test_it_asks_nobody_and_says_what_to_do(mtld: Mtld, tell: Tell) -> None:
    tell(state="paused", reason="disk", tasks=[{"name": "a", "columns": 2, "replay_rows": 7}])
    out = mtld("top", "--once").out
    assert "reason     disk" in out
    assert "do next    `mtld resume` when you are ready" in out


def test_exit_codes_are_those_of_status(mtld: Mtld, tell: Tell) -> None:
    assert mtld("top", "--once").code == 3
    tell(pid=0)
    assert mtld("top", "--once").code == 3
    tell()
    assert mtld("top", "--once").code == 0
    assert mtld("top", "-o", "json").json["running"] is True


def test_what_was_seen_becomes_a_trend(tell: Tell, state: Path) -> None:
    history: top.History = defaultdict(lambda: deque(maxlen=top.TREND))
    told = tell(tasks=[{"name": "a"}], rows_per_s=5.0)
    for step in range(4):
        report = {**judge(told, state), "losses": {"a": 4.0 - step}, "lag_events": step}
        top.note(history, report)
    shown = top.screen(report, history, 24)
    assert any("█▆▃▁" in line and "1.000" in line for line in shown)
    assert any("▁▃▆█" in line and line.startswith("speed") for line in shown)


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([1.0], ""), ([2, 2], "▁▁"), ([0, 7, 3.5], "▁█▅")]
)
def test_a_sparkline_goes_from_the_least_to_the_greatest(values: list[float], bars: str) -> None:
    assert top.sparkline(deque(values)) == bars


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_q_and_ctrl_c_end_it_and_the_terminal_is_as_before(
    tell: Tell, state: Path, key: bytes
) -> None:
    tell()
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    code = "import sys; from daemon.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", code, "top"],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        shown = b""
        while b"q quits" not in shown:  # the test's own time limit bounds it
            select.select([ours], [], [])
            shown += os.read(ours, 65_536)
        os.write(ours, key)
        while b"\033[?1049l" not in shown:
            shown += os.read(ours, 65_536)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert b"training" in shown
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
