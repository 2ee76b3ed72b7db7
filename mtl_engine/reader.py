"""Serves the snapshot that an alias names and follows the alias: a new one takes over whole, or the old one stays.

Needs torch and the standard library, no server and no running daemon: an alias is a relative symbolic link that the
daemon swaps in one step, and a snapshot never changes once it has a name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch

from mtl_engine import snapshot
from mtl_engine.errors import StateError
from mtl_engine.snapshot import SnapshotModel
from mtl_engine.types import Array

RETRY_S = (
    30.0  # before a snapshot that could not be loaded is tried again; another one is tried at once
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Labels, 0/1 or values as `SnapshotModel.predict` gives them, and the version that they come from: v000123."""

    labels: Any
    version: str


@dataclass(frozen=True, slots=True)
class Serving:
    """A loaded snapshot; whoever holds it goes on with it, whatever the alias does meanwhile."""

    model: SnapshotModel
    version: str


class ModelReader:
    """A model that changes under its callers between two calls and never during one; use it from any thread.

    `models` is the daemon's folder of snapshots, `<state>/models`. The first snapshot is loaded here: StateError if it
    cannot be. After that `refresh` looks at the alias, and with `poll_s` a thread does so every so many seconds. A
    snapshot that cannot be loaded (a file missing or changed, tensors that do not fit, outputs that are not finite)
    leaves the old one serving, stands in `last_error`, goes to `on_error`, and is tried again after RETRY_S at the
    earliest; `on_error` must not raise. The old model's memory is free once the last call on it has ended.
    """

    def __init__(
        self,
        models: str | Path,
        alias: str = "champion",
        *,
        poll_s: float | None = None,
        on_error: Callable[[str], None] | None = None,
    ) -> None:
        self._alias = Path(models) / alias
        self._on_error = on_error
        self._loading = threading.Lock()  # held by the one who loads; callers never wait for it
        self._failed: tuple[str, float] | None = None  # version, and when it may be tried again
        self.last_error = ""
        self._serving = _load(self._alias.parent / self._target())
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if poll_s is not None:
            self._thread = threading.Thread(
                target=self._poll, args=(poll_s,), name="model-reader", daemon=True
            )
            self._thread.start()

    @property
    def version(self) -> str:
        """The version that new calls use: v000123."""
        return self._serving.version

    @property
    def serving(self) -> Serving:
        """The model of this moment, for several calls that must agree."""
        return self._serving

    def predict(self, task: str, x: Any) -> Prediction:
        serving = self._serving  # one reference for the whole call
        return Prediction(serving.model.predict(task, x), serving.version)

    def predict_proba(self, task: str, x: Any) -> tuple[Array, list[int | str], str]:
        """Probabilities [B, C], the columns' labels, and the version."""
        serving = self._serving
        return serving.model.predict_proba(task, x), serving.model.classes(task), serving.version

    def refresh(self) -> bool:
        """Follow the alias; True when another snapshot serves now. While another thread loads, False at once."""
        if not self._loading.acquire(blocking=False):
            return False
        try:
            return self._follow()
        finally:
            self._loading.release()

    def close(self) -> None:
        """Stop following; calls still work."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> ModelReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> bool:
        wanted = ""
        try:
            wanted = self._target()
            if wanted == self._serving.version or self._is_too_soon(wanted):
                return False
            self._serving = _load(self._alias.parent / wanted)
        except StateError as error:
            self._failed = (wanted, monotonic() + RETRY_S)
            told = f"{error}; {self._serving.version} goes on serving"
            if told != self.last_error or wanted:  # an alias that stays away is reported once
                self.last_error = told
                if self._on_error is not None:
                    self._on_error(told)
            return False
        self._failed, self.last_error = None, ""
        return True

    def _is_too_soon(self, version: str) -> bool:
        return (
            self._failed is not None
            and self._failed[0] == version
            and monotonic() < self._failed[1]
        )

    def _target(self) -> str:
        try:
            return self._alias.readlink().name
        except OSError as error:
            raise StateError(
                f"{self._alias} is no alias of a snapshot: {error.strerror}; see `mtld snapshot list`"
            ) from error

    def _poll(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            self.refresh()


def _load(path: Path) -> Serving:
    """A verified model that has answered once for every task: the first caller does not pay for lazy set-up."""
    try:
        model = snapshot.load(path)
    except OSError as error:  # removed by the daemon's retention between two looks
        raise StateError(f"{path} cannot be read: {error}") from error
    for task in model.tasks:
        if model.model.columns(task):
            _warm_up(model, task, path)
    return Serving(model, path.name)


def _warm_up(model: SnapshotModel, task: str, path: Path) -> None:
    try:
        answer = model(task, _zeros(model, task))
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError) as error:
        raise StateError(f"{path}: {task} does not answer: {error}") from error
    if not bool(torch.isfinite(answer).all()):
        raise StateError(f"{path}: outputs of {task} are not finite")


def _zeros(model: SnapshotModel, task: str) -> Any:
    """One row that every input table accepts."""
    table = model.registry.tables[model.model.table_of[task]]
    return [""] if table.modality == "text" else np.zeros((1, *table.shape), table.dtype)
