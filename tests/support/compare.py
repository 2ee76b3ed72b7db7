"""Compares two state directories bit by bit, reading the files with the safetensors library, not with our reader."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.aof import Added

Json = dict[str, Any]
NOT_OF_ANY_LOG = "measures"  # what the gate measures by follows from when snapshots were cut
SHOWN = 12  # differences that a failing test prints
# Of a dead letter: when it left and its number in the outbox, which journal lines share.
NOT_OF_THE_LOG = (b"at", b"seq")


@dataclass(frozen=True, slots=True)
class Saved:
    """The newest checkpoint of one state directory."""

    header: Json
    meta: Json
    tensors: dict[str, np.ndarray]

    @property
    def counters(self) -> Json:
        return self.meta["machine"]["counters"]


def saved(state: Path) -> Saved:
    """Read what CURRENT names: every tensor of every file, and the JSON."""
    root = state / "checkpoints"
    place = root / f"{json.loads((root / 'CURRENT').read_bytes())['seq']:06d}"
    tensors: dict[str, np.ndarray] = {}
    for file in sorted(place.glob("*.safetensors")):
        if not file.stem.startswith(NOT_OF_ANY_LOG):
            tensors |= {f"{file.stem}:{name}": value for name, value in load_file(file).items()}
    return Saved(
        json.loads((place / "manifest.json").read_bytes()),
        json.loads((place / "state.json").read_bytes()),
        tensors,
    )


def differences(one: Saved, other: Saved, *, position: bool = True) -> list[str]:
    """Every way in which two checkpoints differ in what the log decides; empty = bit-equal."""
    found = _json("engine", one.meta["engine"], other.meta["engine"])
    found += _json("machine", one.meta["machine"], other.meta["machine"])
    found += _json("step", one.header["step"], other.header["step"])
    if position:
        for name in ("id", "key", "n"):
            here, there = one.header["position"][name], other.header["position"][name]
            found += _json(f"position.{name}", here, there)
    found += [
        f"{name}: only in one of the two" for name in sorted(one.tensors.keys() ^ other.tensors)
    ]
    for name in sorted(one.tensors.keys() & other.tensors):
        found += _tensor(name, one.tensors[name], other.tensors[name])
    return found


def assert_same(one: Saved, other: Saved, *, position: bool = True) -> None:
    """Bit-equal, or an AssertionError that says where not."""
    found = differences(one, other, position=position)
    assert len(one.tensors) > 10, f"only {len(one.tensors)} tensors: that compares nothing"
    assert not found, f"{len(found)} differences:\n" + "\n".join(found[:SHOWN])


def letters(entries: list[Added]) -> list[dict[str, str]]:
    """Dead letters without what the log does not decide."""
    return [
        {
            name.decode(): value.decode()
            for name, value in entry.fields.items()
            if name not in NOT_OF_THE_LOG
        }
        for entry in entries
    ]


def _json(path: str, one: Any, other: Any) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        found: list[str] = []
        for key in sorted(one.keys() | other.keys(), key=str):
            found += _json(f"{path}.{key}", one.get(key, "absent"), other.get(key, "absent"))
        return found
    if one == other and type(one) is type(other):
        return []
    return [f"{path}: {str(one)[:200]} and {str(other)[:200]}"]


def _tensor(name: str, one: np.ndarray, other: np.ndarray) -> list[str]:
    if one.dtype != other.dtype or one.shape != other.shape:
        return [f"{name}: {one.dtype}{one.shape} and {other.dtype}{other.shape}"]
    if one.tobytes() == other.tobytes():
        return []
    return [f"{name}: {int(np.count_nonzero(one != other))} of {one.size} values differ"]
