"""One label a row from a growing vocabulary: softmax cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mtl_engine import losses
from mtl_engine.calibration import Bins, Calibration, fit_softmax
from mtl_engine.errors import BadRows
from mtl_engine.paired import RowErrors
from mtl_engine.tasks.base import Scores, TaskType, both, present, weights
from mtl_engine.tasks.class_counts import ClassCounts
from mtl_engine.types import Array, Json, Target, TaskSpec
from mtl_engine.vocabulary import Vocabulary, is_list

UNEQUAL = 10  # times; beyond it accuracy says little of a rare class


class Classification(TaskType):
    """Columns are labels in order of first appearance; a head grows when a label is new."""

    primary: ClassVar[str] = "accuracy"
    y_dtype: ClassVar[type[np.generic]] = np.int64
    later: ClassVar[frozenset[str]] = frozenset({"stream_C", "recent_KC"})

    def __init__(self, spec: TaskSpec) -> None:
        self.name = spec.name
        self.declared = len(spec.classes)
        self.vocabulary = Vocabulary(spec.classes, spec.max_classes, spec.name)
        self.seen_C = np.zeros(max(8, len(spec.classes)), np.int64)  # trained stream rows a column
        self.stream = ClassCounts()  # all of them, held out or not

    def needed(self, target: Target, columns: int = 0) -> int:
        if columns and columns == len(self.vocabulary):
            return columns
        if target.weight is not None and not (target.weight > 0).any():
            return self.declared
        return max(self.declared, int(np.maximum.reduce(target.y)) + 1)

    def open_C(self, y_B: Array, columns: int) -> Array:
        """Columns that are in `y_B` or were never in any stream row, bool [C]."""
        open_C = self.seen_C[:columns] == 0
        if len(open_C) < columns:
            open_C = np.pad(open_C, (0, columns - len(open_C)), constant_values=True)
        open_C[y_B] = True
        return open_C

    def check(
        self, y: Any, mask: Any, weight: Any, n: int, *, closed: bool = False
    ) -> tuple[Target, list[int | str]]:
        if y is None:
            return Target(np.zeros(n, np.int32), np.zeros(n, np.float32)), []
        known_B = self.vocabulary.known(y) if mask is None and weight is None else None
        if known_B is not None and len(known_B) == n:
            return Target(known_B), []
        y = y if is_list(y) else np.asarray(y)
        if (is_list(y) or y.ndim == 1) and len(y) != n:
            raise BadRows(
                "length_mismatch",
                f"{len(y)} labels of {self.name} for {n} rows: allowed is one a row",
            )
        present_B = present(self.name, mask, (n,))
        if is_list(y) and any(label is None for label in y):
            present_B = both(present_B, np.array([label is not None for label in y]))
        weight_B = weights(self.name, present_B, weight, (n,))
        present_B = np.ones(n, np.bool_) if present_B is None else present_B
        labels = self.vocabulary.check(y, present_B)
        columns, fresh = self.vocabulary.columns(labels)
        if closed:
            known = columns < len(self.vocabulary)
            columns, fresh = np.where(known, columns, -1).astype(np.int32), []
        self.vocabulary.check_room(fresh)
        if len(columns) == n:
            return Target(columns, weight_B), fresh
        y_B = np.zeros(n, np.int32)
        y_B[present_B] = columns
        return Target(y_B, weight_B), fresh

    def admit(self, target: Target, fresh: Sequence[int | str]) -> None:
        self.vocabulary.admit(fresh)

    def observe(self, target: Target) -> None:
        if len(self.vocabulary) > len(self.seen_C):
            self.seen_C = np.pad(self.seen_C, (0, 2 * len(self.vocabulary) - len(self.seen_C)))
        y_B = target.y if target.weight is None else target.y[target.weight > 0]
        self.seen_C += np.bincount(y_B, minlength=len(self.seen_C))
        self.stream.add(y_B)

    def count_held_out(self, target: Target) -> None:
        self.stream.add(target.y[target.labelled()])

    def loss(
        self, z_BC: Tensor, y: Tensor, weight: Tensor | None, shift_C: Tensor | None = None
    ) -> Tensor:
        return losses.cross_entropy(z_BC, y, weight, shift_C)

    def loss_by_hand(
        self,
        z_BC: Tensor,
        y: Tensor,
        weight: Tensor | None,
        shift_C: Tensor | None = None,
        factor: float = 1.0,
    ) -> losses.Known:
        return losses.cross_entropy_by_hand(z_BC, y, weight, shift_C, factor)

    def error(self, z_BC: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
        """1 where the most probable class is another one."""
        return z_BC.argmax(1) != y

    def distil(self, z_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
        return losses.soft_cross_entropy(z_BC, teacher_BC, temperature)

    def distil_by_hand(self, z_BC: Tensor, teacher_BC: Tensor, temperature: float) -> losses.Known:
        return losses.soft_cross_entropy_by_hand(z_BC, teacher_BC, temperature)

    def null_loss(self) -> float | None:
        """Entropy of the class frequencies."""
        count_C = self.seen_C[self.seen_C > 0]
        if not count_C.size:
            return None
        p_C = count_C / count_C.sum()
        return float(-(p_C * np.log(p_C)).sum())

    def predict(self, z_HC: Tensor) -> Any:
        if not self.vocabulary.labels:
            raise BadRows(
                "unknown_task", f"{self.name} has no class yet: train it on labelled rows first"
            )
        kind = np.int64 if isinstance(self.vocabulary.labels[0], int) else object
        return np.array(self.vocabulary.labels, kind)[z_HC.argmax(1).numpy()]

    def probabilities(self, z_HC: Tensor) -> Array:
        return torch.softmax(z_HC.float(), 1).numpy()

    def answers(self, z_BC: Tensor, moved_BC: Tensor) -> dict[str, Tensor]:
        return {"logits": z_BC, "probabilities": torch.softmax(moved_BC, 1)}

    def calibrated(self, z_HC: Tensor, target: Target, lacks: float) -> Calibration:
        """Under the classes' shares of the stream so far, whatever they are among the rows."""
        log_share_C = np.log(self.stream.share(np.arange(z_HC.shape[1])))
        weight_H = self._as_stream(target)
        return fit_softmax(z_HC.numpy(), target.y, weight_H, log_share_C, lacks)

    def reliability(
        self, moved_HC: Tensor, target: Target, *, of_stream: bool = False
    ) -> Bins | None:
        """Of the most probable class; of two classes, of the one that is rarer in the stream."""
        p_HC = torch.softmax(moved_HC, 1).numpy()
        said_H = p_HC.argmax(1)
        if p_HC.shape[1] == 2:
            said_H = np.full(len(p_HC), self.stream.share(np.arange(2)).argmin())
        p_H = p_HC[np.arange(len(p_HC)), said_H]
        right_H = (said_H == target.y).astype(np.float64)
        weight_H = self._as_stream(target) if of_stream else target.ones()
        return Bins.of(p_H[:, None], right_H[:, None], weight_H[:, None])

    def _as_stream(self, target: Target) -> Array:
        """Weights of rows with which the classes that are there count as in the stream, of mean 1 over labelled rows."""
        weight_H = np.where(target.y >= 0, target.ones(), 0).astype(np.float64)
        if not weight_H.any():
            return weight_H
        class_K, row_H, weight_K = _by_class(target.y, weight_H)
        share_K = self.stream.share(class_K)
        return (share_K / weight_K)[row_H] * weight_H * np.count_nonzero(weight_H)

    def scores(self, z_HC: Tensor, target: Target, *, of_stream: bool = False) -> Scores:
        """Part of the rows that is right, and the mean of the classes' recalls (balanced accuracy)."""
        weight_H = target.ones().astype(np.float64)  # in which no sum of them overflows
        if not weight_H.sum() or not z_HC.shape[1]:
            return {"accuracy": None, "macro_recall": None}
        right_H = z_HC.argmax(1).numpy() == target.y
        class_K, row_H, weight_K = _by_class(target.y, weight_H)
        recall_K = np.bincount(row_H, right_H * weight_H, len(class_K)) / weight_K
        share_K = self.stream.share(class_K) if of_stream else weight_K
        return {
            "accuracy": float(np.average(recall_K, weights=share_K)),
            "macro_recall": float(recall_K.mean()),
        }

    def row_errors(self, z_HC: Tensor, target: Target, metric: str) -> RowErrors:
        """`accuracy` with the stream's classes, or `macro_recall`: every class has its weight spread over its rows."""
        weight_H = target.ones().astype(np.float64)
        wrong_H = np.ones(len(weight_H))
        if not weight_H.sum() or not z_HC.shape[1]:
            return RowErrors(wrong_H, wrong_H, np.zeros(len(weight_H)))
        class_K, row_H, weight_K = _by_class(target.y, weight_H)
        share_K = np.ones(len(class_K)) if metric == "macro_recall" else self.stream.share(class_K)
        share_H = (share_K / share_K.sum() / weight_K)[row_H] * weight_H
        return RowErrors((z_HC.argmax(1).numpy() != target.y).astype(np.float64), wrong_H, share_H)

    def verdict_metric(self) -> str:
        """Macro recall if the most frequent class of the stream comes over `UNEQUAL` times as often as the rarest."""
        count_C = self.stream.ever_C[self.stream.ever_C > 0]
        unequal = count_C.size > 1 and count_C.max() > UNEQUAL * count_C.min()
        return "macro_recall" if unequal else self.primary

    def read(self, z_HC: Tensor, other: TaskType) -> Tensor:
        """By label, since another model may have met the labels in another order; what it does not know it never says."""
        if not isinstance(other, Classification):
            raise TypeError(
                f"{self.name} is a {type(other).__name__} there: ask only models of the same kind"
            )
        theirs = other.vocabulary.labels[: z_HC.shape[1]]
        column = {label: k for k, label in enumerate(theirs)}
        order = [column.get(label, len(theirs)) for label in self.vocabulary.labels]
        padded_HC = torch.nn.functional.pad(z_HC.float(), (0, 1), value=losses.CLOSED)
        return padded_HC[:, order]

    def known(self) -> Json:
        return {"labels": list(self.vocabulary.labels)}

    def among(self, z_HC: Tensor, known: Json) -> Tensor:
        names = set(known["labels"])
        labels = self.vocabulary.labels[: z_HC.shape[1]]
        return z_HC.masked_fill(
            torch.tensor([label not in names for label in labels]), losses.CLOSED
        )

    def renamed(self, target: Target, known: Json, now: Json) -> Target:
        column = {label: k for k, label in enumerate(now["labels"])}
        of_C = [column.get(label, -1) for label in known["labels"]]
        return Target(np.array([*of_C, -1], target.y.dtype)[target.y], target.weight)

    def group_B(self, target: Target) -> Array:
        return target.y.astype(np.int64)

    def state(self) -> tuple[Json, dict[str, Array]]:
        meta, arrays = self.stream.state()
        return {"labels": list(self.vocabulary.labels), **meta}, {"seen_C": self.seen_C, **arrays}

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self.vocabulary = Vocabulary(meta["labels"], self.vocabulary.max_classes, self.name)
        self.seen_C = np.array(arrays["seen_C"])
        self.stream.load_state(meta, {"stream_C": self.seen_C, **arrays})


def _by_class(y_H: Array, weight_H: Array) -> tuple[Array, Array, Array]:
    """The classes [K] of the rows with a label, the place of each row's class among them, and their summed weights."""
    class_K = np.unique(y_H[weight_H > 0])
    row_H = np.minimum(class_K.searchsorted(y_H), len(class_K) - 1)
    return class_K, row_H, np.bincount(row_H, weight_H, len(class_K))
