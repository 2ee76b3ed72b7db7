"""Weightings: factors that combine the losses of several tasks."""

from __future__ import annotations

from mtl_engine.types import Json

WEIGHTINGS: dict[str, str | Json] = {"equal": "mtl_engine.weightings.equal:Equal"}
