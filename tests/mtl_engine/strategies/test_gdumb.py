"""GDumb learns from its memory and from nothing else."""

from __future__ import annotations

import numpy as np

from mtl_engine.engine import Engine
from tests.support.engines import blobs, engine, parts, task, weights


def test_a_stream_row_changes_nothing_in_the_step_that_brings_it() -> None:
    def trained(last: int) -> Engine:
        one = engine("gdumb")
        one.add_task(task("a"))
        for step in range(6):
            one.observe("a", blobs([0, 1, 2], step), [0, 1, 2])
        one.observe("a", blobs([last] * 4, 99), [0, 0, 0, 0])
        return one

    np.testing.assert_allclose(weights(trained(1)), weights(trained(2)), atol=1e-7)


def test_the_first_step_only_remembers() -> None:
    one = engine("gdumb")
    one.add_task(task("a"))
    before = one.observe("a", blobs([0, 1, 2, 3]), [0, 1, 2, 3])
    assert (before.loss, dict(before.losses), before.skipped) == (0.0, {}, False)
    assert one.describe()["replay_rows"] == 4
    first = weights(one)
    assert one.observe("a", blobs([0, 1, 2, 3], 1), [0, 1, 2, 3]).replayed_rows == 6
    assert not np.array_equal(first, weights(one))


def test_what_is_remembered_is_learned() -> None:
    one = engine("gdumb")
    one.add_task(task("a"))
    for classes in ([0, 1], [2, 3], [4, 5]):
        one.switch_task("a", str(classes))
        for step in range(40):
            one.observe("a", blobs(classes * 3, step), classes * 3)
    y = [0, 1, 2, 3, 4, 5] * 10
    accuracy = one.evaluate("a", blobs(y, 99), y)["accuracy"]
    assert accuracy is not None
    assert accuracy > 0.9
    assert len(next(iter(parts(one).replay.tables.values())).slots.used()) == 24
