"""The demo's figures and tables: right by hand, and no wider than a terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest

from daemon.demo.data import Phase
from daemon.demo.report import Accounting, Matrix, Progress, comparison


def phase(task: str, name: str) -> Phase:
    return Phase(
        task, name, np.zeros((2, 3), np.float32), [0, 1], np.zeros((1, 3), np.float32), [0]
    )


PHASES = [phase("digits", "0-1"), phase("intents", "a"), phase("tumours", "all")]


def matrix() -> Matrix:
    return Matrix(PHASES, [[90.0], [95.0, 80.0], [70.0, 85.0, 60.0]])


def test_average_accuracy_is_the_mean_of_the_last_row() -> None:
    assert matrix().average_accuracy() == pytest.approx((70 + 85 + 60) / 3)


def test_forgetting_is_the_mean_fall_from_the_best_earlier_score() -> None:
    assert matrix().forgetting() == pytest.approx(((95 - 70) + (80 - 85)) / 2)


def test_nothing_is_forgotten_after_one_phase() -> None:
    assert Matrix(PHASES, [[90.0]]).forgetting() == 0.0


def test_every_row_that_is_not_accounted_for_is_lost() -> None:
    counted = Accounting(sent=100, trained=80, held_out=5, duplicate=4, dead=3)
    assert (counted.accounted, counted.lost) == (92, 8)
    assert "8   none of" in "\n".join(counted.lines())


def test_tables_of_eight_phases_fit_80_columns() -> None:
    phases = [phase("digits", "0-1"), *[phase("intents", "a")] * 7]
    full = Matrix(phases, [[100.0] * (number + 1) for number in range(8)])
    lines = full.lines() + comparison(full, full, "snapshot") + Accounting(1, 1, 0, 0, 0).lines()
    assert max(map(len, lines)) <= 80


def test_progress_is_a_rewritten_line_on_a_terminal_and_left_out_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, shown in ((Terminal(), True), (io.StringIO(), False)):
        progress = Progress(out)
        progress.show("half-way")
        progress.say("done")
        assert ("half-way" in out.getvalue()) is shown
        assert out.getvalue().endswith("done\n")
