"""The drift detector, looking at an engine's steps: what it finds, what it forgives, and that its state is all it knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mtl_engine.drift import Drift
from mtl_engine.errors import EngineError
from mtl_engine.types import TaskSpec
from tests.support.engines import WIDTH, blobs, engine, labels_of, task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mtl_engine.engine import Engine

BATCH = 32


def watched(*names: str, kind: str = "classification", **settings: Any) -> tuple[Engine, Drift]:
    one, drift = engine(**settings), Drift(seed=3)
    one.watch(drift)
    for name in names or ("a",):
        one.add_task(task(name, kind))
    return one, drift


def noisy(seed: int, num: int, theta: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of normal numbers; the label says whether the sum of two of them is above theta, wrong in 10 of 100 rows."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((num, WIDTH)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > theta) ^ (draw.random(num) < 0.1)
    return x, y.astype(np.int64)


def batches(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    for start in range(0, len(x), BATCH):
        yield x[start : start + BATCH], None if y is None else y[start : start + BATCH]


def fed(one: Engine, drift: Drift, x: Any, y: Any, name: str = "a") -> int | None:
    """Rows read when an alarm was raised, None where none was."""
    for number, (x_B, y_B) in enumerate(batches(x, y)):
        one.observe(name, x_B, y_B)
        if drift.alarms:
            return (number + 1) * BATCH
    return None


@pytest.mark.parametrize("seed", range(3))
def test_rows_that_stay_as_they_are_raise_no_alarm_while_a_model_learns_them(seed: int) -> None:
    assert fed(*watched(), *noisy(seed, 8000)) is None


def test_labels_that_are_exchanged_are_found_within_some_hundred_rows() -> None:
    one, drift = watched()
    x, y = noisy(0, 3200)
    assert fed(one, drift, x, y) is None
    x, y = noisy(1, 2000)
    after = fed(one, drift, x, 1 - y)
    assert after is not None
    assert after <= 800
    assert drift.alarms["a"]["step"] == one.step_count
    assert drift.alarms["a"]["moved"] != 0.0


def test_a_boundary_that_moves_a_little_is_found_although_the_inputs_and_the_error_stay() -> None:
    one, drift = watched("a", strategy="finetune")
    assert fed(one, drift, *noisy(0, 6400)) is None
    assert fed(one, drift, *noisy(1, 2000, theta=0.7)) is not None
    assert drift.alarms["a"]["signal"] == "labels"


def test_inputs_that_change_are_found_without_any_label() -> None:
    one, drift = watched()
    x, y = noisy(0, 64)
    one.observe("a", x, y)
    drift.reset("a")
    x, _ = noisy(1, 3200)
    assert fed(one, drift, x, None) is None
    x, _ = noisy(2, 2000)
    assert fed(one, drift, x * 1.5, None) is not None
    assert drift.alarms["a"]["signal"] == "inputs"


def test_errors_that_fall_are_forgiven_and_forgotten_and_a_later_rise_is_found() -> None:
    one, drift = watched("a", optimizer={"name": "sgd", "lr": 0.002})
    labels = np.random.default_rng(0).integers(0, 8, 9600)
    x = blobs(labels)
    assert fed(one, drift, x, labels) is None
    found = fed(one, drift, x[:1280], (labels[:1280] + 1) % 8)
    assert found is not None
    assert drift.alarms["a"]["signal"] == "errors"
    assert drift.alarms["a"]["moved"] > 0.1
    assert drift.alarms["a"]["rows_before"] < 9600 - 512  # the beginning is forgotten


def test_a_new_class_begins_afresh_and_is_no_drift() -> None:
    one, drift = watched()
    for phase in range(4):
        labels = np.random.default_rng(phase).integers(0, 2, 1600) + 2 * phase
        labels[:2] = 2 * phase, 2 * phase + 1
        assert fed(one, drift, blobs(labels, phase), labels) is None


def test_tasks_are_watched_apart_and_one_with_an_alarm_waits_for_its_reset() -> None:
    one, drift = watched("a", "b")
    x, y = noisy(0, 3200)
    for x_B, y_B in batches(x, y):
        one.observe(None, x_B, {"a": y_B, "b": y_B})
    x, y = noisy(1, 1600)
    raised: list[dict[str, Any]] = []
    for x_B, y_B in batches(x, y):
        one.observe(None, x_B, {"a": 1 - y_B, "b": y_B})
        raised.append(dict(drift.alarms))
    assert raised[-1].keys() == {"a"}
    first = next(found for found in raised if found)
    assert raised[-1] == first
    drift.reset("a")
    assert not drift.alarms


def rows_of(kind: str, num: int, seed: int) -> tuple[Any, Any]:
    """Rows of any kind; those of a text are as long as they like."""
    if kind == "text":
        draw = np.random.default_rng(seed)
        return ["ab " * n for n in draw.integers(1, 9, num)], [n % 2 for n in range(num)]
    return blobs([n % 3 for n in range(num)], seed), labels_of(kind, num, seed)


KINDS = ("classification", "multilabel", "regression", "text")


def made(kind: str) -> tuple[Engine, Drift]:
    one, drift = engine(), Drift(seed=3)
    one.watch(drift)
    is_text = kind == "text"
    one.add_task(TaskSpec("a", modality="text", max_bytes=32) if is_text else task("a", kind))
    return one, drift


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [3, 700, 1500])
def test_a_state_restored_anywhere_goes_on_bit_equal(kind: str, cut: int) -> None:
    one, drift = made(kind)
    other, again = made(kind)
    x, y = rows_of(kind, 2100, 0)
    for number, start in enumerate(range(0, 2100, 7)):
        if number == cut // 7:
            meta, arrays = drift.state()
            again = Drift(seed=3)
            again.load_state(json.loads(json.dumps(meta)), {k: v.copy() for k, v in arrays.items()})
            other.watch(again)
        mask = None if number % 5 else [place % 2 for place in range(7)]
        for each in (one, other):
            each.observe("a", x[start : start + 7], y[start : start + 7], mask)
    (meta, arrays), (meta_again, arrays_again) = drift.state(), again.state()
    assert meta == meta_again
    assert arrays.keys() == arrays_again.keys()
    assert len(arrays) == 9 - (arrays.get("a/rows") is None)
    for name in arrays:
        assert arrays[name].tobytes() == arrays_again[name].tobytes(), name


def test_an_alarm_is_part_of_the_state() -> None:
    one, drift = watched()
    x, y = noisy(0, 3200)
    fed(one, drift, x, y)
    fed(one, drift, x, 1 - y)
    assert drift.alarms
    again = Drift(seed=3)
    again.load_state(*drift.state())
    assert again.alarms == drift.alarms


def test_its_state_stays_as_small_as_it_is() -> None:
    one, drift = watched()
    sizes: list[int] = []
    for seed in range(6):
        fed(one, drift, *noisy(seed, 3200))
        sizes.append(sum(array.nbytes for array in drift.state()[1].values()))
    assert max(sizes) < 64_000


def test_delta_is_a_probability() -> None:
    with pytest.raises(EngineError, match=r"delta of a drift detector is 1\.5"):
        Drift(1.5)
