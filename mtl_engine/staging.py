"""The whole engine as one state and back; forgetting a task everywhere; and what `describe` tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtl_engine.average import BACK, HEAD_START
from mtl_engine.choosing import Choice
from mtl_engine.components import build
from mtl_engine.defaults import advised
from mtl_engine.errors import EngineError, StateError
from mtl_engine.judge import Judge
from mtl_engine.optim import Optimizer
from mtl_engine.state import EngineState, Segment, as_tensors
from mtl_engine.strategies import STRATEGIES
from mtl_engine.teacher import Teacher
from mtl_engine.trainer import Trainer
from mtl_engine.types import Json

SCHEMA = 2


def state(trainer: Trainer, judge: Judge, choice: Choice) -> EngineState:
    meta: Json = {
        "schema": SCHEMA,
        "step_count": trainer.step_count,
        "skipped_steps": trainer.skipped_steps,
        "since": trainer.since,
        "defaults": trainer.defaults,
        "warm": dict(trainer.warm),
        "focus": None if trainer.focus is None else list(trainer.focus),
        "model": trainer.model.structure(),
        "matrix": list(judge.matrix.rows),
        "teacher": None,
        "average": None,
        "choice": choice.state(),
    }
    tensors = _named("model", trainer.model.tensors()) | _named("optim", trainer.optimizer.state())
    for name, (part, values) in {
        "registry": trainer.registry.state(),
        "replay": trainer.replay.state(),
        "weighting": trainer.weighting.state(),
        "strategy": trainer.strategy.state(),
        "held_out": judge.held_out.state(),
        "senders": trainer.senders.state(),
    }.items():
        meta[name] = part
        tensors |= _named(name, values)
    segments = {
        f"replay.{name}": Segment(*segment) for name, segment in trainer.replay.segments().items()
    }
    segments |= {
        f"held_out.{name}": Segment(*segment) for name, segment in judge.held_out.segments().items()
    }
    if trainer.average is not None:
        meta["average"] = {}
        tensors |= _named("average", trainer.average.values)
    if trainer.teacher is not None:
        meta["teacher"], values = trainer.teacher.state()
        segments["teacher"] = Segment(
            trainer.teacher.version, {name: value.detach() for name, value in values.items()}
        )
    return EngineState(meta, {name: value.detach() for name, value in tensors.items()}, segments)


def load(
    found: EngineState, trainer: Trainer, judge: Judge, choice: Choice, said: Mapping[str, Any]
) -> None:
    """Copies everything; on an error the engine is half loaded and must be thrown away.

    `said` is what the user said of `defaults`: what is left open there is what the state was made with.
    """
    meta = found.meta
    if meta.get("schema") != SCHEMA:
        raise StateError(
            f"the state has schema {meta.get('schema')!r}: this version reads {SCHEMA}; "
            "go on with the version that wrote it, or start anew on an empty state directory"
        )
    _assume(int(meta.get("defaults", 1)), trainer, choice, said)
    if (meta["average"] is None) != (trainer.average is None):
        raise StateError(
            "the state and this engine differ in `weights`: one has an average (chosen, ema), the other none (raw); "
            "use what the state was made with"
        )
    tensors = {name: torch.as_tensor(value) for name, value in found.tensors.items()}
    try:
        _load(meta, tensors, found.segments, trainer, judge)
        judge.matrix.load_state(meta["matrix"])
        choice.load_state(meta.get("choice"))
    except StateError:
        raise
    except (KeyError, IndexError, TypeError, RuntimeError, EngineError) as error:
        raise StateError(
            f"the state does not fit this engine: {type(error).__name__}: {error}"
        ) from error


def _assume(generation: int, trainer: Trainer, choice: Choice, said: Mapping[str, Any]) -> None:
    """The parts of a trainer that an older state was made with, in place of this version's."""
    if generation != trainer.defaults:
        chosen = advised(said, generation)
        trainer.optimizer = Optimizer(chosen["optimizer"], trainer.optimizer.parameters)
        trainer.strategy = build(STRATEGIES, chosen["strategy"], "strategy")
        trainer.settings = replace(trainer.settings, clip_norm=chosen["clip_norm"])
        choice.weights = chosen["weights"]
        trainer.defaults = generation


def _load(
    meta: Json,
    tensors: Mapping[str, Tensor],
    segments: Mapping[str, Segment],
    trainer: Trainer,
    judge: Judge,
) -> None:
    device = trainer.model.device
    trainer.step_count, trainer.skipped_steps = int(meta["step_count"]), int(meta["skipped_steps"])
    trainer.since = int(meta["since"] if "since" in meta else _since(meta))
    trainer.warm = {name: int(left) for name, left in meta["warm"].items()}
    trainer.focus = None if meta["focus"] is None else (meta["focus"][0], meta["focus"][1])
    trainer.registry.load_state(meta["registry"], _arrays("registry", tensors))
    trainer.model.restructure(meta["model"])
    trainer.model.load_tensors(
        {name: value.to(device) for name, value in _below("model", tensors).items()}
    )
    parameters = dict(trainer.model.named_parameters())
    trainer.optimizer.load_state(parameters, _copied("optim", tensors, device))
    trainer.weighting.load_state(meta["weighting"], _arrays("weighting", tensors))
    trainer.strategy.load_state(meta.get("strategy", {}), _copied("strategy", tensors, device))
    trainer.replay.load_state(
        meta["replay"], _arrays("replay", tensors), _segments("replay", segments)
    )
    judge.held_out.load_state(
        meta["held_out"], _arrays("held_out", tensors), _segments("held_out", segments)
    )
    trainer.senders.load_state(meta.get("senders", {}), _arrays("senders", tensors))
    if trainer.average is not None:
        values = _copied("average", tensors, device)
        trainer.average.load_state(values, parameters)
    trainer.teacher = None
    if meta["teacher"] is not None:
        values = {
            name: torch.as_tensor(value) for name, value in segments["teacher"].tensors.items()
        }
        trainer.teacher = Teacher.from_state(
            meta["teacher"], values, trainer.registry, trainer.model.spec, device
        )
        trainer.teacher_version = trainer.teacher.version


def _since(meta: Json) -> int:
    """When the model last changed, of a state that knew it of its average only, or had an age there for each parameter.

    Of these the youngest counts, and looked back on a ninth of it.
    """
    step = int(meta["step_count"])
    average: Json = meta["average"] or {}
    if "born" not in average:
        return int(average.get("since", 0))
    age = step - max((int(born) for born in average["born"].values()), default=step)
    return step - max(0, (age + 10) * BACK // 9 - HEAD_START - BACK)


def forget(trainer: Trainer, name: str, number: int) -> None:
    """Remove everything that a task left in the parts of the trainer."""
    if name in trainer.model.table_of:
        gone = trainer.model.remove_head(name)
        trainer.optimizer.remove(gone)
        trainer.strategy.forget(gone)
        if trainer.average is not None:
            trainer.average.sync(dict(trainer.model.named_parameters()))
    trainer.replay.remove_task(name, number)
    trainer.rearrange()
    trainer.weighting.remove_task(name)
    trainer.warm.pop(name, None)
    trainer.senders.forget(name)
    if trainer.teacher is not None:
        trainer.teacher_version += 1
        trainer.teacher.forget(name, trainer.teacher_version)
    if trainer.focus is not None and trainer.focus[0] == name:
        trainer.focus = None


def describe(trainer: Trainer, choice: Choice) -> Json:
    kept = trainer.replay.counts()
    tasks: list[Json] = []
    for name, task in trainer.registry.tasks.items():
        meta, _ = task.kind.state()
        tasks.append(
            {
                **task.spec.to_dict(),
                "table": task.table,
                "columns": trainer.model.columns(name),
                "classes": meta.get("labels", list(task.spec.classes)),
                "replay_rows": kept.get(task.number, 0),
                "null_loss": task.kind.null_loss(),
            }
        )
    tables = {
        name: {
            "capacity": table.capacity,
            "rows": table.num_rows,
            "bytes": table.num_bytes,
        }
        for name, table in trainer.replay.tables.items()
    }
    return {
        "tasks": tasks,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "replay": tables,
        "replay_rows": sum(table["rows"] for table in tables.values()),
        "replay_bytes": sum(table["bytes"] for table in tables.values()),
        "strategy": type(trainer.strategy).__name__,
        "weights": choice.weights,
        "published": choice.published,
        "teacher_step": None if trainer.teacher is None else trainer.teacher.step,
        "step_count": trainer.step_count,
        "skipped_steps": trainer.skipped_steps,
    }


def finite(trainer: Trainer) -> bool:
    sums = [p.detach().float().sum() for p in trainer.model.parameters()]
    sums += [value.float().sum() for value in trainer.weights().values()]
    return bool(torch.isfinite(torch.stack(sums)).all())


def _named(part: str, values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {f"{part}.{name}": value for name, value in as_tensors(values).items()}


def _below(part: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{part}."
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}


def _copied(part: str, tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device, copy=True) for name, value in _below(part, tensors).items()}


def _arrays(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in _below(part, tensors).items()}


def _segments(part: str, segments: Mapping[str, Segment]) -> dict[str, Mapping[str, Any]]:
    return {name: segment.tensors for name, segment in _below(part, segments).items()}
