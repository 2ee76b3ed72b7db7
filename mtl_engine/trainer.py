"""One step: join stream and memory, one forward, losses, weights, backward, update, remember."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mtl_engine import batch
from mtl_engine.average import Average
from mtl_engine.backprop import HandPass, MixedPass, Pass, gradient
from mtl_engine.batch import Joined
from mtl_engine.columns import on
from mtl_engine.defaults import LATEST
from mtl_engine.drift import Drift
from mtl_engine.errors import EngineError
from mtl_engine.model import Model
from mtl_engine.optim import Optimizer
from mtl_engine.registry import Registry
from mtl_engine.replay import Draw, Replay
from mtl_engine.replay_table import no_outputs
from mtl_engine.reports import StepReport
from mtl_engine.row_gradients import boundary
from mtl_engine.senders import Senders
from mtl_engine.settings import Settings
from mtl_engine.strategies.base import Step, Strategy, TaskStep
from mtl_engine.strategies.loss import Loss, Parts, Values, all_losses, total
from mtl_engine.teacher import Follower, Lesson, Teacher
from mtl_engine.types import Rows, Target
from mtl_engine.weightings.base import Weighting


class Trainer:
    """Owns the order of a step; every part keeps its own state."""

    def __init__(
        self, registry: Registry, model: Model, optimizer: Optimizer, replay: Replay, strategy: Strategy, weighting: Weighting, settings: Settings
    ) -> None:  # fmt: skip
        self.registry, self.model, self.optimizer, self.replay = registry, model, optimizer, replay
        self.strategy, self.weighting, self.settings = strategy, weighting, settings
        self.make_pass: Callable[[Model], Pass] = MixedPass if settings.autocast else HandPass
        self.defaults = LATEST  # the generation of those it was made with
        self.drift: Drift | None = None  # looks at stream rows before they are trained on
        self.average: Average | None = None
        self.averaged = False  # whether the average is evaluated, published and taught with
        self.teacher: Teacher | None = None
        self.follower: Follower | None = None  # where the strategy learns from averaged weights
        self.senders = Senders()
        self.step_count = self.skipped_steps = self.teacher_version = 0
        self.since = 0  # the step after which the model last changed: it grew, or a phase began
        self.warm: dict[str, int] = {}  # steps left by task
        self.focus: tuple[str, str | None] | None = None

    def averages(self, decay: float, *, published: bool) -> None:
        """Average the weights from now on, where they are `published` or the strategy learns from them."""
        self.averaged = published
        if published or self.strategy.averages:
            self.average = Average(decay)
            self.average.sync(dict(self.model.named_parameters()))
            self.follower = Follower(self.average) if self.strategy.averages else None

    def step(self, blocks: Sequence[Rows]) -> StepReport:
        """One update on these stream rows and one replay draw."""
        before = torch.is_grad_enabled()
        torch.set_grad_enabled(False)  # as a context it costs a step of a small net 2 %
        try:
            return self._step(blocks)
        finally:
            torch.set_grad_enabled(before)

    def _step(self, blocks: Sequence[Rows]) -> StepReport:
        stream = batch.by_table(blocks)
        self._grow(stream)
        number = self.step_count + 1
        joined = self._join(number, stream)
        way = self.make_pass(self.model)
        tasks = self._forward(joined, way)
        losses, beside = self._losses(Step(tasks, number - self.since))
        of = self.model.table_of
        num_rows = sum(
            batch.num_used(j, [step.rows for name, step in tasks.items() if of[name] == j.table])
            for j in joined
        )
        parts = self._parts(losses, tasks, num_rows)
        references: Parts = self._parts(beside, tasks, num_rows) if beside else ()
        value = total(parts)
        self.step_count = number
        if self.drift is not None:
            self.drift.see(number, joined, tasks)
        self.senders.see(number, joined, tasks)
        skipped = not math.isfinite(value) or not self._update(parts, references, way)
        if skipped:
            self.skipped_steps += 1
        elif tasks and self.strategy.remembers:
            self._remember(number, joined, tasks)
        self._after(tasks)
        rows, replayed = sum(j.num_stream for j in joined), sum(len(j.slot_M) for j in joined)
        return StepReport(number, rows, replayed, value, Values(losses), skipped, self.skipped_steps)  # fmt: skip

    def shares(self) -> dict[int, tuple[float, float]]:
        """Replay share and minimum of every task, by number."""
        return self.registry.shares(self.focus and self.focus[0], self.settings.focus_share)

    def weights(self) -> Mapping[str, Tensor]:
        """The parameters to evaluate, publish and teach with, by name: none = the live ones."""
        return self.average.values if self.average is not None and self.averaged else {}

    def refresh_teacher(self) -> None:
        """The model as it is now becomes the teacher, and is what the strategy consolidates, if it does either."""
        step, strategy = self.step_count, self.strategy
        if strategy.consolidates and step:
            strategy.consolidate(boundary(self.model, self.registry, self.replay, step))
        if strategy.distils and step:
            self.teacher_version += 1
            version = self.teacher_version
            self.teacher = Teacher.of(self.model, self.weights(), self.registry, step, version)

    def enter(self, focus: tuple[str, str | None]) -> None:
        """A phase begins."""
        self.focus = focus
        self.replay.shares_changed()
        self.since = self.step_count

    def _grow(self, stream: Mapping[str, Rows]) -> None:
        """Encoders, heads and replay tables for what these rows bring for the first time."""
        new = [
            self._fit(name, table, t)
            for table, r in stream.items()
            for name, t in r.targets.items()
        ]
        if any(new):
            self.since = self.step_count
            if self.average is not None:
                self.average.sync(dict(self.model.named_parameters()))

    def _fit(self, name: str, table: str, target: Target) -> bool:
        """A head with columns for these labels; whether the model grew."""
        if name not in self.registry.tasks:
            raise EngineError(
                f"rows of task {name}, which was removed after they were prepared: drop them first"
            )
        is_new = name not in self.model.table_of
        if is_new:
            self._add_head(name, table)
        before = self.model.columns(name)
        columns = self.registry.tasks[name].kind.needed(target, before)
        if columns > before:
            for full, (_, new) in self.model.grow_head(name, columns).items():
                self.optimizer.replace(full, new)
        return is_new or columns > before

    def _add_head(self, name: str, table: str) -> None:
        known = set(dict(self.model.named_parameters()))
        if table not in self.model.tables:
            self.model.add_encoder(self.registry.tables[table])
        elif self.settings.warm_steps and table in self.model.table_of.values():
            self.warm[name] = self.settings.warm_steps
        self.model.add_head(name, table, self.registry.tasks[name].kind.gain(self.model.spec.width))
        for full, parameter in self.model.named_parameters():
            if full not in known:
                self.optimizer.add(full, parameter)
        self.rearrange()

    def rearrange(self) -> None:
        """Divide the buffer among the tables in use."""
        if self.strategy.remembers:
            in_use = self.model.table_of
            tasks_of = {
                table: [name for name in in_use if in_use[name] == table]
                for table in self.model.tables
            }
            self.replay.arrange(tasks_of)

    def _join(self, number: int, stream: Mapping[str, Rows]) -> list[Joined]:
        drawn: Draw = (
            self.replay.draw(number, self.settings.replay_batch, self.shares)
            if self.strategy.replays
            else {}
        )
        none, found = np.zeros(0, np.int64), list[Joined]()
        for table in self.model.tables:
            if table in stream or table in drawn:
                rows, memory = stream.get(table), self.replay.tables.get(table)
                found.append(batch.join(table, rows, memory, drawn.get(table, none), self.model))
        for joined in found:
            if joined.stream is not None:
                self.model.observe(joined.table, joined.x, joined.length_B, joined.num_stream)
                for name, target in joined.stream.targets.items():
                    self.registry.tasks[name].kind.observe(target)
        return found

    def _forward(self, joined: Sequence[Joined], way: Pass) -> dict[str, TaskStep]:
        """One encode a table, one trunk, one gather a head."""
        way.features(joined)
        follower = self.follower and self.follower.of(self.model, self.registry)
        found: dict[str, TaskStep] = {}
        for part, j in enumerate(joined):
            lesson = Lesson(self.teacher, follower, j)
            for name, table in self.model.table_of.items():
                if table == j.table and self.model.columns(name):
                    step = self._task_step(name, j, lesson, way, part)
                    if step is not None:
                        found[name] = step
        return found

    def _task_step(
        self, name: str, joined: Joined, lesson: Lesson, way: Pass, part: int
    ) -> TaskStep | None:
        task, columns = self.registry.tasks[name], self.model.columns(name)
        wanted = self.strategy.distils if lesson.knows(name) else ""
        members = batch.members(joined, task, columns, wanted)
        if members is None:
            return None
        device = self.model.device
        z_BC = way.z(name, part, members.row_B, detached=bool(self.warm.get(name)))
        if self.strategy.autograd:
            z_BC.requires_grad_()
        kept = None
        if self.strategy.keeps and len(members.memory_y):
            slot_M = joined.slot_M if members.memory_M is None else joined.slot_M[members.memory_M]
            kept = batch.stored(self.replay.tables[joined.table], name, slot_M, columns)
        weight = None if members.weight is None else on(torch.from_numpy(members.weight), device)
        return TaskStep(
            name=name,
            kind=task.kind,
            z_BC=z_BC,
            y=on(torch.from_numpy(members.y), device),
            weight=weight,
            num_stream=members.num_stream,
            stream_y=members.stream_y,
            memory_y=members.memory_y,
            stored=kept,
            teacher=lambda: lesson.z(task.kind, members.row_B),
            rows=members.row_B,
            averaged=lambda: lesson.averaged(task.kind, members.memory_M),
        )

    def _losses(self, step: Step) -> tuple[dict[str, Loss], dict[str, Loss]]:
        """Losses to train on, and those for `correct`."""
        strategy = self.strategy
        if strategy.autograd:
            torch.set_grad_enabled(True)
        losses = all_losses(strategy.losses(step))
        beside = all_losses(strategy.references(step)) if strategy.corrects else {}
        if strategy.autograd:
            torch.set_grad_enabled(False)
        return losses, beside

    def _parts(self, losses: Mapping[str, Loss], tasks: Mapping[str, TaskStep], n: int) -> Parts:
        """Loss and weight * loss_weight * (rows of the task / n rows) of every task; the sum of their products is trained on."""
        weigh = self.weighting.weigh(Values(losses)) if losses else {}
        of = self.registry.tasks
        return [
            (loss, weigh[name] * of[name].spec.loss_weight * (tasks[name].z_BC.shape[0] / n))
            for name, loss in losses.items()
        ]

    def _update(self, parts: Parts, references: Parts, way: Pass) -> bool:
        """Whether the gradients were finite; where not, nothing is updated."""
        if not any(loss.trains for loss, _ in parts):
            return True  # only frozen parameters, or no labelled row
        self.optimizer.zero_grad()
        beside = gradient(way, references, self.optimizer.parameters) if references else {}
        products = way.backward(parts)
        if self.strategy.corrects:
            for product in products:
                product.multiply()
            products = ()
            self.strategy.correct(self.optimizer.parameters, beside)
        if not self.optimizer.step(self.settings.clip_norm, products):
            return False
        if self.average is not None:
            self.average.update(self.step_count, self.step_count - self.since)
        return True

    def _remember(
        self, number: int, joined: Sequence[Joined], tasks: Mapping[str, TaskStep]
    ) -> None:
        for j in joined:
            if j.stream is not None:
                owner_B, class_B = batch.owners(j.stream, self.registry.tasks)
                mine = {
                    name: t for name, t in tasks.items() if self.model.table_of[name] == j.table
                }
                outputs = partial(batch.all_kept, j, mine) if self.strategy.keeps else no_outputs
                self.replay.offer(number, j.stream, owner_B, class_B, outputs)

    def _after(self, tasks: Mapping[str, TaskStep]) -> None:
        for name in tasks:
            if self.warm.get(name):
                self.warm[name] -= 1
        if (every := self.settings.teacher_every) and self.step_count % every == 0:
            self.refresh_teacher()
