"""Every strategy: what it must keep true, whatever its loss is; a new one in the table is tested at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_engine.components import build
from mtl_engine.engine import Engine
from mtl_engine.strategies import STRATEGIES
from mtl_engine.strategies.base import Step, Stored, Strategy, TaskStep
from mtl_engine.strategies.loss import Loss
from mtl_engine.tasks.classification import Classification
from mtl_engine.types import KINDS, TaskSpec
from tests.support.engines import (
    WIDTH,
    blobs,
    differences,
    engine,
    labels_of,
    loaded,
    parts,
    replayed_rows,
    saved,
    task,
    weights,
)

pytestmark = pytest.mark.parametrize("name", STRATEGIES)
STREAM, MEMORY, COLUMNS = 5, 4, 4  # rows and columns of a hand-made step
MEMORY_ONLY = {"gdumb"}  # they train on no stream row


def strategy(name: str) -> Strategy:
    return build(STRATEGIES, name, "strategy")


def hand_made(
    stored: Stored | None, teacher: Tensor | None, averaged: Tensor | None = None
) -> TaskStep:
    """A step of one classification with four columns, of which the first stream row has the last."""
    y = torch.tensor([3, 0, 1, 2, 0, 1, 0, 2, 1])
    kind = Classification(TaskSpec("a", classes=("a", "b", "c", "d")))
    z_BC = torch.randn(STREAM + MEMORY, COLUMNS, generator=torch.Generator().manual_seed(5))
    return TaskStep(
        name="a",
        kind=kind,
        z_BC=z_BC,
        y=y,
        weight=None,
        num_stream=STREAM,
        stream_y=y[:STREAM].numpy(),
        memory_y=y[STREAM:].numpy(),
        stored=stored,
        teacher=lambda: teacher,
        averaged=lambda: averaged,
    )


def gradient(
    name: str,
    stored: Stored | None = None,
    teacher: Tensor | None = None,
    averaged: Tensor | None = None,
) -> Tensor:
    """Gradient of the strategy's loss with respect to the outputs of the step."""
    step = hand_made(stored, teacher, averaged)
    loss = strategy(name).losses(Step({"a": step}))["a"]
    assert isinstance(loss, Loss)
    total = torch.zeros_like(step.z_BC)
    for one in loss.terms:
        total[one.start : one.start + len(one.g_BC), : one.g_BC.shape[1]] += one.g_BC * one.factor
    return total


def alternated(one: Engine, rounds: int, start: int = 0) -> None:
    """Two tasks of one input table in turn, then one of another table: each lacks rows in most steps."""
    for step in range(start, start + rounds):
        one.observe("a", blobs([0, 1, 2], step), [0, 1, 2])
        one.observe("b", blobs([3, 4, 5], step), ["x", "y", "x"])
        one.observe("c", np.full((2, 3), float(step)), [1.0 * step, 2.0])


def two_tables(name: str, **settings: Any) -> Engine:
    one = engine(name, **settings)
    one.add_task(task("a"))
    one.add_task(task("b"))
    one.add_task(TaskSpec("c", modality="table", kind="regression"))
    return one


def test_it_is_finetune_without_a_memory_and_without_a_teacher(name: str) -> None:
    plain, other = (engine(one, buffer_rows=0, clip_norm=0.0) for one in ("finetune", name))
    for one in (plain, other):
        one.add_task(task("a"))
        for step in range(5):
            one.observe("a", blobs([0, 1, 2, 0, 1, 2], step), [0, 1, 2, 0, 1, 2])
    assert other.step_count == 5
    if name in MEMORY_ONLY:
        plain = engine(name, buffer_rows=0, clip_norm=0.0)
        plain.add_task(task("a"))
        plain.observe("a", blobs([0, 1, 2]), [0, 1, 2])
    np.testing.assert_allclose(weights(other), weights(plain), atol=2e-6)


def test_a_step_changes_neither_stored_outputs_nor_the_teacher(name: str) -> None:
    one = two_tables(name)
    alternated(one, 4)
    one.switch_task("b")
    trainer = parts(one)
    table = trainer.replay.tables.get("embedding-6-float32-embedding")
    kept = {} if table is None else {n: o.z.clone() for n, o in table.outputs.items()}
    x = None if table is None or table.x is None else table.x.clone()
    taught = (
        {} if trainer.teacher is None else _cloned(trainer.teacher.model.state_dict(keep_vars=True))
    )
    alternated(one, 4, start=4)
    assert bool(kept) == ("logits" in strategy(name).keeps)
    assert bool(taught) == bool(strategy(name).distils)
    if table is not None and x is not None and table.x is not None:
        same_M = (table.x == x).all(1)  # slots that no other row took
        assert bool(same_M.any())
        for task_, z_MC in kept.items():
            stored = table.outputs[task_].z[:, : z_MC.shape[1]]
            assert not stored.requires_grad
            assert torch.equal(stored[same_M], z_MC[same_M])
    if trainer.teacher is not None:
        for parameter in trainer.teacher.model.parameters():
            assert not parameter.requires_grad
            assert parameter.grad is None
        now = trainer.teacher.model.state_dict()
        assert all(torch.equal(now[n], value) for n, value in taught.items())


def _cloned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def test_stored_outputs_count_only_in_the_columns_that_existed_when_they_were_stored(
    name: str,
) -> None:
    valid_MC = torch.ones(MEMORY, COLUMNS, dtype=torch.bool)
    valid_MC[:2, 2:] = False  # the first two rows were stored when the head had two columns
    z_MC = torch.full((MEMORY, COLUMNS), 3.0)

    def stored(z_MC: Tensor) -> Stored:
        return Stored(z_MC, valid_MC.float(), int(valid_MC.sum()))

    moved = gradient(name, stored(z_MC)) != gradient(name)
    assert bool(moved[STREAM:][valid_MC].all()) == ("logits" in strategy(name).keeps)
    assert not moved[STREAM:][~valid_MC].any()
    assert not moved[:STREAM].any()
    other_MC = torch.where(valid_MC, z_MC, -7.0)  # what stands where nothing was stored is not read
    assert torch.equal(gradient(name, stored(other_MC)), gradient(name, stored(z_MC)))


def test_the_teacher_counts_only_in_the_columns_it_had(name: str) -> None:
    teacher_BC = torch.full((STREAM + MEMORY, 2), -1.0)
    teacher_BC[:, 1] = 4.0
    moved = gradient(name, teacher=teacher_BC) != gradient(name)
    assert bool(moved[:, :2].all()) == bool(strategy(name).distils)
    assert not moved[:, 2:].any()


def test_averaged_weights_count_for_replayed_rows_alone(name: str) -> None:
    averaged_MC = torch.full((MEMORY, COLUMNS), 3.0)
    moved = gradient(name, averaged=averaged_MC) != gradient(name)
    assert bool(moved[STREAM:].all()) == strategy(name).averages
    assert not moved[:STREAM].any()


def test_a_teacher_without_columns_changes_nothing(name: str) -> None:
    none_BC = torch.zeros(STREAM + MEMORY, 0)
    assert torch.equal(gradient(name, teacher=none_BC), gradient(name))


def test_rows_are_stored_with_the_width_of_the_head_they_saw(name: str) -> None:
    one = engine(name)
    one.add_task(task("a"))
    one.observe("a", blobs([0, 1, 0, 1]), [0, 1, 0, 1])
    one.observe("a", blobs([2, 3, 4], 1), [2, 3, 4])
    tables = list(parts(one).replay.tables.values())
    keeps = "logits" in strategy(name).keeps
    assert [list(table.outputs) for table in tables if table.outputs] == [["a"]] * keeps
    for table in tables[: int(keeps)]:
        width_M = table.outputs["a"].width[table.slots.used()]
        assert sorted(width_M.tolist()) == [2, 2, 2, 2, 5, 5, 5]


@pytest.mark.parametrize("how", ["raw", "ema"])
def test_a_loaded_engine_goes_on_bit_equal_through_growth_a_switch_and_a_new_task(
    name: str, how: str
) -> None:
    settings = {"weights": how, "optimizer": {"name": "adamw", "lr": 0.01}, "teacher_every": 7}
    whole = two_tables(name, **settings)
    alternated(whole, 3)
    whole.hold_out("a", blobs([0, 1, 2], 50), [0, 1, 2], kind="judge")
    whole.switch_task("b", "first")
    alternated(whole, 1)
    resumed = loaded(saved(whole), name, **settings)
    for one in (whole, resumed):
        _go_on(one)
    assert differences(whole, resumed) == []
    assert whole.step_count == 12 + 20
    assert bool(parts(resumed).strategy.state()[1]) == strategy(name).consolidates


def test_a_state_from_before_strategies_had_one_is_understood(name: str) -> None:
    one = two_tables({"name": "er", "adjust": 0.0} if name == "er" else name)  # what `er` was then
    alternated(one, 2)
    state = saved(one)
    del state.meta["strategy"]
    resumed = loaded(state, name)
    for each in (one, resumed):
        alternated(each, 2, start=2)
    assert differences(one, resumed) == []


def test_a_removed_task_leaves_nothing_in_the_state_and_may_come_back(name: str) -> None:
    one = two_tables(name)
    alternated(one, 3)
    one.switch_task("b")
    one.remove_task("c")
    found = [key for key in saved(one).tensors if key.startswith("strategy.")]
    assert bool(found) == strategy(name).consolidates
    assert not [key for key in found if "task:c" in key or "table-3" in key]
    one.add_task(TaskSpec("c", modality="table", kind="regression"))
    alternated(one, 3, start=3)
    resumed = loaded(saved(one), name)
    for each in (one, resumed):
        each.switch_task("c")
        alternated(each, 2, start=6)
    assert differences(one, resumed) == []
    assert one.weights_finite()


def _go_on(one: Engine) -> None:
    """Twenty steps in which a head grows, the task is switched and a task comes that nobody knew."""
    for step in range(20):
        if step == 5:
            one.switch_task("a", "second")
        if step == 9:
            one.add_task(task("new", "multilabel"))
        y = [0, 1, 2, 3 + step % 3] if step > 2 else [0, 1, 2, 0]
        if step % 4 == 1 and step > 9:
            one.observe(None, blobs(y, step), {"a": y, "new": labels_of("multilabel", 4, step)})
        else:
            one.observe("c" if step % 5 == 4 else "a", *_rows(step, y))


def _rows(step: int, y: list[int]) -> tuple[Any, Any]:
    return (np.full((2, 3), float(step)), [0.5, step]) if step % 5 == 4 else (blobs(y, step), y)


def test_the_comparison_of_two_engines_sees_one_different_row(name: str) -> None:
    one, other = two_tables(name), two_tables(name)
    alternated(one, 2)
    alternated(other, 2)
    assert differences(one, other) == []
    one.observe("a", blobs([0, 1]), [0, 1])
    other.observe("a", blobs([0, 1]), [1, 0])
    remembered = "replay.embedding-6-float32-embedding.0/x"  # its slots go by class
    seen = remembered if name in MEMORY_ONLY else "model.trunk.norms.0.weight"
    assert seen in differences(one, other)


def test_tasks_without_rows_in_a_step_do_no_harm(name: str) -> None:
    one = two_tables(name)
    alternated(one, 3)
    one.switch_task("c")
    alternated(one, 3)
    report = one.observe("c", np.full((2, 3), 4.0), [1.0, 2.0])
    assert one.weights_finite()
    assert report.skipped_steps == 0
    assert "c" in report.losses
    assert set(report.losses) <= {"a", "b", "c"}
    if not strategy(name).replays:
        assert set(report.losses) == {"c"}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_task_and_rows_without_labels_meet_heads_of_every_kind(
    name: str, kind: str
) -> None:
    one = engine(name, buffer_rows=0)
    one.add_task(task("old", kind))
    one.add_task(task("a"))
    one.observe("old", blobs([0] * 6), labels_of(kind, 6))
    one.switch_task("a")
    one.observe("a", blobs([0, 1, 2, 0], 1), [0, 1, 2, 0])
    one.observe("a", blobs([0, 1], 2), None)
    assert one.weights_finite()
    assert one.describe()["skipped_steps"] == 0


def test_the_head_grows_and_new_classes_are_learnt(name: str) -> None:
    one = engine(name)
    one.add_task(task("a"))
    for step in range(8):
        one.observe("a", blobs([0, 1] * 4, step), [0, 1] * 4)
    one.switch_task("a", "more")
    assert one.predict_proba("a", blobs([0])).shape == (1, 2)
    for step in range(30):
        one.observe("a", blobs([4, 3, 2] * 3, step), [4, 3, 2] * 3)
    assert one.predict_proba("a", blobs([0])).shape == (1, 5)
    assert one.evaluate("a", blobs([4, 3, 2] * 5, 99), [4, 3, 2] * 5)["accuracy"] > 0.9


def test_unlabelled_rows_change_nothing_except_through_distillation(name: str) -> None:
    with_, without = engine(name), engine(name)
    for one, unlabelled in ((with_, True), (without, False)):
        one.add_task(task("a"))
        _labelled_beside_unlabelled(one, range(6), unlabelled=unlabelled)
    np.testing.assert_allclose(weights(with_), weights(without), atol=2e-6)
    for one, unlabelled in ((with_, True), (without, False)):
        one.switch_task("a", "taught")
        _labelled_beside_unlabelled(one, range(6, 12), unlabelled=unlabelled)
    differ = not np.allclose(weights(with_), weights(without), atol=2e-5)
    assert differ == bool(strategy(name).distils)


def _labelled_beside_unlabelled(one: Engine, steps: range, *, unlabelled: bool) -> None:
    for step in steps:
        rows = [one.prepare("a", blobs([0, 1, 2, 3], step), [0, 1, 2, 3])]
        if unlabelled:
            rows.append(one.prepare("a", blobs([5] * 12, step), None))
        one.step(rows)


def test_unlabelled_rows_are_never_replayed(name: str) -> None:
    one = engine(name)
    one.add_task(task("a"))
    labelled: list[np.ndarray] = []
    for step in range(6):
        x = blobs([0, 1, 2, 3], step)
        one.observe("a", x, [0, None, 2, None])
        one.observe("a", blobs([0, 1], step + 50), None)
        labelled += [x[0], x[2]]
    known = {row.tobytes() for row in labelled}
    found = replayed_rows(one)
    assert len(found) == (12 if strategy(name).remembers else 0)
    assert found.shape[1] == WIDTH
    assert all(row.tobytes() in known for row in found)
