"""Strategies: how old and new knowledge are balanced; the loss of a step over stream and replayed rows."""

from __future__ import annotations

from mtl_engine.defaults import GENERATIONS
from mtl_engine.types import Json

STRATEGIES: dict[str, str | Json] = {
    "finetune": "mtl_engine.strategies.finetune:Finetune",
    "er": "mtl_engine.strategies.er:ER",
    "er_ace": "mtl_engine.strategies.er_ace:ERACE",
    "dark_er": "mtl_engine.strategies.dark_er:DarkER",
    "derpp": "mtl_engine.strategies.derpp:DERpp",
    "lwf": "mtl_engine.strategies.lwf:LwF",
    "snapshot": "mtl_engine.strategies.snapshot:Snapshot",
    "der": "mtl_engine.strategies.der:DER",
    "ema": "mtl_engine.strategies.ema:EMA",
    "ewc": "mtl_engine.strategies.ewc:EWC",
    "agem": "mtl_engine.strategies.agem:AGEM",
    "gdumb": "mtl_engine.strategies.gdumb:GDumb",
    "default": GENERATIONS[-1]["strategy"],
}

RECOMMENDED: dict[str, Json] = {
    "default": {name: value for name, value in GENERATIONS[-1].items() if name != "strategy"},
}
"""Engine settings that a strategy was measured with; used where the user says nothing."""
