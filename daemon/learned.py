"""What the vitals tell of what was learned: losses, scores on hold-outs, the accuracy matrix; bounded, and cheap to ask."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.machine import LogMachine
    from daemon.types import Json

MATRIX_ROWS = 32  # of the accuracy matrix that are told, the newest
MATRIX_PARTS = 64  # columns of it, the youngest; both keep the file small for a daemon of any age


class Learned:
    """The newest of everything, by task; `look` is called once a second."""

    def __init__(self) -> None:
        self.losses: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.matrix: Json = {}
        self._rows: Sequence[Json] = ()
        self._last_switch: Json = {}
        self._last_evaluation: Json = {}

    def scored(self, scores: Mapping[str, float | None]) -> None:
        """Hold-outs were scored: the primary metric of each task, None where it is not defined."""
        known = {task: score for task, score in scores.items() if score is not None}
        self.scores = {**self.scores, **known}

    def measured(self, scores: Mapping[str, Mapping[str, float | None]]) -> None:
        """The same from all metrics of each task, of which the first stands for it."""
        self.scored({task: next(iter(found.values()), None) for task, found in scores.items()})

    def look(self, machine: LogMachine) -> None:
        """Take what is new; reading a loss is the only wait for the device."""
        tasks = machine.engine.tasks
        if machine.last_switch is not self._last_switch:
            self._last_switch = machine.last_switch
            self.scored(machine.last_switch.get("scores", {}))
        if machine.last_evaluation is not self._last_evaluation:
            self._last_evaluation = machine.last_evaluation
            self.scored(machine.last_evaluation.get("scores", {}))
        if machine.engine.matrix_rows is not self._rows:
            self._rows = machine.engine.matrix_rows
            self.matrix = _shown(machine.engine.matrix(present=False))
        found = self.losses | {name: float(loss) for name, loss in machine.last_losses.items()}
        self.losses = {name: x for name, x in found.items() if name in tasks and isfinite(x)}
        self.scores = {name: x for name, x in self.scores.items() if name in tasks}


def _shown(report: Json) -> Json:
    """The accuracy matrix within the bounds of the file."""
    names = dict.fromkeys(part for row in report["rows"] for part in row["parts"])
    shown = set(list(names)[-MATRIX_PARTS:])

    def some(parts: Mapping[str, float]) -> dict[str, float]:
        return {part: score for part, score in parts.items() if part in shown}

    rows = [
        {
            "step": row["step"],
            "task": row["task"],
            "phase": row["phase"],
            "parts": some(row["parts"]),
        }
        for row in report["rows"][-MATRIX_ROWS:]
    ]
    by_part = {name: some(report[name]) for name in ("best", "min_acc")}
    return {**report, "rows": rows, **by_part}
