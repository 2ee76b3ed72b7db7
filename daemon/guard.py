"""The guard: notices when a task fell after a switch, by its hold-outs, and says so until it has recovered.

Everything here is a function of the log: scores are taken at task switches and at `evaluate` decisions, which
stand in the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.types import Json


class Guard:
    """Compares the score of every part (a task's rows of one phase) with the one it had at the last switch.

    A part counts as fallen when its score is more than its task's tolerance below; one with fewer than
    `min_rows` held-out rows is not judged. Bound: one number a part.
    """

    def __init__(self, min_rows: int) -> None:
        self.min_rows = min_rows
        self.base: dict[str, float] = {}  # score by part at the last switch
        self.since = (
            ""  # the entry id of that switch; while a part is fallen, of the one it fell after
        )
        self.fallen: Json = {}  # by part: {"was", "is"}, while it is fallen
        self.gave_up = (
            ""  # the switch before which nothing was found to go back to; not part of the state
        )
        self.is_new = False  # parts fell at the last evaluation that had not fallen before
        self.has_recovered = False  # nothing is fallen any more, and something was before it

    @property
    def held(self) -> str:
        """Why promotions should be held back, or nothing."""
        told = [f"{part} fell from {one['was']:.4f} to {one['is']:.4f}" for part, one in self.fallen.items()]  # fmt: skip
        return f"after the switch at {self.since}: {'; '.join(told)}" if told else ""

    def evaluated(self, scored: Json, tolerances: Mapping[str, float]) -> None:
        """The hold-outs were scored (`Engine.score`)."""
        before = set(self.fallen)
        self.fallen = {
            part: {"was": was, "is": scored["parts"][part]}
            for part, was in self.base.items()
            if part in scored["parts"]
            and scored["part_rows"].get(part, 0) >= self.min_rows
            and scored["parts"][part] < was - tolerances.get(part.partition("/")[0], 0.0)
        }
        self.is_new = bool(set(self.fallen) - before)
        self.has_recovered = bool(before) and not self.fallen

    def switched(self, scored: Json, tolerances: Mapping[str, float], entry_id: str) -> None:
        """A task switch was applied: an evaluation too, and the base of those that follow.

        What is fallen keeps the base it fell from, so a further switch does not make a loss the new normal, and the
        switch after which it fell is still the one to go back to.
        """
        self.evaluated(scored, tolerances)
        kept = {part: self.fallen[part]["was"] for part in self.fallen}
        self.base = {**scored["parts"], **kept}
        if not kept:
            self.since = entry_id

    def resume(self, base: Mapping[str, float], since: str) -> None:
        """What came since was left out: go on comparing with these scores, as if there had been a switch just now."""
        self.base, self.since, self.fallen = dict(base), since, {}

    def state(self) -> Json:
        return {"base": dict(self.base), "since": self.since, "fallen": dict(self.fallen)}

    def load_state(self, state: Json) -> None:
        self.base, self.since = dict(state["base"]), str(state["since"])
        self.fallen = dict(state["fallen"])
        self.is_new = self.has_recovered = False
