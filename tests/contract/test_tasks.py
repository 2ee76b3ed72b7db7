"""Every task kind: masks, precision, growth, constant predictors, and answers in the words of its labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_engine.components import build
from mtl_engine.errors import BadRows
from mtl_engine.model import Model, TrunkSpec
from mtl_engine.tasks import TASKS
from mtl_engine.tasks.base import TaskType
from mtl_engine.types import Target, TaskSpec
from tests.support.engines import blobs, engine, labels_of, parts, task, weights
from tests.support.kinds import ROWS, accepted, kind_of, on_device, outputs

pytestmark = pytest.mark.parametrize("name", TASKS)


def gradient(kind: TaskType, z_BC: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    z_BC = z_BC.clone().requires_grad_()
    loss = kind.loss(z_BC, *on_device(kind, target))
    loss.backward()
    assert z_BC.grad is not None
    return loss.detach(), z_BC.grad


def test_a_masked_row_has_no_gradient_and_the_others_lose_nothing(name: str) -> None:
    kind = kind_of(name)
    mask = np.arange(ROWS) % 3 != 1
    target = accepted(kind, labels_of(name, ROWS), mask)
    z_BC = outputs(kind, target)
    loss, grad_BC = gradient(kind, z_BC, target)
    kept = np.flatnonzero(mask)
    only, only_BC = gradient(kind, z_BC[torch.from_numpy(kept)], Target(target.y[kept]))
    assert not grad_BC[torch.from_numpy(~mask)].any()
    torch.testing.assert_close(loss * ROWS, only * len(kept))
    torch.testing.assert_close(grad_BC[torch.from_numpy(mask)] * ROWS, only_BC * len(kept))


def test_a_masked_column_of_a_row_is_as_if_it_were_absent(name: str) -> None:
    kind = kind_of(name)
    y = labels_of(name, ROWS)
    if np.ndim(y) == 1:
        with pytest.raises(BadRows, match="mask"):
            kind.check(y, np.ones((ROWS, 2), np.bool_), None, ROWS)
        return
    mask = np.ones((ROWS, 2), np.bool_)
    mask[4, 1] = mask[7, 0] = False
    target = accepted(kind, y, mask)
    z_BC = outputs(kind, target)
    loss, grad_BC = gradient(kind, z_BC, target)
    assert not grad_BC[torch.from_numpy(~mask)].any()
    assert bool((grad_BC[torch.from_numpy(mask)] != 0).all())
    changed_BC = torch.where(torch.from_numpy(mask), z_BC, 1e4)
    torch.testing.assert_close(gradient(kind, changed_BC, target)[0], loss, rtol=0, atol=0)
    row_loss = gradient(kind, z_BC[4:5], target.take(slice(4, 5)))[0]
    one_y = kind_of(name, targets=1) if name == "regression" else kind
    y_11, _ = on_device(kind, Target(target.y[4:5]))
    other_y = kind.raw(kind.standard(y_11))[:, :1] if name != "regression" else kind.standard(y_11)
    torch.testing.assert_close(row_loss, one_y.loss(z_BC[4:5, :1], other_y[:, :1], None))


def test_a_step_with_masked_rows_is_the_step_without_them(name: str) -> None:
    masked, absent = engine("finetune"), engine("finetune")
    for one in (masked, absent):
        one.add_task(task("a", name))
    y = labels_of(name, 9)
    for step in range(4):
        x = blobs([0, 1, 2] * 3, step)
        masked.observe("a", x, y, mask=[1] * 6 + [0] * 3)
        absent.observe("a", x[:6], y[:6])
    assert masked.describe()["tasks"] == absent.describe()["tasks"]
    np.testing.assert_allclose(weights(masked), weights(absent), atol=2e-6)


def test_a_missing_label_is_a_masked_one(name: str) -> None:
    kind, other = kind_of(name), kind_of(name)
    y = labels_of(name, ROWS)
    listed: list[Any] = list(y) if np.ndim(y) == 1 else [list(map(float, row)) for row in y]
    listed[3] = None if np.ndim(y) == 1 else [None, None]
    mask = np.arange(ROWS) != 3
    one, two = accepted(kind, listed), accepted(other, y, mask)
    assert np.array_equal(one.labelled(), two.labelled())
    assert np.array_equal(one.y[mask], two.y[mask])


def test_rows_without_labels_are_known_as_such_before_any_label_came(name: str) -> None:
    kind = build(TASKS, name, "task kind", spec=TaskSpec("a", kind=name))
    assert accepted(kind, None).labelled().tolist() == [False] * ROWS


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_losses_are_finite_in_every_precision(name: str, dtype: torch.dtype, size: float) -> None:
    kind = kind_of(name)
    target = accepted(kind, labels_of(name, ROWS))
    z_BC = outputs(kind, target, size).to(dtype)
    loss, grad_BC = gradient(kind, z_BC, target)
    distance = kind.distil(z_BC, outputs(kind, target, size).flip(0).to(dtype), 2.0)
    assert loss.dtype == distance.dtype == torch.float32
    assert bool(torch.isfinite(torch.stack([loss, distance])).all())
    assert bool(torch.isfinite(grad_BC).all())


@pytest.mark.parametrize("masked", [False, True])
def test_the_null_loss_is_that_of_the_best_constant(name: str, masked: bool) -> None:
    kind, n = kind_of(name), 1500
    draw = np.random.default_rng(4)
    y: Any = (draw.random(n) < 0.8).astype(np.int64)
    mask: Any = draw.random(n) < 0.5
    if name != "classification":
        y = np.stack([y, draw.random(n) < 0.02], 1).astype(np.uint8)
        mask = draw.random((n, 2)) < [0.95, 0.15]
    if name == "regression":
        y = draw.normal([5.0, -80.0], [2.0, 30.0], (n, 2))
    target = accepted(kind, y, mask if masked else None)
    num_labelled = int(target.labelled().sum())
    best = _best_constant(kind, target) * n / num_labelled
    assert kind.null_loss() == pytest.approx(best, rel=0.03 if name == "regression" else 5e-3)
    if not masked:
        assert kind.null_loss() >= best - 5e-3


def _best_constant(kind: TaskType, target: Target) -> float:
    """The smallest loss on a grid of constant outputs, searched one column after the other."""
    columns, best = [0.0, 0.0], float("inf")
    for column in (0, 1, 0, 1):
        tried = [[*columns] for _ in range(65)]
        for constants, value in zip(tried, np.linspace(-5, 3, 65), strict=True):
            constants[column] = float(value)
        losses = [_constant(kind, target, constants) for constants in tried]
        columns, best = tried[int(np.argmin(losses))], min(losses)
    return best


def _constant(kind: TaskType, target: Target, columns: list[float]) -> float:
    z_BC = torch.tensor([columns]).expand(len(target.y), 2)
    return float(kind.loss(z_BC, *on_device(kind, target)))


def test_the_null_loss_is_unknown_before_the_first_label(name: str) -> None:
    kind = kind_of(name)
    accepted(kind, None)
    assert kind.null_loss() is None


def test_growing_a_head_keeps_its_old_columns_to_the_bit(name: str) -> None:
    one = engine()
    one.add_task(task("a", name))
    one.observe("a", blobs([0, 1, 2] * 2), labels_of(name, 6))
    model = parts(one).model
    x, columns = torch.from_numpy(blobs(list(range(8)), 3)).to(model.device), model.columns("a")
    with torch.no_grad():
        before_BC = model("a", x)
        grown = model.grow_head("a", columns + 3)
        after_BC = model("a", x)
    assert after_BC.shape == (8, columns + 3)
    assert len(grown) == 2
    assert all(torch.equal(new[:columns], old) for old, new in grown.values())
    # The processor may add the same numbers in another order for a wider head.
    torch.testing.assert_close(after_BC[:, :columns], before_BC, rtol=1e-6, atol=1e-6)


def test_new_columns_do_not_depend_on_when_they_came(name: str) -> None:
    heads: list[Tensor] = []
    for stages in ([5], [1, 2, 5]):
        model = Model(TrunkSpec(8, 1), 3, torch.device("cpu"))
        model.add_head(name, "table")
        for columns in stages:
            model.grow_head(name, columns)
        heads.append(torch.cat([p.detach().reshape(-1) for p in model.heads.parameters()]))
    assert torch.equal(heads[0], heads[1])


def test_a_teacher_teaches_only_the_columns_it_had_and_nothing_to_its_equal(name: str) -> None:
    kind = kind_of(name)
    target = accepted(kind, labels_of(name, ROWS))
    z_BC = outputs(kind, target).requires_grad_()
    distance = kind.distil(z_BC, torch.flip(z_BC.detach(), [0])[:, :1] * 2, 2.0)
    distance.backward()
    assert z_BC.grad is not None
    assert not z_BC.grad[:, 1:].any()
    assert float(distance.detach()) >= 0
    assert float(kind.distil(z_BC.detach(), z_BC.detach(), 2.0)) == pytest.approx(0, abs=1e-6)


LABELS: dict[str, Callable[[], list[Any]]] = {
    "classification": lambda: [[70, 30, 70, 1100], ["rain", "sun", "rain", "Ünwetter"]],
    "multilabel": lambda: [np.array([[0, 1], [1, 1], [0, 0], [1, 0]], np.uint8)],
    "regression": lambda: [np.random.default_rng(1).normal([5e3, -2.0], [200.0, 0.1], (4, 2))],
}


def test_predictions_come_back_as_the_labels_that_went_in(name: str) -> None:
    for given in LABELS[name]():
        kind = kind_of(name)
        target = accepted(kind, given)
        y, _ = on_device(kind, target)
        if name == "classification":
            z_BC = torch.nn.functional.one_hot(y, kind.needed(target)).float()
        else:
            z_BC = kind.standard(y) if name == "regression" else y * 2 - 1
        found = kind.predict(z_BC)
        scores = kind.scores(z_BC, target)
        if name == "regression":
            np.testing.assert_allclose(found, given, rtol=1e-5)
        else:
            assert found.tolist() == np.asarray(given).tolist()
            assert type(found.tolist()[0]) is type(np.asarray(given).tolist()[0])
        assert scores[kind.primary] == pytest.approx(1.0)


def test_scores_of_rows_without_a_label_are_not_defined(name: str) -> None:
    kind = kind_of(name)
    target = accepted(kind, labels_of(name, ROWS), [0] * ROWS)
    found = kind.scores(torch.zeros(ROWS, max(kind.needed(target), 2)), target)
    assert kind.primary in found
    assert set(found.values()) == {None}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_of_outputs_that_are_no_numbers_are_json_all_the_same(name: str, bad: float) -> None:
    kind = kind_of(name)
    target = accepted(kind, labels_of(name, ROWS))
    z_BC = outputs(kind, target)
    z_BC[3] = bad
    json.dumps(kind.scores(z_BC, target), allow_nan=False)


def test_weights_of_any_size_leave_scores_that_are_numbers(name: str) -> None:
    kind = kind_of(name)
    target = accepted(kind, labels_of(name, ROWS), weight=[3e38] * ROWS)
    found = kind.scores(outputs(kind, target), target)
    assert None not in found.values()
    assert found == kind.scores(outputs(kind, target), Target(target.y))


def test_the_state_goes_through_json_and_comes_back(name: str) -> None:
    kind, fresh = kind_of(name), kind_of(name)
    target = accepted(kind, labels_of(name, ROWS))
    meta, arrays = kind.state()
    fresh.load_state(json.loads(json.dumps(meta)), {k: v.copy() for k, v in arrays.items()})
    z_BC = outputs(kind, target)
    assert fresh.null_loss() == kind.null_loss()
    assert np.array_equal(fresh.predict(z_BC), kind.predict(z_BC))
    accepted(kind, labels_of(name, 5, 9))
    accepted(fresh, labels_of(name, 5, 9))
    assert all(np.array_equal(v, fresh.state()[1][k]) for k, v in kind.state()[1].items())


Spoil = Callable[[Any], dict[str, Any]]
BAD: dict[str, tuple[Spoil, str]] = {
    "one label too few": (lambda y: {"y": y[:-1]}, "length_mismatch"),
    "a mask of twos": (lambda y: {"y": y, "mask": [2] * ROWS}, "wrong_mask"),
    "a short mask": (lambda y: {"y": y, "mask": [1] * (ROWS - 1)}, "wrong_mask"),
    "a negative weight": (lambda y: {"y": y, "weight": [-1.0] * ROWS}, "bad_weight"),
    "an endless weight": (lambda y: {"y": y, "weight": [float("inf")] * ROWS}, "bad_weight"),
    "no number": (lambda y: {"y": np.asarray(y) * float("nan")}, "nan_label"),
    "an axis too many": (
        lambda y: {"y": np.stack([np.asarray(y)] * 2, -1)[..., None]},
        "wrong_rank",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_labels_that_do_not_fit_are_refused_by_reason_and_change_nothing(
    name: str, what: str
) -> None:
    spoil, reason = BAD[what]
    kind = kind_of(name)
    accepted(kind, labels_of(name, ROWS))
    before = repr(kind.state())
    given = {"mask": None, "weight": None, **spoil(labels_of(name, ROWS, 7))}
    with pytest.raises(BadRows) as caught:
        kind.check(given["y"], given["mask"], given["weight"], ROWS)
    assert caught.value.reason == reason
    assert repr(kind.state()) == before


def test_what_an_exported_graph_answers_is_what_the_kind_answers(name: str) -> None:
    kind = kind_of(name)
    z_BC = outputs(kind, accepted(kind, labels_of(name, ROWS)))
    answers = kind.answers(z_BC, z_BC)
    known = {"logits": z_BC.numpy()}
    if name == "regression":
        known["values"] = kind.predict(z_BC)
    else:
        known["probabilities"] = kind.probabilities(z_BC)
    assert set(answers) <= set(known)
    assert set(answers) & {"values", "probabilities"}
    for answer, value in answers.items():
        np.testing.assert_allclose(value.numpy(), known[answer], rtol=1e-6)


def test_errors_are_from_zero_to_one_and_a_missing_label_has_no_say(name: str) -> None:
    kind = kind_of(name)
    mask = np.ones(ROWS, np.bool_)
    mask[::2] = False
    target = accepted(kind, labels_of(name, ROWS), mask)
    y, weight = on_device(kind, target)
    assert weight is not None
    z_BC = torch.randn(
        ROWS, max(kind.needed(target), 2), generator=torch.Generator().manual_seed(0)
    )
    error_B = kind.error(z_BC, kind.standard(y), weight).float()[1::2]
    assert error_B.shape == (ROWS // 2,)
    assert ((error_B >= 0) & (error_B <= 1)).all()
    other = torch.where(weight > 0, y, torch.zeros_like(y))
    assert torch.equal(kind.error(z_BC, kind.standard(other), weight).float()[1::2], error_B)
    if name == "classification":
        right_BC = torch.nn.functional.one_hot(y, z_BC.shape[1]).float()
    else:
        right_BC = kind.standard(y) if name == "regression" else 2 * y - 1
    assert not kind.error(right_BC, kind.standard(y), weight)[1::2].any()
