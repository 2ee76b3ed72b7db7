"""The newest snapshot's tasks class by class, as its manifest tells them; read once, since a published one never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from daemon import releases
from daemon.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from daemon.types import Json


class Scorecards:
    """What `latest` says of itself. Bound: one manifest."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._name: str | None = None
        self._said: Json = {}

    def of(self, task: str) -> tuple[Json, int]:
        """One task's scorecard, of the first task where none is named, and the status of the answer."""
        said = self._latest()
        cards = cast("dict[str, Json]", said.get("scorecards") or {})
        told = {key: said.get(key) for key in ("version", "at", "step")} | {"tasks": list(cards)}
        if "error" in said or (task and task not in cards):
            error = said.get("error") or f"no scorecard of {task!r} in {self._name}"
            return {**told, "task": None, "error": error}, 404
        chosen = task or next(iter(cards), "")
        probable = cast("Json", said.get("probabilities") or {}).get(chosen)
        return {**told, "task": chosen or None, "card": cards.get(chosen), "probabilities": probable}, 200  # fmt: skip

    def ece(self) -> Mapping[str, float]:
        """By task: how far the probabilities are off that the snapshot gives."""
        found = cast("dict[str, Json]", self._latest().get("probabilities") or {})
        values = {
            task: cast("Json", one.get("ece") or {}).get("value") for task, one in found.items()
        }
        return {task: float(value) for task, value in values.items() if value is not None}

    def _latest(self) -> Json:
        """The manifest; `error` where it cannot be read, nothing where there is none."""
        name = releases.target(self._models, "latest")
        if name is None:
            return {}
        if name != self._name:
            try:
                self._said = releases.manifest(self._models / name)
            except IntegrityError as error:
                return {"error": str(error)}
            self._name = name
        return self._said
