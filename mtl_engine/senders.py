"""How well the model answers the rows of each sender before it is trained on them, and whose rows stand out.

A row counts as right by 1 minus the error that its task's kind sees in the outputs: 0 or 1 of a classification. One
step in `EVERY` is looked at, and only rows that tell who sent them (`Rows.origin`). Which steps follows multiples of the
golden ratio, which keep time with nothing: of senders that take turns, a fixed distance would miss some for ever.

A task's window is made of `SLICES` slices of `SLICE_ROWS` rows. Senders are compared within slices only, that is over
the same time: a model that learns makes early rows look wrong, whoever sent them. What stands out is not always wrong:
rows of classes that nobody else sends may be harder. A suspect is somebody to look at. And of two who contradict each
other, the model believes the one who sends more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mtl_engine.types import Array, Json
from mtl_engine.watch import Seen, errors

if TYPE_CHECKING:
    from mtl_engine.batch import Joined
    from mtl_engine.strategies.base import TaskStep

EVERY = 4  # steps, on average
LARGEST_NUMBER = 64  # of a sender
SLICES = 6
SLICE_ROWS = 320  # and the rest of the step: of two who send as much, about the last 1,000 each
MIN_ROWS = 50  # of a suspect, and as many of the others
MIN_SLICE_ROWS = 5  # of a sender and of the others, in a slice where they are compared
MIN_SLICES = 3  # of those
MIN_DIFFERENCE = 0.2
LEVEL = 5.0  # standard errors
_GOLDEN, _WHOLE = 0x9E3779B9, 1 << 32  # the golden ratio's fraction in units of 2^-32
_NUMBERS = LARGEST_NUMBER + 2  # and -1, which is not told

K = TypeVar("K")


class Senders:
    """A window for every task. The state is a function of the rows and steps alone."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def see(self, number: int, joined: Sequence[Joined], tasks: Mapping[str, TaskStep]) -> None:
        """The stream rows of a step, and the outputs that the model had for them."""
        if number * _GOLDEN % _WHOLE * EVERY >= _WHOLE:
            return
        for part in joined:
            if part.stream is None or part.stream.origin is None:
                continue
            for name in part.stream.targets:
                step = tasks.get(name)
                if step is not None and step.num_stream:
                    window = self._windows.get(name) or self._windows.setdefault(name, _Window())
                    window.see(step, part.stream.origin)

    def report(self) -> dict[str, dict[int, Json]]:
        """By task and number: `score` and `rows` of the window, and `beside`: the same where others sent rows too."""
        return {name: window.report() for name, window in self._windows.items()}

    def forget(self, task: str) -> None:
        """The task is gone."""
        self._windows.pop(task, None)

    def state(self) -> tuple[Json, dict[str, Array]]:
        """Arrays by `<task>/<what>`; bounded by the number of tasks."""
        arrays = {
            f"{name}/{key}": value
            for name, window in self._windows.items()
            for key, value in window.state().items()
        }
        return {"tasks": list(self._windows)}, arrays

    def load_state(self, meta: Json, arrays: Mapping[str, Array]) -> None:
        """Take over a saved state; one from before there was any is empty."""
        self._windows = {name: _Window() for name in meta.get("tasks", ())}
        for name, window in self._windows.items():
            window.load_state({key: arrays[f"{name}/{key}"] for key in window.state()})


class _Window:
    """Wrong and looked-at rows of a task by slice and sender, the youngest slice first.

    Bound: 6 KB, and the outputs of the steps that make up a slice.
    """

    def __init__(self) -> None:
        self._slices = np.zeros((SLICES, 2, _NUMBERS))
        self._wrong_B = np.zeros(0, np.float32)  # of rows that wait until their slice is full
        self._place_B = np.zeros(0, np.int64)  # and who sent them: number + 1, 0 = not counted
        self._seen: list[Seen] = []  # of rows after those
        self._sent: list[Array] = []
        self._num_rows = 0  # of both
        self._columns = 0

    def see(self, step: TaskStep, origin_S: Array) -> None:
        """Rows wait until their slice is full: to ask for the errors of each step costs more."""
        columns = step.z_BC.shape[1]
        if columns != self._columns:
            self._read()  # what was seen has another width
            self._columns = columns
        self._seen.append(Seen.of(step))
        self._sent.append(origin_S if step.rows is None else origin_S[step.rows[: step.num_stream]])
        self._num_rows += step.num_stream
        if self._num_rows >= SLICE_ROWS:
            self._slices[1:] = self._counted()[:-1]
            self._slices[0] = 0.0
            self._wrong_B, self._place_B = self._wrong_B[:0], self._place_B[:0]
            self._num_rows = 0

    def report(self) -> dict[int, Json]:
        told_L2K = self._counted()[:, :, 1:]
        all_L2 = told_L2K.sum(2)
        seen = np.flatnonzero(told_L2K[:, 1].sum(0)).tolist()
        return {number: _told(told_L2K[:, :, number], all_L2) for number in seen}

    def state(self) -> dict[str, Array]:
        self._read()
        return {"slices": self._slices, "wrong": self._wrong_B, "place": self._place_B}

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        self._slices = np.array(arrays["slices"])
        self._wrong_B, self._place_B = np.array(arrays["wrong"]), np.array(arrays["place"])
        self._num_rows = len(self._wrong_B)

    def _counted(self) -> Array:
        """The slices with the rows that wait."""
        self._read()
        found = self._slices.copy()
        found[0, 0] += np.bincount(self._place_B, self._wrong_B, _NUMBERS)
        found[0, 1] += np.bincount(self._place_B, None, _NUMBERS)
        return found

    def _read(self) -> None:
        """Errors in place of outputs; when that happens changes nothing that is counted."""
        if not self._seen:
            return
        wrong_B, labelled_B = errors(self._seen)
        wrong_B[np.isnan(wrong_B)] = 1.0  # outputs beyond all numbers
        place_B = np.add(np.concatenate(self._sent), 1, dtype=np.int64)
        if labelled_B is not None:
            place_B *= labelled_B
        if len(self._wrong_B):
            wrong_B = np.concatenate([self._wrong_B, wrong_B])
            place_B = np.concatenate([self._place_B, place_B])
        self._wrong_B, self._place_B = wrong_B, place_B
        self._seen, self._sent = [], []


def suspects(report: Mapping[K, Json], *, alone: bool = False) -> list[K]:
    """Senders of a task, as its part of a `report` tells of them, whose rows are wrong far more often than the others'.

    Needed are `MIN_ROWS` rows on both sides in `MIN_SLICES` slices, a difference above `MIN_DIFFERENCE`, and one that
    is `LEVEL` times its standard error (two proportions, pooled). A task's only sender stands beside nobody: it is
    named where the caller says that something is wrong (`alone`), and never else.
    """
    if len(report) == 1:
        return [sender for sender, told in report.items() if alone and told["rows"] >= MIN_ROWS]
    return [sender for sender, told in report.items() if _stands_out(told["beside"])]


def contested(report: Mapping[str, Mapping[int, Json]]) -> list[str]:
    """Tasks of which a sender stands out beside the others."""
    return [task for task, senders in report.items() if suspects(senders)]


def _stands_out(beside: Json | None) -> bool:
    if beside is None or beside["slices"] < MIN_SLICES:
        return False
    rows, others = beside["rows"], beside["other_rows"]
    difference = beside["other_score"] - beside["score"]
    if min(rows, others) < MIN_ROWS or difference <= MIN_DIFFERENCE:
        return False
    p = (rows * beside["score"] + others * beside["other_score"]) / (rows + others)
    return difference > LEVEL * math.sqrt(p * (1 - p) * (1 / rows + 1 / others))


def _told(own_L2: Array, all_L2: Array) -> Json:
    wrong, rows = own_L2.sum(0).tolist()
    beside = _beside(own_L2, all_L2 - own_L2)
    return {"score": 1 - wrong / rows, "rows": int(rows), "beside": beside}


def _beside(own_L2: Array, others_L2: Array) -> Json | None:
    """A sender and the others in the slices that have rows of both; None where there is no such slice.

    Each slice counts for the others as much as for the sender; `other_rows` is how many rows evenly spread over the
    slices would tell as much.
    """
    both_L = np.minimum(own_L2[:, 1], others_L2[:, 1]) >= MIN_SLICE_ROWS
    if not both_L.any():
        return None
    wrong_L, rows_L = own_L2[both_L].T
    other_wrong_L, other_rows_L = others_L2[both_L].T
    rows = float(rows_L.sum())
    return {
        "slices": len(rows_L),
        "rows": int(rows),
        "score": 1 - float(wrong_L.sum()) / rows,
        "other_rows": int(rows**2 / float((rows_L**2 / other_rows_L).sum())),
        "other_score": 1 - float((rows_L * other_wrong_L / other_rows_L).sum()) / rows,
    }
