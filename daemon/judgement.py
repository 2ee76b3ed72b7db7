"""What the log has shown of how well tasks are known: scores, what fell, whose rows stand out, what the operator accepted.

A part of the state machine: every method is one consequence of an entry.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING

from daemon.errors import BadEvent
from daemon.evaluation import Evaluation
from daemon.identity import FIRST_ID, id_tuple, is_id
from mtl_engine.senders import MIN_DIFFERENCE, contested, suspects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

    from daemon.guard import Guard
    from daemon.senders import SenderNames
    from daemon.types import Json
    from mtl_engine.engine import Engine
    from mtl_engine.evaluate import Scored


class Judgement:
    """Scores judge rows when an entry says so, and keeps what follows from the scores."""

    def __init__(self, engine: Engine, guard: Guard, senders: SenderNames) -> None:
        self.guard = guard
        self.evaluation = Evaluation()
        self.accepted: dict[str, str] = {}  # by task: the entry at which its level was accepted
        self._news: list[tuple[str, Json]] = []
        self._engine = engine
        self._senders = senders

    def score(self, entry_id: str, tasks: Sequence[str] | None = None) -> Scored:
        """Score some tasks or all; what is pending stays pending, since scoring changes nothing that is learned."""
        scored = self._engine.judge.score(tasks)
        self.evaluation.scored(scored, entry_id, self._engine.step_count)
        self.guard.contested = contested(self._engine.senders())
        return scored

    def ended(self, entry_id: str, following: str) -> Scored:
        """A phase ends, and one of the task `following` begins: decide which weights are published, and score these on all tasks."""
        focus = self._engine.focus
        self._decided(self._engine.choice.end(focus[0] if focus else following))
        return self.score(entry_id)

    def evaluate(self, entry_id: str, detail: Json) -> None:
        """Compare both weights on some tasks (`compare`), decide by all such comparisons (`choose`), or score some (`tasks`).

        Tasks are named with commas between them; those that are gone meanwhile are passed over. Without these: all of it.
        """
        compare, tasks = str(detail.get("compare") or ""), str(detail.get("tasks") or "")
        choice, known = self._engine.choice, self._engine.tasks
        if compare:
            choice.compare(compare.split(","))
            self._decided(bool(detail.get("choose")) and choice.decide())
            return
        if not tasks:
            self._decided(choice.choose())
        scored = self.score(
            entry_id, [n for n in tasks.split(",") if n in known] if tasks else None
        )
        self.guard.evaluated(scored, self._tolerances(), entry_id, self._engine.step_count)
        self._guarded()

    def switched(self, scored: Scored, entry_id: str) -> None:
        """A task switch was applied, at which every task was scored."""
        self.guard.switched(scored, self._tolerances(), entry_id, self._engine.step_count)
        self._guarded()

    def accept(self, task: str, at: str, proof: str, entry_id: str) -> None:
        """The operator takes a task's present level as the measure: for the guard, and for the gate's next verdict.

        The proof keeps producers from doing so, and from saying again what the operator once said.
        """
        is_ours = compare_digest(proof, self.acceptance(task, at)) and is_id(at)
        if not is_ours or id_tuple(at) < id_tuple(self.accepted.get(task, FIRST_ID)):
            told = "only the daemon accepts a level, for whoever types `mtld task accept`"
            raise BadEvent("foreign_control", told)
        self.guard.accept(task)
        self.accepted[task] = entry_id

    def acceptance(self, task: str, at: str) -> str:
        """The proof that the operator's decision carries, made at this place in the log."""
        return self._engine.judge.splitter.contents.proof(f"accept {task} {at}")

    def forget(self, task: str) -> None:
        """The task is gone."""
        self.guard.forget(task)
        self.evaluation.forget(task)
        self.accepted.pop(task, None)

    def news(self) -> Iterable[tuple[str, Json]]:
        """Kinds and details of the journal's lines on this entry: other weights, what fell or recovered."""
        told, self._news = self._news, []
        return told

    def _guarded(self) -> None:
        """What fell is told with the senders that stand out."""
        report = self.senders_report() if self.guard.fallen else {}
        self.guard.name_senders({task: self._suspects(task, of) for task, of in report.items()})
        self._news += self.guard.news()

    def _decided(self, is_another: bool) -> None:
        """The journal is told where other weights are published from now on."""
        if is_another:
            self._news.append(("weights_chosen", self._engine.choice.told()))

    def _suspects(self, task: str, report: Mapping[str, Json]) -> list[str]:
        """Senders whose rows stand out beside the others'; of a task's only sender, beside what the task was."""
        if len(report) > 1:
            return suspects(report)
        was = [fall["was"] for fall in self.guard.fallen.values() if fall["task"] == task]
        low = min(was, default=0.0) - MIN_DIFFERENCE
        return [name for name in suspects(report, alone=True) if report[name]["score"] < low]

    def senders_report(self) -> dict[str, dict[str, Json]]:
        """By task and sender: how well its rows were answered before they were trained on."""
        return self._senders.named(self._engine.senders())

    def _tolerances(self) -> dict[str, float]:
        return {name: task.tolerance for name, task in self._engine.tasks.items()}

    def state(self) -> tuple[dict[str, np.ndarray], Json]:
        arrays, guard = self.guard.state()
        told = {"evaluation": self.evaluation.state(), "accepted": dict(self.accepted)}
        return arrays, {"guard": guard, **told}

    def load_state(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Json]) -> None:
        """Take over a state; one of before has a guard and nothing else."""
        self.guard.load_state(arrays, meta["guard"])
        self.evaluation.load_state(meta.get("evaluation", {}))
        self.accepted = dict(meta.get("accepted", {}))
