"""Phases that nobody announced: drift that was detected waits here until its mark has come back through the log.

What was detected is a function of the log, and so is when the mark is applied; only when it is appended is not, and
nothing depends on that. A mark that was written twice, or that a task switch overtook, finds nothing waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from daemon.types import Json
    from mtl_engine.drift import Drift

_STATE = "drift/"  # how the names of the detector's arrays begin


class Phases:
    """What the detector found, by task; without a detector nothing ever is. Bound: one a task."""

    def __init__(self, drift: Drift | None = None) -> None:
        self.drift = drift
        self.waiting: dict[
            str, Json
        ] = {}  # "phase", "after" (the entry it was detected after), "found"
        self.counts: dict[str, int] = {}  # marks applied

    def stepped(self, entry_id: str) -> None:
        """Take what the detector raised in a step after this entry."""
        if self.drift is None or not self.drift.alarms:
            return
        for task, found in self.drift.alarms.items():
            if task not in self.waiting:
                phase = f"drift-{found['step']}"
                self.waiting[task] = {"phase": phase, "after": entry_id, "found": found}

    def marked(self, task: str, phase: str) -> Json | None:
        """What was found where this mark is still waited for, and counts; None where it is not."""
        one = self.waiting.get(task)
        if one is None or one["phase"] != phase:
            return None
        self.counts[task] = self.counts.get(task, 0) + 1
        return one["found"]

    def begin(self, task: str) -> None:
        """A phase of the task begins, whoever marked it."""
        self.waiting.pop(task, None)
        if self.drift is not None:
            self.drift.reset(task)

    def forget(self, task: str) -> None:
        """The task is retired."""
        self.begin(task)
        self.counts.pop(task, None)

    def state(self) -> tuple[dict[str, np.ndarray], Json]:
        meta: Json = {"waiting": dict(self.waiting), "counts": dict(self.counts), "drift": None}
        if self.drift is None:
            return {}, meta
        meta["drift"], arrays = self.drift.state()
        return {f"{_STATE}{name}": array for name, array in arrays.items()}, meta

    def load_state(self, arrays: dict[str, np.ndarray], meta: Json) -> None:
        """A detector that was off when the state was taken starts afresh; one that is off now forgets."""
        self.waiting = dict(meta["waiting"]) if self.drift is not None else {}
        self.counts = dict(meta["counts"])
        if self.drift is not None and meta["drift"] is not None:
            own = {
                name.removeprefix(_STATE): array
                for name, array in arrays.items()
                if name.startswith(_STATE)
            }
            self.drift.load_state(meta["drift"], own)
