"""Task names, and values as messages show them."""

from __future__ import annotations

import pytest

from daemon.encodings.names import MAX_SHOWN_CHARS, shown, task_name
from daemon.errors import BadEvent


@pytest.mark.parametrize("name", ["a", "Fashion-MNIST_2", "0", "x" * 64])
def test_a_plain_name_is_a_task_name(name: str) -> None:
    assert task_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "_a", "a b", "a.b", "a/b", "a+b", "ä", "²", "a\n", "x" * 65]
)
def test_anything_else_is_not_a_task_name(name: str) -> None:
    with pytest.raises(BadEvent) as caught:
        task_name(name)
    assert caught.value.reason == "bad_task_name"


@pytest.mark.parametrize(
    "value",
    ["\ud800" * 500, b"\xff" * 500, ["😀" * 500] * 500, {"\n": {"\0": 1}}, 10**4000, None, 1e999],
)
def test_any_value_is_shown_short_and_in_plain_ascii(value: object) -> None:
    text = shown(value)
    assert len(text) <= MAX_SHOWN_CHARS
    assert text.isascii()
    assert text.isprintable()


def test_the_engine_takes_the_same_names() -> None:
    from mtl_engine.errors import EngineError
    from mtl_engine.types import TaskSpec

    for name in ["a", "Fashion-MNIST_2", "x" * 64]:
        assert TaskSpec(task_name(name)).name == name
    for name in ["-a", "a b", "a.b", "x" * 65]:
        with pytest.raises(EngineError):
            TaskSpec(name)
