"""Buffer policies: which rows compete for the same slots, and how many slots each group gets."""

from __future__ import annotations

from mtl_engine.types import Json

POLICIES: dict[str, str | Json] = {
    "reservoir": "mtl_engine.policies.reservoir:Reservoir",
    "balanced": "mtl_engine.policies.balanced:Balanced",
}
