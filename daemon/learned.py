"""What the vitals tell of what was learned: losses, scores on hold-outs, the accuracy matrix; bounded, and cheap to ask."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from daemon.evaluation import moment

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
        self.evaluation: Json = {}
        self.guard: Json = {}
        self.senders: Json = {}
        self._evaluated: tuple[int, int] | None = None

    def look(self, machine: LogMachine) -> None:
        """Take what is new; reading a loss is the only wait for the device."""
        tasks = machine.engine.tasks
        here = (id(machine.evaluation), machine.evaluation.changes)
        if here != self._evaluated:
            self._evaluated = here
            self.evaluation = machine.evaluation.to_dict()
            told = self.evaluation.get("tasks", {})
            self.scores = {n: x["score"] for n, x in told.items() if x["score"] is not None}
        guard = machine.guard
        fallen = {part: {**fall, "at": moment(fall["at"])} for part, fall in guard.fallen.items()}
        self.guard = {"since": guard.since, "fallen": fallen}
        self.senders = machine.judgement.senders_report()
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
