"""The payload of an event as rows of the engine: for the task that it names, for several, or for none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from daemon.prepared import prepared
from daemon.types import Envelope, Labels, Payload
from mtl_engine.errors import BadRows
from tests.support.core import add_task, entry, machine

if TYPE_CHECKING:
    from mtl_engine.engine import Engine

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def engine() -> Engine:
    """An engine with two tasks on the same three numbers."""
    one = machine()
    for number, name in enumerate("ab", 1):
        one.enter(entry(add_task(name), f"{number}-0"))
    return one.engine


def envelope(subject: str | None) -> Envelope:
    return Envelope("1-0", "1", "test/1", "mtl.data.v1", subject, None, "application/json", b"")


def labels(y: list[int], **more: Any) -> Labels:
    return Labels(np.array(y), **{name: np.array(value) for name, value in more.items()})


def test_rows_of_the_task_that_the_event_names(engine: Engine) -> None:
    found = prepared(engine, envelope("a"), Payload(X, {"a": labels([4, 7])}))
    assert found.targets.keys() == {"a"}
    assert found.targets["a"].labelled().all()
    assert found.x.tobytes() == X.tobytes()


def test_a_mask_and_weights_go_with_the_labels(engine: Engine) -> None:
    told = labels([4, 7], mask=[True, False], weight=[2.0, 1.0])
    target = prepared(engine, envelope("a"), Payload(X, {"a": told})).targets["a"]
    assert target.labelled().tolist() == [True, False]
    assert target.ones().tolist() == [2.0, 0.0]


def test_rows_without_labels_are_the_tasks_all_the_same(engine: Engine) -> None:
    found = prepared(engine, envelope("a"), Payload(X, {}))
    assert len(found) == 2
    assert not any(target.labelled().any() for target in found.targets.values())


def test_rows_that_serve_several_tasks_name_them_by_their_labels(engine: Engine) -> None:
    both = {"a": labels([4, 7], mask=[False, True]), "b": labels([1, 1], weight=[0.5, 3.0])}
    found = prepared(engine, envelope(None), Payload(X, both)).targets
    assert found.keys() == {"a", "b"}
    assert found["a"].labelled().tolist() == [False, True]
    assert found["b"].ones().tolist() == [0.5, 3.0]


@pytest.mark.parametrize(
    ("subject", "payload", "reason"),
    [
        ("a", Payload(X[:, :2], {"a": labels([4, 7])}), "wrong_shape"),
        ("a", Payload(X, {"a": labels([4])}), "length_mismatch"),
        (None, Payload(X, {"a": labels([4, 7]), "nobody": labels([1, 2])}), "unknown_task"),
    ],
)
def test_what_does_not_fit_changes_nothing(
    engine: Engine, subject: str | None, payload: Payload, reason: str
) -> None:
    before = engine.describe()
    with pytest.raises(BadRows) as refused:
        prepared(engine, envelope(subject), payload)
    assert refused.value.reason == reason
    assert engine.describe() == before
