"""Every task kind, row by row: errors that make its scores, and what was known at another moment."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mtl_engine.paired import compare
from mtl_engine.tasks import TASKS
from mtl_engine.tasks.base import TaskType
from mtl_engine.tasks.classification import Classification
from mtl_engine.types import Target
from tests.support.engines import labels_of
from tests.support.kinds import ROWS, accepted, kind_of, outputs

pytestmark = pytest.mark.parametrize("name", TASKS)


def metrics_of(kind: TaskType) -> list[str]:
    """Those that models may be compared by."""
    return [kind.primary, *(["macro_recall"] if isinstance(kind, Classification) else [])]


def test_errors_row_by_row_make_the_score_that_they_are_of(name: str) -> None:
    kind = kind_of(name)
    accepted(kind, labels_of(name, ROWS))
    rare = accepted(kind, labels_of(name, 5, 4), [0, 1, 0, 0, 1])
    kind.count_held_out(rare)  # the stream is no even mix of its classes
    target = accepted(kind, labels_of(name, ROWS, 2), np.arange(ROWS) % 5 != 2)
    z_BC = outputs(kind, target)
    for metric in metrics_of(kind):
        found = kind.row_errors(z_BC, target, metric)
        assert found.score == pytest.approx(kind.scores(z_BC, target, of_stream=True)[metric])
        for column in (found.error_H, found.size_H, found.weight_H):
            assert (column.shape, column.dtype) == ((ROWS,), np.float64)


def test_rows_without_a_label_weigh_nothing_in_errors_row_by_row(name: str) -> None:
    kind = kind_of(name)
    mask = np.arange(ROWS) % 3 != 1
    target = accepted(kind, labels_of(name, ROWS), mask)
    z_BC = outputs(kind, target)
    kept = np.flatnonzero(mask)
    found, only = (
        kind.row_errors(z_BC, target, kind.primary),
        kind.row_errors(z_BC[torch.from_numpy(kept)], target.take(kept), kind.primary),
    )
    assert not found.weight_H[~mask].any()
    assert (found.weight_H[mask] > 0).all()
    assert found.score == pytest.approx(only.score)
    changed_BC = torch.where(torch.from_numpy(mask)[:, None], z_BC, -z_BC)
    assert kind.row_errors(changed_BC, target, kind.primary).score == found.score
    none = Target(target.y, np.zeros_like(target.ones()))
    assert kind.row_errors(z_BC, none, kind.primary).score is None


def test_errors_row_by_row_are_numbers_whatever_the_outputs_are(name: str) -> None:
    kind = kind_of(name)
    target = accepted(kind, labels_of(name, ROWS))
    right = outputs(kind, target)
    spoilt = right.clone()
    spoilt[::2], spoilt[1::2] = float("nan"), float("inf")
    was = kind.row_errors(right, target, kind.primary)
    found = compare(was.error_H, kind.row_errors(spoilt, target, kind.primary), was.answered_H)
    assert found is not None
    assert np.isfinite([found.was, found.score, found.low, found.chance]).all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_better_model_lost_nothing_and_a_worse_one_what_the_scores_say(name: str) -> None:
    kind = kind_of(name)
    target = accepted(kind, labels_of(name, 60))
    z_BC = torch.randn(60, kind.needed(target), generator=torch.Generator().manual_seed(5))
    worse_BC = torch.where(torch.arange(60)[:, None] < 20, -3 * z_BC.abs(), z_BC)
    was, now = (kind.row_errors(z, target, kind.primary) for z in (z_BC, worse_BC))
    found = compare(was.error_H, now, was.answered_H)
    back = compare(now.error_H, was, now.answered_H)
    assert found is not None
    assert back is not None
    assert found.rows == 60
    assert found.was == pytest.approx(was.score)
    assert found.score == now.score
    assert back.loss == pytest.approx(-found.loss)


def test_what_was_known_once_can_be_said_as_json_and_counts_as_it_did(name: str) -> None:
    kind = kind_of(name)
    target = accepted(kind, labels_of(name, ROWS))
    known = json.loads(json.dumps(kind.known()))
    z_BC = outputs(kind, target)
    if name == "classification":
        more, fresh = kind.check([7, 8, 9], None, None, 3)
        kind.admit(more, fresh)
        z_BC = torch.cat([z_BC, torch.full((ROWS, 3), 99.0)], 1)
    same = kind.renamed(target, known, kind.known())
    assert np.array_equal(same.y, target.y)
    found = kind.row_errors(kind.among(z_BC, known), same, kind.primary)
    first = kind.row_errors(z_BC[:, : kind.needed(target)], target, kind.primary)
    assert np.array_equal(found.error_H, first.error_H)


def test_the_metric_of_a_verdict_is_one_of_the_scores_and_follows_the_stream(name: str) -> None:
    kind = kind_of(name)
    assert kind.verdict_metric() == kind.primary
    accepted(kind, labels_of(name, ROWS))
    assert kind.verdict_metric() == kind.primary
    if name != "classification":
        return
    kind.count_held_out(accepted(kind, [0] * 50))  # now over ten times as often as the rarest
    assert kind.verdict_metric() == "macro_recall"
