"""Labels and their columns: a growing list of ints or strings in order of first appearance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np

from mtl_engine.errors import BadRows
from mtl_engine.types import Array

MAX_LABEL = 2**31 - 1
MAX_LABEL_BYTES = 256
_DIRECT = 65_536  # int labels below this are looked up in one gather
_SHORT = 64  # rows


def is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    """A list or tuple, as JSON and users bring them; not an array."""
    return isinstance(value, (list, tuple))


class Vocabulary:
    """Maps labels to columns; a task is all ints or all strings, decided by its first label."""

    def __init__(self, labels: Iterable[int | str], max_classes: int, task: str) -> None:
        self.labels: list[int | str] = []
        self.max_classes = max_classes
        self.task = task
        self._columns: dict[int | str, int] = {}
        self._direct_L = np.full(256, -1, np.int32)
        self.admit(list(labels))

    def __len__(self) -> int:
        return len(self.labels)

    def known(self, y: Any) -> Array | None:
        """Columns int32 [B] of an array of whole numbers that are all known labels, the usual case; else None."""
        if type(y) is not np.ndarray or y.dtype.kind not in "iu" or y.ndim != 1 or not y.size:
            return None
        if len(y) <= _SHORT:  # a look at each costs less than the four operations below
            of = self._columns
            columns = [of.get(label, -1) for label in y.tolist()]
            return np.array(columns, np.int32) if min(columns) >= 0 else None
        unsigned_B = y.astype(np.uint64)  # a negative number becomes a large one
        if np.maximum.reduce(unsigned_B) >= len(self._direct_L):
            return None
        columns_B = self._direct_L.take(unsigned_B.view(np.int64))
        return columns_B if np.minimum.reduce(columns_B) >= 0 else None

    def columns(self, labels_B: Array) -> tuple[Array, list[int | str]]:
        """Columns int32 [B] of checked labels, and the labels that are new, whose columns follow the known ones."""
        if labels_B.dtype != object and labels_B.size and int(labels_B.max()) < len(self._direct_L):
            columns_B = self._direct_L[labels_B]
            if columns_B.size == 0 or int(columns_B.min()) >= 0:
                return columns_B, []
        different, first, back_B = np.unique(labels_B, return_index=True, return_inverse=True)
        known = np.array([self._columns.get(label, -1) for label in different.tolist()], np.int32)
        fresh = np.flatnonzero(known < 0)
        fresh = fresh[np.argsort(first[fresh])]
        known[fresh] = len(self) + np.arange(len(fresh), dtype=np.int32)
        return known[back_B], different[fresh].tolist()

    def admit(self, fresh: Sequence[int | str]) -> None:
        """Give new labels the next columns."""
        for label in fresh:
            self._columns[label] = len(self.labels)
            self.labels.append(label)
        small = [label for label in fresh if isinstance(label, int) and label < _DIRECT]
        if small and max(small) >= len(self._direct_L):
            grown_L = np.full(min(_DIRECT, 2 * max(small) + 1), -1, np.int32)
            grown_L[: len(self._direct_L)] = self._direct_L
            self._direct_L = grown_L
        for label in small:
            self._direct_L[label] = self._columns[label]

    def check(self, y: Any, present_B: Array) -> Array:
        """The labels of the rows in `present_B` only, as int64 or as an object array of strings."""
        labels = _from_list(y) if is_list(y) else np.asarray(y)
        if labels.ndim != 1:
            raise BadRows(
                "wrong_rank",
                f"labels of {self.task} have {labels.ndim} axes: allowed is one label a row",
            )
        if labels.dtype.kind in "iu":
            return self._check_ints(
                labels.astype(np.int64) if labels.dtype != np.uint64 else labels, present_B
            )
        if labels.dtype.kind == "f":
            raise _not_a_label(labels[present_B], self.task)
        if labels.dtype.kind not in "OUS":
            raise BadRows(
                "wrong_dtype",
                f"labels of {self.task} are {labels.dtype}: allowed are whole numbers or strings",
            )
        return self._check_objects(labels.astype(object), present_B)

    def _check_ints(self, labels_B: Array, present_B: Array) -> Array:
        used = labels_B if bool(present_B.all()) else labels_B[present_B]
        if used.size and int(used.min()) < 0:
            raise BadRows(
                "negative_label",
                f"label {int(used.min())} of {self.task}: allowed are 0 to {MAX_LABEL}; use mask for missing labels",
            )
        if used.size and int(used.max()) > MAX_LABEL:
            raise BadRows(
                "label_out_of_range",
                f"label {int(used.max())} of {self.task}: allowed are 0 to {MAX_LABEL}",
            )
        self._check_type(int, used.size > 0)
        return used.astype(np.int64)

    def _check_objects(self, labels_B: Array, present_B: Array) -> Array:
        used = labels_B[present_B]
        kinds = set(map(type, used.tolist()))
        if kinds <= {int}:
            if used.size and max(used) > MAX_LABEL:
                raise BadRows(
                    "label_out_of_range",
                    f"label {max(used)} of {self.task}: allowed are 0 to {MAX_LABEL}",
                )
            return self._check_ints(
                np.maximum(used, -1).astype(np.int64), np.ones(len(used), np.bool_)
            )
        if kinds == {float}:
            raise _not_a_label(used.astype(np.float64), self.task)
        if kinds == {bytes}:
            used = np.array([_decoded(label, self.task) for label in used], object)
        elif kinds != {str}:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            reason = "mixed_label_types" if len(kinds) > 1 else "wrong_dtype"
            raise BadRows(
                reason, f"labels of {self.task} are {names}: allowed are all ints or all strings"
            )
        self._check_type(str, True)
        for label in set(used.tolist()):
            if _num_bytes(label, self.task) > MAX_LABEL_BYTES:
                raise BadRows(
                    "label_too_long",
                    f"a label of {self.task} has {_num_bytes(label, self.task)} bytes: allowed are {MAX_LABEL_BYTES}",
                )
        return used

    def _check_type(self, kind: type, matters: bool) -> None:
        if matters and self.labels and not isinstance(self.labels[0], kind):
            known = type(self.labels[0]).__name__
            raise BadRows(
                "mixed_label_types",
                f"labels of {self.task} are {kind.__name__}, until now they were {known}: one task has one type",
            )

    def check_room(self, fresh: Sequence[int | str]) -> None:
        """Refuse labels that would exceed max_classes."""
        if len(self) + len(fresh) > self.max_classes:
            raise BadRows(
                "too_many_classes",
                f"{self.task} knows {len(self)} labels and {len(fresh)} are new, for example {fresh[0]!r}: "
                f"allowed are {self.max_classes}; raise max_classes of the task",
            )


def _from_list(y: Sequence[Any]) -> Array:
    if all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in set(map(type, y))):
        try:
            return np.asarray(y, np.int64)
        except OverflowError:
            return np.asarray(y, object)
    return np.asarray(y, object)


def _not_a_label(labels: Array, task: str) -> BadRows:
    if np.isnan(labels).any():
        return BadRows("nan_label", f"a label of {task} is NaN: use mask for missing labels")
    return BadRows(
        "wrong_dtype", f"labels of {task} are floating point: allowed are whole numbers or strings"
    )


def _decoded(label: bytes, task: str) -> str:
    try:
        return label.decode()
    except UnicodeDecodeError as error:
        raise BadRows("wrong_dtype", f"a label of {task} is not UTF-8: {error}") from error


def _num_bytes(label: str, task: str) -> int:
    try:
        return len(label.encode())
    except UnicodeEncodeError as error:
        raise BadRows(
            "wrong_dtype", f"a label of {task} cannot be written as UTF-8: {error}"
        ) from error
