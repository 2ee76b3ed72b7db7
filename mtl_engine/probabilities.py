"""What makes probabilities of a model's outputs, from its hold-outs, and what a snapshot's manifest says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl_engine import snapshot
from mtl_engine.calibration import AS_TRAINED, Bins, Calibration
from mtl_engine.evaluate import Answered
from mtl_engine.registry import Task
from mtl_engine.scorecard import brief, scorecard
from mtl_engine.trainer import Trainer
from mtl_engine.types import Array, Json, Target

_NOTE = {
    "balanced": "predict answers as trained, every class alike: the most probable class may be another one",
    "prior": "predict answers with what is most probable",
}
CARDS = 256  # of at most some 15 KB each; a manifest stays within a few megabytes
_BRIEF: Json = {"classes": [], "confusion": None, "calibration": None}
_DIGITS = 6


class Probabilities:
    """Of an engine's model as it is now; nothing is kept, all are pure functions of the engine's state."""

    def __init__(self, trainer: Trainer, answered: Answered) -> None:
        self._trainer = trainer
        self._answers = answered

    def predict(self, name: str, z_BC: Tensor) -> Any:
        """Answers to outputs, as the task's `decision` has it."""
        task = self._trainer.registry[name]
        is_prior = task.spec.decision == "prior"
        return task.kind.predict(self.calibration(name).moved(z_BC) if is_prior else z_BC)

    def predict_proba(self, name: str, z_BC: Tensor) -> Array:
        """Probabilities under the stream's class shares."""
        kind = self._trainer.registry[name].kind
        return kind.probabilities(self.calibration(name).moved(z_BC))

    def calibration(self, name: str) -> Calibration:
        """A task's calibration, fitted on its select rows.

        Outputs lack the classes' log-shares where the loss takes these upon itself, and about half of them elsewhere:
        half of a step's rows are replayed ones, every class alike. How much it is exactly the rows say.
        """
        task = self._trainer.registry[name]
        z_HC, target = self._answered(task, "select")
        trainer = self._trainer
        adjust = trainer.strategy.adjust_at(trainer.step_count - trainer.since)
        lacks = 0.5 + 0.5 * min(adjust, 2.0)
        return task.kind.calibrated(z_HC, target, lacks)

    def stage_snapshot(self) -> tuple[dict[str, Tensor], Json, Json]:
        """What `snapshot.stage` gives, and for the manifest the `probabilities` and `scorecards` of the judge rows, by task."""
        trainer, model = self._trainer, self._trainer.model
        fitted = {name: self.calibration(name) for name in model.table_of if model.columns(name)}
        told = {name: self._told(name, calibration) for name, calibration in fitted.items()}
        tensors, tasks = snapshot.stage(model, trainer.weights(), trainer.registry, fitted)
        probabilities = {name: entry for name, entry in told.items() if entry is not None}
        cards = self.scorecards(fitted)
        return tensors, tasks, {"probabilities": probabilities, "scorecards": cards}

    def _told(self, name: str, calibration: Calibration) -> Json | None:
        task = self._trainer.registry[name]
        z_HC, target = self._answered(task, "judge")
        before, after = (
            task.kind.reliability(one.moved(z_HC), target, of_stream=True)
            for one in (AS_TRAINED, calibration)
        )
        if before is None or after is None:
            return None
        return {
            "decision": task.spec.decision,
            "note": _NOTE[task.spec.decision],
            "temperature": calibration.temperature,
            "select_rows": calibration.rows,
            "judge_rows": int(target.labelled().sum()),
            "ece_before": _error(before),
            "ece": _error(after),
        }

    def scorecards(self, fitted: Mapping[str, Calibration] | None = None) -> Json:
        """Every task seen on its judge rows, with the calibrations that it is published with (default: as of now).

        The first `CARDS` tasks whole, the others in brief.
        """
        cards: Json = {}
        for name, task in self._trainer.registry.tasks.items():
            known = self._answers.of(name)
            if known is not None:
                sample, z_HC = known
                if len(cards) >= CARDS:
                    told = brief(task.kind, z_HC, sample.target)
                    cards[name] = {**_BRIEF, **told, "collapsed": bool(told["collapsed"])}
                    continue
                calibration = self.calibration(name) if fitted is None else fitted[name]
                cards[name] = scorecard(task.kind, z_HC, sample.target, calibration)
        return cards

    def _answered(self, task: Task, kind: str) -> tuple[Tensor, Target]:
        """Outputs for a task's held-out rows of one kind; if there are none, for no rows."""
        known = self._answers.of(task.spec.name, kind)
        if known is None:
            columns = self._trainer.model.columns(task.spec.name)
            return torch.zeros(0, columns), task.kind.check(None, None, None, 0)[0]
        sample, z_HC = known
        return z_HC, sample.target


def _error(bins: Bins) -> Json:
    error, interval = bins.error(), bins.interval(0, "calibration")
    if error is None or interval is None:
        return {"value": None, "interval": None}
    return {"value": round(error, _DIGITS), "interval": [round(end, _DIGITS) for end in interval]}
