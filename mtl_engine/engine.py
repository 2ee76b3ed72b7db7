"""The facade: tasks in, rows in, one step after another, scores and snapshots out. One thread uses it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mtl_engine import evaluate, export, snapshot, staging
from mtl_engine.arguments import at_least_0, check_choice, check_whole, device_of, trunk_of
from mtl_engine.choosing import WEIGHTS, Choice
from mtl_engine.components import Spec, build
from mtl_engine.defaults import advised
from mtl_engine.drift import Drift
from mtl_engine.errors import EngineError
from mtl_engine.evaluate import Scored
from mtl_engine.heldout import KINDS
from mtl_engine.judge import Judge
from mtl_engine.model import Model
from mtl_engine.names import unknown
from mtl_engine.optim import Optimizer
from mtl_engine.policies import POLICIES
from mtl_engine.probabilities import Probabilities
from mtl_engine.registry import Registry
from mtl_engine.replay import Replay
from mtl_engine.reports import StepReport, SwitchReport
from mtl_engine.settings import Settings
from mtl_engine.state import EngineState
from mtl_engine.strategies import STRATEGIES
from mtl_engine.tasks.base import Scores
from mtl_engine.trainer import Trainer
from mtl_engine.types import Array, Json, Rows, TaskSpec
from mtl_engine.weightings import WEIGHTINGS

_PRECISIONS = ("fp32", "bf16")


class Engine:
    """One shared multi-task model that learns from a stream of rows and keeps what it knew.

    Settings left at None are those that the strategy was measured with (`defaults`), in a state that is loaded those that
    it was made with. `weights` says which are evaluated, published and taught with: "ema", an average that looks back as
    far as `ema_decay`; "raw", the live ones; "chosen", what select rows speak for (`choosing`). `warm_steps`, `focus_share`,
    `clip_norm` and `teacher_every` are described in `settings.Settings`, `buffer_dir` in `columns.Place`: a folder for what
    memory cannot hold.
    `salt` keeps secret which rows are held out (`splitting`); without one the seed tells it.
    """

    def __init__(  # noqa: PLR0913  (the constructor is the configuration)
        self,
        *,
        strategy: Spec = "default",
        buffer_rows: int = 500,
        buffer_dir: str | Path | None = None,
        replay_batch: int = 32,
        optimizer: Spec | None = None,
        encoder: Spec | None = None,
        trunk: Mapping[str, Any] | None = None,
        weighting: Spec = "equal",
        policy: Spec = "balanced",
        weights: str | None = None,
        ema_decay: float = 0.995,
        warm_steps: int = 20,
        focus_share: float = 1.0,
        clip_norm: float | None = None,
        teacher_every: int = 0,
        device: str = "auto",
        precision: str = "fp32",
        num_threads: int = 2,
        seed: int = 0,
        salt: str | None = None,
    ) -> None:
        self._said = {"strategy": strategy, "weights": weights, "optimizer": optimizer, "clip_norm": clip_norm}  # fmt: skip
        chosen = advised(self._said)
        weights, clip_norm = str(chosen["weights"]), at_least_0("clip_norm", chosen["clip_norm"])
        check_choice("weights", weights, WEIGHTS)
        check_choice("precision", precision, _PRECISIONS)
        check_whole(
            0, replay_batch=replay_batch, warm_steps=warm_steps, teacher_every=teacher_every
        )
        check_whole(1, num_threads=num_threads)
        torch.set_num_threads(num_threads)
        self.seed = seed
        self.device = device_of(device)
        spec = trunk_of(trunk)
        registry = Registry(encoder, spec.width)
        model = Model(spec, seed, self.device)
        replay = Replay(buffer_rows, lambda: build(POLICIES, policy, "policy"), seed, self.device, buffer_dir)  # fmt: skip
        self._trainer = Trainer(
            registry,
            model,
            Optimizer(chosen["optimizer"], dict(model.named_parameters())),
            replay,
            build(STRATEGIES, chosen["strategy"], "strategy"),
            build(WEIGHTINGS, weighting, "weighting"),
            Settings(
                replay_batch, warm_steps, focus_share, teacher_every, precision == "bf16", clip_norm
            ),
        )
        self._trainer.averages(ema_decay, published=weights != "raw")
        self.judge = Judge(self._trainer, seed, f"seed {seed}" if salt is None else salt)
        self.choice = Choice(self._trainer, self.judge.answered, weights)
        self._probabilities = Probabilities(self._trainer, self.judge.answered)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Engine:
        """An engine from a mapping of the constructor's settings."""
        known = list(inspect.signature(cls).parameters)
        for key in config:
            if key not in known:
                raise EngineError(unknown("setting of the engine", key, known))
        return cls(**config)

    @property
    def tasks(self) -> Mapping[str, TaskSpec]:
        return {name: task.spec for name, task in self._trainer.registry.tasks.items()}

    @property
    def step_count(self) -> int:
        return self._trainer.step_count

    @property
    def focus(self) -> tuple[str, str | None] | None:
        """The task and phase of the last switch."""
        return self._trainer.focus

    def add_task(self, spec: TaskSpec) -> None:
        """A task may be added at any time; its head appears with its first rows."""
        self._trainer.registry.add(spec)
        self._trainer.replay.shares_changed()

    def remove_task(self, name: str) -> None:
        """Forget a task: head, replayed rows, hold-outs, labels; rows of other tasks stay."""
        self.judge.held_out.place()
        task = self._trainer.registry.remove(name)
        staging.forget(self._trainer, name, task.number)
        self.judge.remove_task(name)
        self.choice.forget(name)

    def update_task(self, name: str, **changes: Any) -> None:
        """Change share, min_share, loss_weight, tolerance or decision."""
        task = self._trainer.registry[name]
        task.spec = task.spec.changed(changes)
        self._trainer.replay.shares_changed()

    def freeze_task(self, name: str, *, frozen: bool = True) -> None:
        """Stop or resume training a task's head; the parts it shares with others go on learning."""
        if not self._trainer.model.columns(self._trainer.registry[name].spec.name):
            raise EngineError(f"task {name} has no head yet: train it on labelled rows first")
        self._trainer.model.freeze_head(name, frozen=frozen)

    def prepare(
        self, task: str | None, x: Any, y: Any = None, mask: Any = None, weight: Any = None
    ) -> Rows:
        """Checked rows, ready for `step`; raises BadRows and changes nothing, or gives new labels their columns.

        Without a `task`, `y`, `mask` and `weight` are mappings by task. `y` None = unlabelled.
        """
        return self._trainer.registry.prepare(task, x, y, mask, weight)

    def step(self, rows: Sequence[Rows]) -> StepReport:
        """One update of the model on these stream rows and one replay draw."""
        return self._trainer.step(rows)

    def observe(
        self, task: str | None, x: Any, y: Any = None, mask: Any = None, weight: Any = None
    ) -> StepReport:
        """`prepare` and `step` in one."""
        return self._trainer.step([self.prepare(task, x, y, mask, weight)])

    def hold_out(
        self, task: str | None, x: Any, y: Any, mask: Any = None, kind: str | None = None
    ) -> None:
        """Keep rows for scoring: at most 500 a task and kind, the same number of every class.

        Kinds are "judge" (every score comes from these) and "select"; None = half and half, by content.
        """
        check_choice("kind", kind or "judge", KINDS)
        self.judge.keep(self.prepare(task, x, y, mask), kind)

    def switch_task(
        self, task: str, phase: str | None = None, scored: Scored | None = None
    ) -> SwitchReport:
        """End a phase: choose weights and score them (or take what these gave), make them the teacher, focus on `task`.

        After that the average begins anew. Who brings `scored` calls `choice.end` before `judge.score`.
        """
        self._trainer.registry[task]  # an unknown name is refused before anything changes
        before = self.focus
        if scored is None:
            self.choice.end(before[0] if before else task)
            scored = self.judge.score()
        row = self.judge.row(scored)
        if self.step_count:
            self.judge.matrix.add(row)
        self._trainer.refresh_teacher()
        self._trainer.enter((task, phase))
        self.judge.held_out.enter(task, phase)
        task_before, phase_before = before or (None, None)
        return SwitchReport(task, phase, task_before, phase_before, self.step_count, row["scores"])

    def watch(self, drift: Drift | None) -> None:
        """Let a detector see the stream rows of every step; it keeps its own state."""
        self._trainer.drift = drift

    def refresh_teacher(self) -> None:
        """The present model becomes the teacher, without a switch."""
        self._trainer.refresh_teacher()

    def evaluate_held_out(self) -> dict[str, Scores]:
        """Metrics of every task on its judge rows; None where one is not defined on them."""
        return self.judge.score().scores

    def evaluate(self, task: str, x: Any, y: Any) -> Scores:
        """Metrics on other rows, None where undefined; a label never seen counts as wrong. Changes no state."""
        rows, target = self._trainer.registry.check(task, x, y)
        return self._trainer.registry[task].kind.scores(self._outputs(task, rows), target)

    def predict(self, task: str, x: Any) -> Any:
        """Original labels [B], 0/1 [B, C] or values [B, C], decided as the task's `decision` says."""
        return self._probabilities.predict(task, self._answered(task, x))

    def predict_proba(self, task: str, x: Any) -> Array:
        """Probabilities [B, C] under the stream's class shares, in the order of `describe()["tasks"][...]["classes"]`.

        Calibrated on hold-outs, anew in every call. The most probable class may be another than `predict` answers.
        """
        return self._probabilities.predict_proba(task, self._answered(task, x))

    def matrix(self, *, present: bool = True) -> Json:
        """The accuracy matrix, average accuracy, forgetting and backward transfer; with a row for the `present`."""
        return self.report()["matrix"] if present else self.judge.matrix.report()

    @property
    def matrix_rows(self) -> Sequence[Json]:
        """The rows that are kept, oldest first; another object once one was added."""
        return self.judge.matrix.rows

    def report(self, scored: evaluate.Scored | None = None) -> Json:
        """All metrics of every hold-out now (`scores`, by task), scorecards and the `matrix`; `scored` if that is known."""
        scored = self.judge.score() if scored is None else scored
        row = self.judge.row(scored) if self.step_count else None
        return {
            "step": self.step_count,
            "scores": scored.scores,
            "rows": scored.rows,
            "scorecards": self._probabilities.scorecards(),
            "matrix": self.judge.matrix.report(row),
        }

    def describe(self) -> Json:
        """What there is: tasks, classes, parameters, replay rows and bytes, losses of constant predictors."""
        return staging.describe(self._trainer, self.choice)

    def senders(self) -> Json:
        """By task and number: how well the rows of a sender were answered before they were trained on (`senders`)."""
        return self._trainer.senders.report()

    def weights_finite(self) -> bool:
        """No NaN or infinity in any parameter."""
        return staging.finite(self._trainer)

    def state_dict(self) -> EngineState:
        """Everything needed to go on, as live references: copy them before the next step."""
        return staging.state(self._trainer, self.judge, self.choice)

    def load_state_dict(self, state: EngineState) -> None:
        """Become the engine that `state` was taken from; StateError when it does not fit these settings.

        Where the user says nothing, the state's defaults take the place of this version's.
        """
        staging.load(state, self._trainer, self.judge, self.choice, self._said)

    def stage_snapshot(self) -> tuple[dict[str, torch.Tensor], Json, Json]:
        """Live tensors, tasks.json and the engine's part of the manifest, for `snapshot.write`."""
        tensors, tasks, seen = self._probabilities.stage_snapshot()
        scores = self.judge.score().scores
        told = {**self.choice.told(), "step": self.step_count, "scores": scores}
        return tensors, tasks, {**told, **seen}

    def snapshot(self, path: str | Path) -> Json:
        """Write a frozen model for users into the new folder `path`; returns its manifest."""
        return snapshot.write(Path(path), *self.stage_snapshot())

    def export(self, path: str | Path, format: str = "torch-export", **options: Any) -> Json:
        """Write the present model as graphs into the new folder `path`; options are those of `export.export`."""
        return export.export(snapshot.built(*self.stage_snapshot()), path, format, **options)

    def _answered(self, task: str, x: Any) -> torch.Tensor:
        return self._outputs(task, self._trainer.registry.check(task, x)[0])

    def _outputs(self, task: str, rows: Rows) -> torch.Tensor:
        if not self._trainer.model.columns(task):
            raise EngineError(f"task {task} has no head yet: train it on labelled rows first")
        return evaluate.outputs(self._trainer.model, self._trainer.weights(), task, rows)
