"""A task as its judge rows show it: counts that a reader can check by hand, in JSON of bounded size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from mtl_engine.calibration import Calibration
from mtl_engine.components import build
from mtl_engine.scorecard import CLASSES, PAIRS, scorecard
from mtl_engine.tasks import TASKS
from mtl_engine.types import Target, TaskSpec


def kind_of(classes: int, stream: list[int] | None = None, kind: str = "classification") -> Any:
    """A kind whose stream brought so many rows of each class."""
    spec = TaskSpec("a", kind=kind, targets=2 if kind != "classification" else 1)
    found = build(TASKS, kind, "task kind", spec=spec)
    if kind == "classification":
        counts = stream or [200] * classes
        target, fresh = found.check(np.arange(classes), None, None, classes)
        found.admit(target, fresh)
        found.stream.add(np.repeat(np.arange(len(counts)), counts))
    return found


def answers(*columns: int, width: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(columns), width).float() * 4


def card(kind: Any, z: torch.Tensor, y: Any, **more: Any) -> Any:
    found = scorecard(kind, z, Target(np.array(y, np.int32)), **more)
    json.dumps(found, allow_nan=False)
    return found


def test_recall_is_of_rows_and_precision_as_the_stream_would_have_it() -> None:
    found = card(kind_of(2, [900, 100]), answers(0, 0, 0, 1, 1, 0, width=2), [0, 0, 0, 0, 1, 1])
    zero, one = found["classes"]
    assert zero == {"class": 0, "rows": 4, "stream_rows": 900, "recall": 0.75,
                    "recent_rows": 900, "precision": pytest.approx(0.9 * 0.75 / (0.9 * 0.75 + 0.1 * 0.5))}  # fmt: skip
    assert one["precision"] == pytest.approx(0.1 * 0.5 / (0.1 * 0.5 + 0.9 * 0.25))
    assert found["confusion"] == {"labels": [0, 1], "counts": [[3, 1], [1, 1]]}


def test_a_class_without_rows_is_told_without_a_recall() -> None:
    found = card(kind_of(3), answers(0, 0, 1, width=3), [0, 0, 0])
    assert [one["recall"] for one in found["classes"]] == [pytest.approx(2 / 3), None, None]
    assert [one["precision"] for one in found["classes"]] == [1.0, 0.0, None]


def test_the_worst_class_is_the_one_of_which_least_can_be_hoped() -> None:
    found = card(kind_of(3), answers(*[0] * 5, *[1] * 4, 0, 0, width=3), [0] * 5 + [1] * 5 + [2])
    assert found["worst"] == {"class": 2, "recall": 0.0, "rows": 1}  # rather than 4 of 5
    found = card(
        kind_of(3), answers(*[0] * 5, *[1] * 2, *[0] * 4, width=3), [0] * 5 + [1] * 5 + [2]
    )
    assert found["worst"] == {"class": 1, "recall": 0.4, "rows": 5}  # rather than none of one
    assert card(kind_of(2), answers(0, width=2), [0])["worst"]["class"] == 0


def test_one_class_as_the_answer_to_all_is_a_collapse_however_small_its_part_of_the_stream() -> (
    None
):
    kind, rows = kind_of(5, [4000, 2000, 1500, 150, 40]), [0] * 10 + [1] * 5 + [2] * 4 + [3, 4]
    found = card(kind, answers(*[0] * 21, width=5), rows)
    assert (found["collapsed"], found["majority"]) == (True, 0)
    found = card(kind, answers(*rows, width=5), rows)
    assert (found["collapsed"], found["majority"]) == (False, None)
    young = kind_of(5, [4000, 20, 15, 15, 4])
    assert not card(young, answers(*[0] * 21, width=5), rows)["majority"]


@pytest.mark.parametrize(
    ("stream", "rows", "collapsed"),
    [
        ([900, 100], 20, True),
        ([900, 99], 20, False),
        ([900, 100], 19, False),
        ([100, 900], 20, False),
    ],
)
def test_a_learned_class_that_is_never_answered_is_collapsed_while_the_rest_is_right(
    stream: list[int], rows: int, collapsed: bool
) -> None:
    known = [0] * 10 + [2] * 10
    found = card(
        kind_of(3, [*stream, 90]), answers(*known, *[0] * rows, width=3), [*known, *[1] * rows]
    )
    assert (found["collapsed"], found["collapsed_classes"]) == (collapsed, [1] * collapsed)


def test_many_classes_are_told_by_the_worst_and_by_the_most_frequent_mistakes() -> None:
    y = np.repeat(np.arange(100), 3)
    wrong = np.where(y % 2, (y + 1) % 100, y)
    wrong[::3] = y[::3]
    found = card(kind_of(100), answers(*wrong.tolist(), width=100), y)
    assert len(found["classes"]) == CLASSES
    recalls = [one["recall"] for one in found["classes"]]
    assert recalls == sorted(recalls)
    assert len(found["confusion"]["pairs"]) == 50 <= PAIRS
    assert found["confusion"]["pairs"][0] == {"class": 1, "answered": 2, "rows": 2}


def test_probabilities_are_shown_as_they_would_be_published() -> None:
    y = [0] * 30 + [1] * 10
    z = answers(*[0] * 40, width=2)
    found = card(kind_of(2, [300, 100]), z, y, calibration=Calibration(2.0))["calibration"]
    assert found["temperature"] == 2.0
    assert sum(one["rows"] for one in found["bins"]) == 40
    rare = 1 / (1 + np.exp(2))
    assert {round(one["p"], 6) for one in found["bins"]} == {round(rare, 6)}
    low, high = found["interval"]
    assert low <= found["ece"] <= high


def test_labels_without_a_column_and_rows_without_a_label_do_not_stand_in_the_way() -> None:
    kind = kind_of(3)
    target = Target(np.array([0, 2, 1], np.int32), np.array([1, 1, 0], np.float32))
    found = scorecard(kind, answers(0, 1, 1, width=2), target)
    assert [one["rows"] for one in found["classes"]] == [1, 0, 1]
    nothing = scorecard(kind, torch.zeros(0, 3), Target(np.zeros(0, np.int32)))
    assert nothing["calibration"]["ece"] is None
    json.dumps([found, nothing], allow_nan=False)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_what_has_no_classes_is_told_without_them(kind: str) -> None:
    one = kind_of(2, kind=kind)
    target = Target(np.zeros((4, 2), np.uint8 if kind == "multilabel" else np.float32))
    found = scorecard(one, torch.zeros(4, 2), target)
    assert (found["classes"], found["confusion"], found["worst"]) == ([], None, None)
    assert (found["calibration"] is None) == (kind == "regression")
    json.dumps(found, allow_nan=False)
