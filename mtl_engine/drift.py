"""Drift in the stream of a task: its inputs, its labels given the inputs, or the model's errors are not what they were.

Each task has three adaptive windows (`adwin`) over its stream rows, seen before they are trained on:

- errors: how wrong the model was, 0 to 1. Only a rise is a drift; a fall is learning, and what it makes out of date
  is dropped. A model that adapts, or that replays an older concept, hides much here, so two windows ask the rows alone.
- inputs: u(x) = (1 + tanh(W x + b)) / 2, 16 random features (Rahimi and Recht 2008) of standardised inputs.
- labels: y - B u(x), with the linear map B fitted to the first rows: P(y | x) moved though P(x) did not. A class
  stands for itself as its column's number in binary, the last 4 bits.

A window asks no more than whether rows are still like those before, so the rows of a stationary stream raise a false
alarm with a probability that `delta` bounds, however the model learns. Errors of a learning model wander, so their
window has `delta` / 50.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtl_engine.errors import EngineError
from mtl_engine.types import Array, Json, Rows, Target
from mtl_engine.watch import Watch

if TYPE_CHECKING:
    from mtl_engine.batch import Joined
    from mtl_engine.strategies.base import TaskStep


class Drift:
    """A watch for every task; `alarms` are those not yet reset, by task, each with the step it was raised at.

    A task with an alarm is not looked at until `reset`, which begins a phase: its windows start afresh.
    """

    def __init__(self, delta: float = 0.1, seed: int = 0) -> None:
        if not 0.0 < delta < 1.0:
            raise EngineError(
                f"delta of a drift detector is {delta!r}: allowed are numbers between 0 and 1"
            )
        self.alarms: dict[str, Json] = {}
        self._delta, self._seed = delta, seed
        self._watches: dict[str, Watch] = {}

    def see(self, number: int, joined: Sequence[Joined], tasks: Mapping[str, TaskStep]) -> None:
        """The stream rows of a step, and the outputs that the model had for them."""
        for part in joined:
            if part.stream is not None:
                for name, target in part.stream.targets.items():
                    if name not in self.alarms:
                        self._see(number, name, part.stream, target, tasks.get(name))

    def _see(
        self, number: int, name: str, rows: Rows, target: Target, step: TaskStep | None
    ) -> None:
        columns = 0 if step is None else step.z_BC.shape[1]
        watch = self._watches.get(name)
        if watch is None or columns > watch.columns:
            watch = self._watches[name] = Watch(self._delta, self._seed)
            watch.columns = columns
        if step is not None and len(step.stream_y):
            watch.see_outputs(step)
        watch.see_rows(rows, target)
        if watch.alarm is not None:
            self.alarms[name] = {"step": number, **watch.alarm}

    def reset(self, task: str) -> None:
        """A phase of the task begins, or the task is gone."""
        self.alarms.pop(task, None)
        self._watches.pop(task, None)

    def state(self) -> tuple[Json, dict[str, Array]]:
        """JSON, and arrays by `<task>/<what>`; bounded by the number of tasks."""
        metas: Json = {}
        arrays: dict[str, Array] = {}
        for name, watch in self._watches.items():
            metas[name], found = watch.state()
            arrays |= {f"{name}/{key}": value for key, value in found.items()}
        return {"watches": metas, "alarms": self.alarms}, arrays

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Take over a saved state."""
        self.alarms, self._watches = dict(meta["alarms"]), {}
        for name, told in meta["watches"].items():
            watch = self._watches[name] = Watch(self._delta, self._seed)
            start = f"{name}/"
            watch.load_state(
                told,
                {
                    key[len(start) :]: value
                    for key, value in arrays.items()
                    if key.startswith(start)
                },
            )
