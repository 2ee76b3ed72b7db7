"""An evaluation in rounds of decisions in the log, each for some tasks, so that training goes on in between.

First averaged and live weights are compared on select rows, and with the last comparison it is decided which are published;
then these are scored on judge rows, so that all scores of one evaluation are of the same weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.identity import FIRST_ID, id_tuple
from mtl_engine.judge import chunks

if TYPE_CHECKING:
    from daemon.loop import Loop
    from mtl_engine.engine import Engine

# Judge rows that one decision scores, but one task at least; of select rows, which two models answer, half as many.
SCORED_ROWS = 500


def planned(engine: Engine) -> list[dict[str, str]]:
    """The details of the decisions that evaluate all tasks, in order."""
    compared = chunks(engine.choice.counts(), SCORED_ROWS // 2)
    details = [{"compare": ",".join(names)} for names in compared]
    for last in details[-1:]:
        last["choose"] = "yes"
    scored = chunks(engine.judge.counts(), SCORED_ROWS)
    return [*details, *({"tasks": ",".join(names)} for names in scored)]


class Round:
    """The evaluation under way: decisions that are still to be written. It ends with the process, and none is missed."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._left: list[dict[str, str]] = []  # details of the decisions
        self._written = FIRST_ID  # the last of them

    @property
    def is_under_way(self) -> bool:
        """Whether decisions are still to be written or to be carried out."""
        return bool(self._left) or not self._is_carried_out

    def begin(self) -> bool:
        """Evaluate all tasks, unless that is under way or nothing was learned since the last time; whether it begins."""
        engine, evaluation = self._loop.machine.engine, self._loop.machine.evaluation
        counts = engine.judge.counts()
        if self.is_under_way or evaluation.is_of(
            engine.step_count, counts, engine.choice.published
        ):
            return False
        self._left = planned(engine)
        return True

    def more(self) -> None:
        """Write the next decision, once the last one was carried out."""
        if self._left and self._is_carried_out:
            self.write()

    def write(self) -> str:
        """Write the next decision now; returns its entry's id."""
        self._written = self._loop.decide("evaluate", **self._left[0])
        self._left.pop(0)
        return self._written

    def end(self) -> None:
        """What is left is not done: the state is another one."""
        self._left, self._written = [], FIRST_ID

    @property
    def _is_carried_out(self) -> bool:
        return id_tuple(self._loop.reader.position.id) >= id_tuple(self._written)
