"""Scorecards as the engine tells them, made of a confusion matrix by hand, for the tests of everything that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.types import Json

SHIRTS = ("top", "trouser", "shirt")
CONFUSED = ((88, 2, 6), (0, 95, 1), (30, 3, 63))  # [true][answered]


def card(
    labels: Sequence[object], counts: Sequence[Sequence[int]], stream_rows: int = 5000
) -> Json:
    """What would be told of these counts: a class for each label, the worst one, the confusion, ten bins."""
    classes: list[Json] = []
    for at, label in enumerate(labels):
        rows, answered = sum(counts[at]), sum(row[at] for row in counts)
        classes.append(
            {
                "class": label, "rows": rows, "stream_rows": stream_rows if rows else 0,
                "recall": counts[at][at] / rows if rows else None,
                "precision": counts[at][at] / answered if answered else None,
            }
        )  # fmt: skip
    worst = min((one for one in classes if one["rows"]), key=lambda one: one["recall"])
    return {
        "classes": classes,
        "confusion": {"labels": list(labels), "counts": [list(row) for row in counts]},
        "worst": {key: worst[key] for key in ("class", "recall", "rows")},
        "collapsed": False,
        "collapsed_classes": [],
        "calibration": calibration(),
    }


def calibration() -> Json:
    """Ten bins of a model that is a little too sure of itself."""
    bins = [
        {"p": 0.05 + 0.1 * at, "rate": 0.04 + 0.095 * at, "rows": 12 + 7 * at} for at in range(10)
    ]
    return {"bins": bins, "ece": 0.0214, "interval": [0.0141, 0.0322], "temperature": 1.31}


def of_number() -> Json:
    """A task that has no classes."""
    blank: Json = {"classes": [], "confusion": None, "worst": None, "collapsed": False}
    return {**blank, "calibration": None}


def appraisal() -> Json:
    """What the daemon answers to `evaluate`: a task with classes and two parts, and one that is a number."""
    fall = {"task": "fashion", "step": 800, "was": 0.9, "is": 0.85}
    return {
        "step": 1200,
        "scores": {
            "fashion": {"accuracy": 0.8125, "macro_recall": 0.8541},
            "price": {"r2": None, "mae": 12.5},
        },
        "rows": {"fashion": 288, "price": 140},
        "scorecards": {"fashion": card(SHIRTS, CONFUSED), "price": of_number()},
        "matrix": {
            "rows": [
                {"step": 400, "task": None, "phase": None, "parts": {"fashion/first": 0.9}},
                {"step": 800, "task": "fashion", "phase": "first", "parts": {"fashion/first": 0.7}},
                {"step": 1200, "task": "fashion", "phase": "second",
                 "parts": {"fashion/first": 0.85, "fashion/second": 0.75}},
            ],
            "average_accuracy": 0.8, "forgetting": 0.05, "bwt": None,
        },
        "senders": {"fashion": {"camera-7/4f": {"score": 0.113, "rows": 850}, "camera-8/91": {"score": 0.951, "rows": 900}}},
        "flipped": {"fashion/first": {**fall, "rows": 140, "worse": 7, "better": 2}},
        "logged": {"at": "2026-01-02T03:00:05.000+00:00", "step": 1100},
    }  # fmt: skip


def verdict() -> Json:
    """A snapshot that was refused: one task is down, one is not judged."""
    within = {"score": 0.895, "best": 0.902, "tolerance": 0.01, "rows": 288, "worse": 5, "better": 3, "is_within": True,
              "lack": 0.007, "variance": 0.0001, "is_best": False, "why": ""}  # fmt: skip
    down = {**within, "score": 0.842, "best": 0.913, "worse": 31, "better": 2, "is_within": False}
    blank = {"score": None, "best": None, "tolerance": 0.01, "rows": 0, "is_within": True, "lack": 0.0, "variance": 0.0,
             "is_best": True, "why": "not judged: the champion does not know it"}  # fmt: skip
    return {
        "decision": "refused",
        "reason": "mood 0.8420, best 0.9130, tolerance 0.01, 288 rows",
        "against": 6,
        "not_judged": ["price"],
        "tasks": {"fashion": within, "mood": down, "price": blank},
    }
