"""Strategies: how old and new knowledge are balanced; the loss of a step over stream and replayed rows."""

from __future__ import annotations

from mtl_engine.types import Json

STRATEGIES: dict[str, str | Json] = {
    "finetune": "mtl_engine.strategies.finetune:Finetune",
    "er": "mtl_engine.strategies.er:ER",
    "er_ace": "mtl_engine.strategies.er_ace:ERACE",
    "derpp": "mtl_engine.strategies.derpp:DERpp",
    "lwf": "mtl_engine.strategies.lwf:LwF",
    "snapshot": "mtl_engine.strategies.snapshot:Snapshot",
    "default": {"name": "er", "adjust": 1.0},
}

RECOMMENDED: dict[str, Json] = {
    "default": {"weights": "ema", "optimizer": {"name": "sgd", "lr": 0.15}},
}
"""Engine settings that a strategy was measured with; used where the user says nothing.

`default` is the best of what was measured on class-incremental streams (benchmarks/strategies.py, results in
benchmarks/results/strategies.json) that also stays stable for every task kind, with and without LayerNorm.
"""
