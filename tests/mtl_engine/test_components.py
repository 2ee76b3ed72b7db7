"""Parts from names: what is accepted, and what an error tells."""

from __future__ import annotations

from typing import Any

import pytest

from mtl_engine.components import build
from mtl_engine.errors import EngineError
from mtl_engine.strategies import STRATEGIES
from mtl_engine.strategies.derpp import DERpp
from mtl_engine.strategies.er import ER


@pytest.mark.parametrize(
    "spec",
    [
        "derpp",
        {"name": "derpp", "alpha": 0.3},
        "mtl_engine.strategies.derpp:DERpp",
        {"name": "mtl_engine.strategies.derpp:DERpp", "alpha": 0.3},
    ],
)
def test_a_name_a_mapping_and_a_class_path_give_the_same_class(spec: Any) -> None:
    made = build(STRATEGIES, spec, "strategy")
    assert isinstance(made, DERpp)
    assert made.alpha == (0.2 if isinstance(spec, str) else 0.3)


def test_an_entry_may_stand_for_another_with_arguments_and_they_can_be_changed() -> None:
    table = {**STRATEGIES, "mine": {"name": "er", "adjust": 0.5}}
    plain, changed = (
        build(table, "mine", "strategy"),
        build(table, {"name": "mine", "adjust": 2}, "strategy"),
    )
    assert isinstance(plain, ER)
    assert (plain.adjust, changed.adjust) == (0.5, 2.0)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("derp", "did you mean 'derpp'"),
        ({"name": "derpp", "alhpa": 1}, "did you mean 'alpha'"),
        ({"alpha": 1}, "has no name"),
        ({"name": 3}, "has no name"),
        ("mtl_engine.strategies.er:Nothing", "cannot be imported"),
        ("no_such_package.mod:Class", "cannot be imported"),
        ({"name": "derpp", "alpha": "much"}, "'much'"),
        ({"name": "derpp", "alpha": -1}, "from 0"),
        ({"name": "derpp", "alpha": True}, "True"),
    ],
)
def test_what_cannot_be_built_says_why(spec: Any, told: str) -> None:
    with pytest.raises(EngineError, match=told.replace("(", r"\(")):
        build(STRATEGIES, spec, "strategy")


def test_arguments_that_the_engine_gives_cannot_be_given_by_the_user() -> None:
    table = {"t": "mtl_engine.vocabulary:Vocabulary"}
    with pytest.raises(EngineError, match="unknown argument"):
        build(table, {"name": "t", "task": "x"}, "vocabulary", task="a", labels=(), max_classes=3)
