"""The whole state as one consistent cut, and back: what exactly a checkpoint of the daemon contains."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from daemon.checkpointer import Cut
from daemon.identity import id_tuple
from daemon.reader import Position
from mtl_engine.state import EngineState, Segment, as_tensors

if TYPE_CHECKING:
    from daemon.checkpoint_store import Recovered
    from daemon.machine import LogMachine
    from daemon.measures import Measures
    from daemon.types import Json

T = TypeVar("T")
LEARNED = ("model.", "optim.", "average.")  # how the names of tensors begin that must be finite


@dataclass(slots=True)
class Process:
    """What the daemon must remember that is not a function of the log."""

    epoch: int = 1  # moves when the stream went back or the state was rolled back
    regressions: int = (
        0  # how often the stream went back: positions before the last time are of another log
    )
    token: int = 0  # of the lease; a higher one fences a lower one off
    displayed: str = "0-0"  # the last id that the display group was set to
    reread_until: str = "0-0"  # after a regression: entries up to here may be old ones read again
    next_version: int = 1  # of the next published snapshot
    paused: str | None = None  # the reason, while paused
    paused_until: str | None = None  # RFC 3339, None = until resumed
    skips: list[list[str]] = field(
        default_factory=list["list[str]"]
    )  # [first, last] ids that a rollback leaves out

    def skips_after(self, position: str) -> list[list[str]]:
        """The ranges left out that reading has not passed yet."""
        here = id_tuple(position)
        return [list(skip) for skip in self.skips if id_tuple(skip[1]) > here]


def take(
    machine: LogMachine,
    position: Position,
    process: Process,
    header: Json,
    measures: Measures | None = None,
) -> Cut:
    """The cut between two moves of the machine; tensors are the live ones, the checkpointer copies them."""
    state = machine.engine.state_dict()
    arrays, meta = machine.state()
    tensors = {f"engine/{name}": tensor for name, tensor in state.tensors.items()}
    segments = {
        f"engine/{name}": (part.version, part.tensors) for name, part in state.segments.items()
    }
    ring = {
        f"machine/{name}": (version, {"keys": keys})
        for name, (version, keys) in machine.ring.segments().items()
    }
    frozen = {} if measures is None else measures.segments()
    return Cut(
        tensors={**tensors, **{f"machine/{name}": array for name, array in arrays.items()}},
        segments={
            **segments,
            **ring,
            **{f"measures/{name}": segment for name, segment in frozen.items()},
        },
        meta={
            "engine": state.meta,
            "machine": meta,
            "outbox": machine.outbox.state_dict(),
            "process": asdict(process),
            "measures": {} if measures is None else measures.state(),
        },
        header={
            "step": machine.engine.step_count,
            "epoch": process.epoch,
            "regressions": process.regressions,
            "token": process.token,
            "watermark": position.id,
            "position": {**asdict(position), "key": position.key.hex()},
            **header,
        },
        weights=frozenset(f"engine/{name}" for name in state.tensors if name.startswith(LEARNED)),
    )


def versions(machine: LogMachine) -> dict[str, int]:
    """The versions of all segments that hold what was restored, as `take` would name them."""
    engine = {
        f"engine/{name}": part.version
        for name, part in machine.engine.state_dict().segments.items()
    }
    if machine.ring.is_rearranged:
        return engine
    return engine | {
        f"machine/{name}": version for name, (version, _) in machine.ring.segments().items()
    }


def restore(found: Recovered, machine: LogMachine) -> tuple[Position, Process]:
    """Give the machine the state of a recovered cut; returns where in the log it stands."""
    engine, own, _ = _split(found.tensors)
    engine_segments, own_segments, _ = _split(found.segments)
    machine.engine.load_state_dict(
        EngineState(
            meta=found.meta["engine"],
            tensors=as_tensors(engine),
            segments={name: Segment(0, as_tensors(part)) for name, part in engine_segments.items()},
        )
    )
    machine.load_state(own, found.meta["machine"])
    machine.ring.load(
        found.meta["machine"]["ring_added"], {n: part["keys"] for n, part in own_segments.items()}
    )
    machine.outbox.load_state_dict(found.meta["outbox"])
    position = position_of(found.header)
    machine.entry_id = position.id
    return position, Process(**found.meta["process"])


def position_of(header: Json) -> Position:
    """The position that a manifest names."""
    told = header["position"]
    return replace(Position(**told), key=bytes.fromhex(told["key"]))


def restore_measures(found: Recovered, measures: Measures) -> None:
    """What the gate measures by, at a start; a rollback leaves it as it is, like the champion."""
    measures.load_state(found.meta.get("measures", {}), _split(found.segments)[2])


def _split(named: dict[str, T]) -> tuple[dict[str, T], dict[str, T], dict[str, T]]:
    """What belongs to the engine, to the machine, and to the gate's measures."""
    parts: dict[str, dict[str, T]] = {"engine": {}, "machine": {}, "measures": {}}
    for name, value in named.items():
        owner, _, rest = name.partition("/")
        parts[owner][rest] = value
    return parts["engine"], parts["machine"], parts["measures"]
