"""One step: how task losses are combined, the warm join of a new head, the teacher's refresh, focus."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtl_engine.errors import EngineError
from tests.support.engines import blobs, engine, parts, task


def test_the_loss_is_the_mean_over_all_rows_whatever_their_task() -> None:
    one = engine("finetune")
    one.add_task(task("a"))
    one.add_task(task("b", loss_weight=3.0))
    rows = [
        one.prepare("a", blobs([0, 1, 0, 1, 0]), [0, 1, 0, 1, 0]),
        one.prepare("b", blobs([2]), [2]),
    ]
    report = one.step(rows)
    a, b = float(report.losses["a"]), float(report.losses["b"])
    assert report.loss == pytest.approx(5 / 6 * a + 3 * 1 / 6 * b, rel=1e-6)


def test_a_step_over_two_tables_is_one_step_and_uses_both() -> None:
    one = engine("er")
    one.add_task(task("a"))
    one.add_task(task("b"))
    other = np.ones((2, 3), np.float32)
    report = one.step([one.prepare("a", blobs([0, 1]), [0, 1]), one.prepare("b", other, [0, 1])])
    assert report.stream_rows == 4
    assert set(report.losses) == {"a", "b"}
    assert len(one.describe()["replay"]) == 2


def test_a_new_head_on_a_trained_encoder_leaves_the_trunk_alone_at_first() -> None:
    one = engine("finetune", warm_steps=2)
    one.add_task(task("a"))
    one.add_task(task("b"))
    one.observe("a", blobs([0, 1, 2]), [0, 1, 2])
    moved: list[bool] = []
    for step in range(3):
        before = {n: p.detach().clone() for n, p in parts(one).model.named_parameters()}
        one.observe("b", blobs([3, 4, 3], step), ["x", "y", "x"])
        now = dict(parts(one).model.named_parameters())
        moved.append(any(not torch.equal(before[n], now[n]) for n in before if "heads" not in n))
    assert moved == [False, False, True]


def test_the_teacher_is_made_at_switches_and_every_so_many_steps() -> None:
    one = engine("snapshot", teacher_every=5)
    one.add_task(task("a"))
    made_at: list[int | None] = []
    for step in range(12):
        if step == 7:
            one.switch_task("a", "second")
        one.observe("a", blobs([0, 1], step), [0, 1])
        made_at.append(one.describe()["teacher_step"])
    assert made_at == [None] * 4 + [5] * 3 + [7] * 2 + [10] * 3


def test_focus_lowers_the_replay_share_of_the_task_whose_rows_the_stream_brings() -> None:
    one = engine("er", focus_share=0.25)
    one.add_task(task("a"))
    one.add_task(task("b", share=2.0))
    assert [share for share, _ in parts(one).shares().values()] == [1.0, 2.0]
    one.switch_task("b")
    assert [share for share, _ in parts(one).shares().values()] == [1.0, 0.5]


def test_a_step_without_rows_and_rows_of_a_removed_task_are_refused() -> None:
    one = engine("er")
    one.add_task(task("a"))
    rows = one.prepare("a", blobs([0]), [0])
    with pytest.raises(EngineError, match="at least one"):
        one.step([])
    one.remove_task("a")
    with pytest.raises(EngineError, match="removed"):
        one.step([rows])
    assert one.step_count == 0


def test_how_rows_are_cut_into_blocks_does_not_matter() -> None:
    whole, cut = engine("er"), engine("er")
    for one in (whole, cut):
        one.add_task(task("a"))
        one.add_task(task("b"))
    for step in range(5):
        x, y = blobs([0, 1, 2, 3], step), [0, 1, 2, 3]
        whole.step([whole.prepare("a", x, y)])
        cut.step([cut.prepare("a", x[:1], y[:1]), cut.prepare("a", x[1:], y[1:])])
    for one, other in zip(
        parts(whole).model.parameters(), parts(cut).model.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_a_frozen_head_is_not_trained_and_what_it_shares_is() -> None:
    one = engine("er")
    one.add_task(task("a"))
    one.observe("a", blobs([0, 1]), [0, 1])
    one.freeze_task("a")
    before = {n: p.detach().clone() for n, p in parts(one).model.named_parameters()}
    one.observe("a", blobs([0, 1], 1), [0, 1])
    now = dict(parts(one).model.named_parameters())
    assert {n for n in before if torch.equal(before[n], now[n])} == {
        "heads.task:a.weight",
        "heads.task:a.bias",
    }
