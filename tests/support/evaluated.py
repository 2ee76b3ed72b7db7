"""What vitals tell of an evaluation, a fallen task, its sources and a rollback; one example for all tests of views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon import vitals

if TYPE_CHECKING:
    from daemon.types import Json


def of_task(**changes: Any) -> Json:
    """One well-known task as an evaluation tells it."""
    told = {
        "at": vitals.now(), "step": 1234, "rows": 240, "metric": "accuracy", "score": 0.97,
        "interval": [0.94, 0.985], "macro_recall": 0.96, "worst": {"class": "8", "recall": 0.85, "rows": 20},
        "collapsed": "", "forgetting": 0.01, "min_acc": 0.9,
    }  # fmt: skip
    return {**told, **changes}


def evaluation(*names: str, **changes: Any) -> Json:
    """The newest evaluation, of these tasks; `tasks` in the changes are told beside them."""
    tasks = {name: of_task() for name in names} | changes.pop("tasks", {})
    told = {
        "at": vitals.now(), "step": 1234, "rows": 812, "every_s": 300.0, "average": 0.93, "forgetting": 0.02,
        "min_acc": 0.81, "wc_acc": 0.88, "tasks": tasks,
        "parts": {name: {"score": 0.97, "best": 0.98, "min": 0.9, "rows": 240} for name in tasks},
    }  # fmt: skip
    return {**told, **changes}


def guard(sources: tuple[str, ...] = ("cam-b",), *parts: str) -> Json:
    """A guard that saw these parts (else digits) fall, and the sources that it blames."""
    fall = {"was": 0.96, "is": 0.5, "rows": 82, "at": vitals.now(), "sources": list(sources)}
    fallen = dict.fromkeys(parts or ("digits",), fall)
    return {"action": "alert", "since": "1732-0", "fallen": fallen}


SENDERS: Json = {
    "digits": {
        "cam-a": {"score": 0.95, "rows": 900},
        "cam-b": {"score": 0.11, "rows": 850},
        "other": {"score": 0.93, "rows": 40},
    }
}
COLLAPSED = "class 8 is never answered (recall 0.00 on 20 rows)"
