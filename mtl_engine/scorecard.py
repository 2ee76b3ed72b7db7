"""One task seen on its judge rows: which classes are answered and which are not, and whether a probability is one."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mtl_engine.calibration import AS_TRAINED, Bins, Calibration
from mtl_engine.paired import wilson
from mtl_engine.tasks.base import TaskType
from mtl_engine.tasks.classification import Classification
from mtl_engine.types import Json, Target

# Told at most: classes, sides of a confusion matrix, pairs of one that were larger.
CLASSES, MATRIX, PAIRS = 64, 32, 64
# Judge rows that a class needs to be called gone, and rows of the stream to be called learned. On 20 rows a class that is
# answered a fifth of the time is missed every time in one case of 87.
FEW, MANY = 20, 100
# A class is gone at a recall below the one, while the stream's accuracy is not below the other.
COLLAPSED, SOUND = 0.05, 0.5
# Judge rows of a task, and the part of the answers that one class has when the others have gone.
ENOUGH, NEARLY_ALL = 20, 0.9


def scorecard(
    kind: TaskType, z_HC: Tensor, target: Target, calibration: Calibration = AS_TRAINED
) -> Json:
    """What `z` says of held-out rows, as JSON of bounded size; what a kind has no classes for is empty or None."""
    found: Json = {
        "classes": [],
        "confusion": None,
        "worst": None,
        "collapsed": False,
        "majority": None,
    }
    if isinstance(kind, Classification) and z_HC.shape[1]:
        found |= _Classes(kind, z_HC, target).told()
    bins = kind.reliability(calibration.moved(z_HC), target, of_stream=True)
    return {**found, "calibration": None if bins is None else _calibrated(bins, calibration)}


def brief(kind: TaskType, z_HC: Tensor, target: Target) -> Json:
    """The class with the lowest recall, and in words which classes are never answered, if any."""
    if not isinstance(kind, Classification) or not z_HC.shape[1]:
        return {"worst": None, "collapsed": ""}
    classes = _Classes(kind, z_HC, target)
    told, words = classes.fallen(), ""
    gone = told["collapsed_classes"]
    if told["majority"] is not None:
        words = f"nearly every answer is {told['majority']}, whichever of {len(classes.labels)} classes a row is of"
    elif gone:
        others = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        words = f"class {gone[0]}{others} is hardly ever answered, though there are {FEW} rows of it or more"
    return {"worst": classes.worst(), "collapsed": words}


class _Classes:
    """Counts of labelled rows by true and answered class; a label that has no column yet is never answered."""

    def __init__(self, kind: Classification, z_HC: Tensor, target: Target) -> None:
        used_H = target.labelled() & (target.y >= 0)
        true_H, answer_H = target.y[used_H].astype(np.int64), z_HC.argmax(1).numpy()[used_H]
        self.labels = kind.vocabulary.labels
        n = max(len(self.labels), z_HC.shape[1])
        self.rows_C = np.bincount(true_H, minlength=n)
        self.stream_C = np.pad(kind.stream.ever_C, (0, max(0, n - len(kind.stream.ever_C))))[:n]
        self.recent_C = np.pad(kind.stream.recent_C, (0, max(0, n - len(kind.stream.ever_C))))[:n]
        hits_C = np.bincount(true_H[true_H == answer_H], minlength=n)
        share_C = np.zeros(n)
        there_K = np.flatnonzero(self.rows_C)
        share_C[there_K] = kind.stream.share(there_K) / self.rows_C[there_K]  # of a row
        answered_C = np.bincount(answer_H, share_C[true_H], n)
        self.recall_C = np.where(self.rows_C > 0, hits_C / np.maximum(self.rows_C, 1), np.nan)
        right_C = hits_C * share_C
        self.precision_C = np.where(
            answered_C > 0, right_C / np.where(answered_C > 0, answered_C, 1), np.nan
        )
        self.accuracy = float(right_C.sum())
        pair_P, self.pair_rows_P = np.unique(true_H * n + answer_H, return_counts=True)
        self.true_P, self.answer_P = pair_P // n, pair_P % n

    def told(self) -> Json:
        return {
            "classes": self._of_classes(),
            "confusion": self._confusion(),
            "worst": self.worst(),
            **self.fallen(),
        }

    def worst(self) -> Json | None:
        """The class of which least can be hoped: with the lowest upper end of its recall's interval, however few its rows."""
        class_K = np.flatnonzero(self.rows_C)
        if not class_K.size:
            return None
        known = zip(self.recall_C[class_K].tolist(), self.rows_C[class_K].tolist(), strict=True)
        upper_K = [wilson(recall, rows)[1] for recall, rows in known]
        told = self._of(int(class_K[np.argmin(upper_K)]))
        return {key: told[key] for key in ("class", "recall", "rows")}

    def _of(self, column: int) -> Json:
        return {
            "class": self.labels[column],
            "rows": int(self.rows_C[column]),
            "stream_rows": int(self.stream_C[column]),
            "recent_rows": int(self.recent_C[column]),  # of about the last 10,000
            "recall": _number(self.recall_C[column]),
            "precision": _number(self.precision_C[column]),
        }

    def _of_classes(self) -> list[Json]:
        """In the order of the columns; where there are too many, those with the lowest recall first."""
        column_K = np.arange(len(self.labels))
        if len(column_K) > CLASSES:
            column_K = np.argsort(self.recall_C[column_K], kind="stable")[:CLASSES]  # NaN is last
        return [self._of(column) for column in column_K.tolist()]

    def _confusion(self) -> Json:
        """`counts[true][answered]`, or the most frequent mistakes."""
        n = len(self.labels)
        if n <= MATRIX:
            count_CC = np.zeros((n, n), np.int64)
            count_CC[self.true_P, self.answer_P] = self.pair_rows_P
            return {"labels": list(self.labels), "counts": count_CC.tolist()}
        wrong_P = np.flatnonzero(self.true_P != self.answer_P)
        most_P = wrong_P[np.argsort(-self.pair_rows_P[wrong_P], kind="stable")][:PAIRS]
        return {
            "pairs": [
                {
                    "class": self.labels[self.true_P[pair]],
                    "answered": self.labels[self.answer_P[pair]],
                    "rows": int(self.pair_rows_P[pair]),
                }
                for pair in most_P.tolist()
            ]
        }

    def fallen(self) -> Json:
        """Whether a learned class is never answered though most of the stream is answered right, or one class is the answer to all."""
        speaks_K = np.flatnonzero(self.rows_C >= FEW)
        is_gone_K = (self.recall_C[speaks_K] < COLLAPSED) & (self.stream_C[speaks_K] >= MANY)
        columns: list[int] = speaks_K[is_gone_K].tolist()
        gone = (
            [self.labels[column] for column in columns[:CLASSES]] if self.accuracy >= SOUND else []
        )
        majority = self._majority()
        collapsed = bool(gone) or majority is not None
        return {"collapsed": collapsed, "collapsed_classes": gone, "majority": majority}

    def _majority(self) -> int | str | None:
        """The class that nearly all rows are answered with, each of the stream's classes counting the same."""
        class_K = np.flatnonzero(self.rows_C)
        if np.count_nonzero(self.stream_C[class_K] >= MANY) < 2 or self.rows_C.sum() < ENOUGH:
            return None
        share_P = self.pair_rows_P / self.rows_C[self.true_P] / len(class_K)
        share_C = np.bincount(self.answer_P, share_P)
        top = int(share_C.argmax())
        return self.labels[top] if share_C[top] >= NEARLY_ALL else None


def _calibrated(bins: Bins, calibration: Calibration) -> Json:
    p_B, hit_B, weight_B = (part.sum(0) for part in (bins.p_HB, bins.hit_HB, bins.weight_HB))
    rows_B = (bins.weight_HB > 0).sum(0)
    filled = np.flatnonzero(weight_B > 0).tolist()
    return {
        "bins": [
            {
                "p": _number(p_B[b] / weight_B[b]),
                "rate": _number(hit_B[b] / weight_B[b]),
                "rows": int(rows_B[b]),
            }
            for b in filled
        ],
        "ece": bins.error(),
        "interval": bins.interval(0, "calibration"),
        "temperature": calibration.temperature,
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
