"""What an engine does where its user says nothing, by generation: a state goes on with the defaults that it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtl_engine.components import Spec
from mtl_engine.errors import StateError
from mtl_engine.types import Json

GENERATIONS: tuple[Json, ...] = (
    {
        "strategy": {"name": "dark_er"},
        "weights": "ema",
        "optimizer": {"name": "sgd", "lr": 0.2},
        "clip_norm": 1.0,
    },
    {
        "strategy": {"name": "dark_er", "alpha": 0.3, "adjust": 1.25},
        "weights": "ema",
        "optimizer": {"name": "adamw", "lr": 0.001},
        "clip_norm": 1.0,
    },
    {
        "strategy": {"name": "dark_er", "alpha": 0.3, "adjust": 1.4, "early": 0.75},
        "weights": "chosen",
        "optimizer": {"name": "adamw", "lr": 0.001, "betas": [0.5, 0.95]},
        "clip_norm": 1.0,
    },
)
"""Of the strategy `default`. A state says which it was made with; one that does not was made with the first."""
LATEST = len(GENERATIONS)
_OTHERS: Json = {"weights": "raw", "optimizer": "sgd", "clip_norm": 10.0}


def advised(said: Mapping[str, Any], generation: int = LATEST) -> Json:
    """`said` with what stands there as None, and the strategy `default`, filled in.

    The other strategies have raw weights, SGD at its own step size and a long `clip_norm`.
    """
    if not 1 <= generation <= LATEST:
        raise StateError(
            f"the state has defaults of generation {generation}: this version knows up to {LATEST}; "
            "go on with the version that wrote it"
        )
    own = GENERATIONS[generation - 1]
    strategy: Spec = said["strategy"]
    arguments: Json = {"name": strategy} if isinstance(strategy, str) else dict(strategy)
    is_default = arguments.get("name") == "default"
    known = own if is_default else _OTHERS
    filled = {name: known[name] if value is None else value for name, value in said.items()}
    if is_default:
        filled["strategy"] = {**own["strategy"], **arguments, "name": own["strategy"]["name"]}
    return filled
