"""Strategies and their settings: one table for all workloads.

Chosen with `--split validation`, seeds 0 to 2, one step size for all phases. `default` and `joint` have the settings of a new
engine on every workload. A strategy that is not in the table runs with the engine's own settings.
"""

from __future__ import annotations

from typing import Any

from mtl_engine.names import unknown
from mtl_engine.strategies import STRATEGIES


def _tuned(lr: float, /, name: str, **arguments: Any) -> dict[str, Any]:
    return {
        "strategy": {"name": name, **arguments},
        "weights": "ema",
        "optimizer": {"name": "sgd", "lr": lr},
    }


_PLAIN_ER = {**_tuned(0.03, "er", adjust=0.0), "weights": "raw"}  # the loss as it was published
METHODS: dict[str, dict[str, Any]] = {
    "default": {"strategy": "default"},
    "joint": {"strategy": "default"},  # the ceiling: the rows of all phases shuffled
    "finetune": _tuned(0.03, "finetune"),  # the floor
    "plain_er": _PLAIN_ER,
    "plain_er_unclipped": {**_PLAIN_ER, "clip_norm": 0.0},  # which steps of this size do not miss
    "er": _tuned(0.2, "er", adjust=0.0),
    "er_ace": _tuned(0.2, "er_ace"),
    "derpp": _tuned(0.1, "derpp", alpha=0.2, beta=1.0),
    "derpp_adjust": _tuned(0.1, "derpp", alpha=0.2, beta=1.0, adjust=1.0),
    "lwf": _tuned(0.03, "lwf"),
    "snapshot": _tuned(0.1, "snapshot"),
    "ema": _tuned(0.1, "ema", strength=1.0, adjust=0.5),
    "der": _tuned(0.1, "der", alpha=1.0),
    "agem": _tuned(0.03, "agem"),
    "gdumb": _tuned(0.2, "gdumb"),
    "ewc": {
        "strategy": {"name": "ewc", "strength": 30.0, "decay": 0.9},
        "weights": "raw",
        "optimizer": {"name": "sgd", "lr": 0.1},
    },
}
JOINT = "joint"
METHOD_ON_WORKLOAD: dict[str, dict[str, dict[str, Any]]] = {
    "W2": {
        "er": {"optimizer": {"name": "sgd", "lr": 0.05}},
        "derpp": {"optimizer": {"name": "sgd", "lr": 0.03}},
    },
}
"""Settings of one method on one workload."""


def settings(workload: str, method: str) -> dict[str, Any]:
    """Settings of the engine for a method on a workload."""
    if method not in METHODS and method not in STRATEGIES:
        raise SystemExit(unknown("strategy", method, [*METHODS, *STRATEGIES]))
    chosen = METHODS.get(method, {"strategy": method})
    own = METHOD_ON_WORKLOAD.get(workload, {}).get(method, {})
    return {**chosen, **own}
