"""The guard: notices when a task fell, by its judge rows one by one, and says so until it has recovered or is accepted.

Everything here is a function of the log: rows are scored at task switches and at `evaluate` decisions, which stand in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtl_engine.paired import Paired, RowBase

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np

    from daemon.types import Json
    from mtl_engine.evaluate import Part, Scored

FALSE_ALARMS = 1e-4  # an evaluation, over all parts together: counted, not timed
FRESH = 0.05  # that a part loses at least, where it is judged by rows that came since
RECOVERED = 0.05  # a loss that chance explains this easily is none any more
RENEW_STEPS = 2000  # after which a part that has not fallen is compared with what it is now: the teacher's rhythm


@dataclass(frozen=True, slots=True)
class Base:
    """What a part is compared with: the errors of its rows at one step."""

    task: str
    step: int
    rows: RowBase


class Guard:
    """Compares every part (a task's rows of one phase) with its errors at the last switch, on the rows that are still there.

    A part falls if its score on them is lower by more than the task's tolerance, and by more than chance explains: a sign
    test, at a level that leaves one false alarm in 10,000 evaluations. Where two senders contradict each other a model may
    go on answering the old rows as it did while it gets half of the new ones wrong: so a part of a task of which a sender
    stands out falls, too, if the rows that came since are answered far worse than those of the base were.

    It recovers when the loss is within the tolerance or within what chance explains; `accept` makes what it is now the
    measure. A part with fewer than `min_rows` common rows is not judged, and one that has fallen stays so. Without
    switches a base is renewed every `RENEW_STEPS` steps, and as soon as the model is surely better or has twice as many
    rows. Bound: an id and an error a judge row.
    """

    def __init__(self, min_rows: int) -> None:
        self.min_rows = min_rows
        self.base: dict[str, Base] = {}  # by part
        self.since = (
            ""  # entry id of the last switch; while a part is fallen, of the one it fell after
        )
        self.fallen: Json = {}  # by part: {"task", "was", "is", "rows", "at", "sources", "is_fresh"}
        self.contested: Collection[
            str
        ] = ()  # tasks of which a sender stands out now; not part of the state
        self.gave_up = (
            ""  # the switch before which nothing was found to go back to; not part of the state
        )
        self.is_new = False  # parts fell at the last evaluation that had not fallen before
        self.has_recovered = False  # nothing is fallen any more, and something was before it

    @property
    def held(self) -> str:
        """Why promotions should be held back, or nothing."""
        told = [f"{part} fell from {fall['was']:.4f} to {fall['is']:.4f}" for part, fall in self.fallen.items()]  # fmt: skip
        return f"after the switch at {self.since or 'the start'}: {'; '.join(told)}" if told else ""

    def evaluated(
        self, scored: Scored, tolerances: Mapping[str, float], entry_id: str, step: int
    ) -> None:
        """Some or all tasks were scored."""
        before = dict(self.fallen)
        for name, part in scored.parts.items():
            paired, tolerance = self._paired(name, part), tolerances.get(part.task, 0.0)
            lost = self._lost(name, part, paired, tolerance)
            if lost is not None:
                self._falls(name, part.task, lost, entry_id, is_fresh=lost is not paired)
            elif paired is not None or self._is_back(name, part, tolerance):
                self.fallen.pop(name, None)
            if name not in self.fallen and self._is_old(name, part, paired, step):
                self._renew(name, part, step)
        self.is_new = bool(self.fallen.keys() - before.keys())
        self.has_recovered = bool(before) and not self.fallen

    def switched(
        self, scored: Scored, tolerances: Mapping[str, float], entry_id: str, step: int
    ) -> None:
        """A task switch was applied: an evaluation too, and the base of those that follow.

        What is fallen keeps the base it fell from, so a further switch does not make a loss the new normal, and the
        switch after which it fell is still the one to go back to.
        """
        self.evaluated(scored, tolerances, entry_id, step)
        self.base = {name: base for name, base in self.base.items() if name in self.fallen}
        for name, part in scored.parts.items():
            if name not in self.fallen:
                self._renew(name, part, step)
        if not self.fallen:
            self.since = entry_id

    def name_senders(self, suspects: Mapping[str, Sequence[str]]) -> None:
        """Whose rows of each task stand out: told beside what fell, as long as it is fallen."""
        for fall in self.fallen.values():
            named = dict.fromkeys([*fall.get("sources", ()), *suspects.get(fall["task"], ())])
            fall["sources"] = list(named)

    def news(self) -> list[tuple[str, Json]]:
        """Kind and detail of the journal's line on the last evaluation, if it brought any."""
        if self.is_new:
            # Copies: the line may leave later, and what is told of a fall goes on changing.
            parts = {part: dict(fall) for part, fall in self.fallen.items()}
            return [("guard_fell", {"since": self.since, "parts": parts})]
        return [("guard_recovered", {"since": self.since})] if self.has_recovered else []

    def flipped(self, scored: Scored) -> Json:
        """By part: on how many common rows the errors became larger since its base (`worse`), and smaller (`better`)."""
        found: Json = {}
        for name, part in scored.parts.items():
            base = self.base.get(name)
            paired = base and base.rows.compare(part.id_H, part.errors, 1)
            if base and paired:
                found[name] = {
                    "task": part.task,
                    "step": base.step,
                    "rows": paired.rows,
                    "worse": paired.worse,
                    "better": paired.better,
                    "was": paired.was,
                    "is": paired.score,
                }
        return found

    def accept(self, task: str) -> None:
        """What the task is at its next evaluation is its measure from then on."""
        for name in [name for name, base in self.base.items() if base.task == task]:
            del self.base[name]
        self.fallen = {name: fall for name, fall in self.fallen.items() if fall["task"] != task}

    def forget(self, task: str) -> None:
        """The task is gone."""
        self.accept(task)

    def resume(self, base: Mapping[str, Base], since: str) -> None:
        """What came since was left out: go on comparing with these errors, as if there had been a switch just now."""
        self.base, self.since, self.fallen = dict(base), since, {}

    def _paired(self, name: str, part: Part) -> Paired | None:
        """A part against its base; None without one, or with too few rows in common."""
        base = self.base.get(name)
        if base is None:
            return None
        return base.rows.compare(part.id_H, part.errors, self.min_rows)

    def _lost(
        self, name: str, part: Part, paired: Paired | None, tolerance: float
    ) -> Paired | None:
        """The loss by which a part is down: on the same rows, or on those that came since; None if it is not."""
        if paired is not None and self._is_down(name, paired, tolerance):
            return paired
        base = self.base.get(name)
        if base is None or part.task not in self.contested:
            return None
        fresh = base.rows.since(part.id_H, part.errors, self.min_rows)
        is_down = fresh is not None and self._is_down(name, fresh, max(tolerance, FRESH))
        return fresh if is_down else None

    def _falls(self, name: str, task: str, lost: Paired, entry_id: str, *, is_fresh: bool) -> None:
        first: Json = self.fallen.get(name) or {"at": entry_id, "sources": []}
        self.fallen[name] = {
            "task": task,
            "was": lost.was,
            "is": lost.score,
            "rows": lost.rows,
            "at": first["at"],
            "sources": first["sources"],
        }
        if is_fresh:
            self.fallen[name]["is_fresh"] = True

    def _is_down(self, name: str, paired: Paired, tolerance: float) -> bool:
        """Whether it has fallen, or has not got up again."""
        level = RECOVERED if name in self.fallen else FALSE_ALARMS / len(self.base)
        return paired.loss > tolerance and paired.chance <= level

    def _is_back(self, name: str, part: Part, tolerance: float) -> bool:
        """Whether a part is as good as it was whose errors are not known (a state of before says scores only).

        And one that fell on rows that came since is back once no sender stands out.
        """
        fall = self.fallen.get(name)
        if fall is not None and fall.get("is_fresh"):
            return True
        if fall is None or name in self.base or part.score is None:
            return False
        return part.score >= fall["was"] - tolerance

    def _is_old(self, name: str, part: Part, paired: Paired | None, step: int) -> bool:
        """Whether there is no base that says much: none, one of long ago, of a far worse model or of half the rows."""
        base = self.base.get(name)
        if base is None or paired is None or step - base.step >= RENEW_STEPS:
            return True
        return paired.gain_chance <= FALSE_ALARMS or 2 * len(base.rows.id_H) <= len(part.id_H)

    def _renew(self, name: str, part: Part, step: int) -> None:
        self.base[name] = Base(part.task, step, RowBase.of(part.id_H, part.errors))

    def state(self) -> tuple[dict[str, np.ndarray], Json]:
        """Arrays `guard-<n>/...` and JSON."""
        arrays: dict[str, np.ndarray] = {}
        bases: list[Json] = []
        for number, (name, base) in enumerate(self.base.items()):
            own = base.rows.to_arrays()
            arrays |= {f"guard-{number}/{name}": array for name, array in own.items()}
            bases.append({"part": name, "task": base.task, "step": base.step})
        return arrays, {"bases": bases, "since": self.since, "fallen": dict(self.fallen)}

    def load_state(self, arrays: Mapping[str, np.ndarray], state: Json) -> None:
        """Take over a state; one of before knows scores by part, with which rows cannot be compared."""
        self.since = str(state["since"])
        self.base = {
            base["part"]: Base(
                base["task"],
                int(base["step"]),
                RowBase.from_arrays(_below(f"guard-{k}/", arrays)),
            )
            for k, base in enumerate(state.get("bases", ()))
        }
        blank: Json = {"rows": 0, "at": self.since, "sources": []}
        self.fallen = {
            name: {"task": name.partition("/")[0], **blank, **fall}
            for name, fall in state["fallen"].items()
        }
        self.is_new = self.has_recovered = False


def _below(start: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }
