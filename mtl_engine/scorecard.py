"""One task seen on its judge rows: which classes are answered and which are not, and whether a probability is one."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mtl_engine.calibration import AS_TRAINED, Bins, Calibration
from mtl_engine.tasks.base import TaskType
from mtl_engine.tasks.classification import Classification
from mtl_engine.types import Array, Json, Target

CLASSES, MATRIX, PAIRS = (
    64,
    32,
    64,
)  # told at most: classes, sides of a confusion matrix, pairs where it were larger
FEW, MANY = (
    5,
    100,
)  # judge rows that a recall needs to speak, rows of the stream of a class that was learned
COLLAPSED, SOUND = (
    0.05,
    0.5,
)  # a recall below the one while the stream's accuracy is not below the other


def scorecard(
    kind: TaskType, z_HC: Tensor, target: Target, calibration: Calibration = AS_TRAINED
) -> Json:
    """What `z` says of held-out rows, as JSON of bounded size; what a kind has no classes for is empty or None."""
    found: Json = {"classes": [], "confusion": None, "worst": None, "collapsed": False}
    if isinstance(kind, Classification) and z_HC.shape[1]:
        found |= _Classes(kind, z_HC, target).told()
    bins = kind.reliability(calibration.moved(z_HC), target, of_stream=True)
    return {**found, "calibration": None if bins is None else _calibrated(bins, calibration)}


def brief(kind: TaskType, z_HC: Tensor, target: Target) -> Json:
    """The class with the lowest recall, and in words which classes are never answered, if any."""
    if not isinstance(kind, Classification) or not z_HC.shape[1]:
        return {"worst": None, "collapsed": ""}
    told = _Classes(kind, z_HC, target).told()
    gone, worst = told["collapsed_classes"], told["worst"]
    if not gone:
        return {"worst": worst, "collapsed": ""}
    others = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
    words = f"class {worst['class']}{others} is hardly ever answered (recall {worst['recall']:.2f} on {worst['rows']} rows)"
    return {"worst": worst, "collapsed": words}


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
        speaks_K = np.flatnonzero(self.rows_C >= FEW)
        worst = int(speaks_K[self.recall_C[speaks_K].argmin()]) if speaks_K.size else None
        return {
            "classes": self._of_classes(),
            "confusion": self._confusion(),
            "worst": None
            if worst is None
            else {key: self._of(worst)[key] for key in ("class", "recall", "rows")},
            **self._collapsed(speaks_K),
        }

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

    def _collapsed(self, speaks_K: Array) -> Json:
        """Whether a class that was learned is never answered, though most of the stream is answered right; which ones."""
        is_gone_K = (self.recall_C[speaks_K] < COLLAPSED) & (self.stream_C[speaks_K] >= MANY)
        columns: list[int] = speaks_K[is_gone_K].tolist()
        gone = [self.labels[column] for column in columns[:CLASSES]]
        collapsed = bool(gone) and self.accuracy >= SOUND
        return {"collapsed": collapsed, "collapsed_classes": gone if collapsed else []}


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
