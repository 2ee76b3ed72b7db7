"""The bar of a push: how far, how fast, how long yet; and nothing of it where there is no terminal."""

from __future__ import annotations

import io

import pytest

from daemon.commands.progress import CLEAR, Progress, line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("done", "shown"),
    [
        (0.25, "[######..................]  25%  1,000 rows, 100 rows/s, 30 s left"),
        (1.0, "[########################] 100%  1,000 rows, 100 rows/s"),
        (None, "1,000 rows, 100 rows/s"),
        (0.0, "1,000 rows, 100 rows/s"),
    ],
)
def test_a_bar_says_how_far_how_fast_and_how_long_yet(done: float | None, shown: str) -> None:
    assert line(1000, done, 10.0) == shown


def test_a_terminal_gets_a_bar_that_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress() as progress:
        progress.to(5, 0.5)
        progress.to(6, 0.6)  # too soon for another
    assert terminal.getvalue().count("%") == 1
    assert terminal.getvalue().endswith(CLEAR)


def test_a_pipe_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stderr", pipe)
    with Progress() as progress:
        progress.to(5, 0.5)
    assert pipe.getvalue() == ""
