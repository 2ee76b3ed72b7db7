"""Checkpoints on disk: where they lie, what makes one count, and how the newest good one is found again.

    <root>/CURRENT                 JSON: the current cut and its ancestors, newest first
    <root>/000042/manifest.json    what the cut contains, with sha256 and size of every file
    <root>/000042/state.json       counters, vocabularies, specs: everything that is not a tensor
    <root>/000042/state.safetensors, segment files (unchanged ones are hard links to the parent's)
    <root>/000041.bad              a cut that could not be used, set aside for a person; the newest BAD_KEPT stay

A sequence number is never used twice, and `CURRENT` is what makes a cut count. Fall-back follows the ancestors
that it names, never the order of directories. `CURRENT` and the manifests carry a digest of themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
import torch

from daemon import finite
from daemon.durable import sync_directory
from daemon.errors import DaemonError, IntegrityError
from mtl_engine.state import read_tensors, sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from daemon.types import Json

SCHEMA = 1
MANIFEST = "manifest.json"
STATE_JSON = "state.json"
STATE_TENSORS = "state.safetensors"
WAY_OUT = "restore the directory from a backup, or move it away to start afresh"
LINEAGE = 64  # ancestors that CURRENT names, more than are ever needed to fall back
BAD_KEPT = 2  # cuts set aside that stay, to see what went wrong; more would fill the disk
PAYLOAD = frozenset({"files", "segments"})  # the part of a manifest that is not header
DAMAGE = (OSError, ValueError, KeyError, TypeError, IntegrityError)  # how a damaged file shows

log = structlog.get_logger("mtld")


class NotFinite(DaemonError):
    """Weights that are NaN or Inf: they are never written."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The newest good cut: tensors by name, segments by name, JSON, and what was set aside on the way."""

    seq: int
    header: Json
    tensors: dict[str, np.ndarray]
    segments: dict[str, dict[str, np.ndarray]]
    meta: Json
    set_aside: list[str] = field(default_factory=list[str])


class Store:
    """The directory of checkpoints; every method leaves it consistent if the process dies inside."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, seq: int) -> Path:
        return self.root / f"{seq:06d}"

    def temporary(self, seq: int) -> Path:
        return self.root / f"{seq:06d}.tmp"

    def manifest(self, seq: int) -> Json:
        """What a cut says of itself."""
        return opened((self.path(seq) / MANIFEST).read_bytes())

    def headers(self, seqs: list[int]) -> dict[int, Json]:
        """Manifests without their lists of files; of damaged ones there is none."""
        found: dict[int, Json] = {}
        for seq in seqs:
            try:
                found[seq] = _header(self.manifest(seq))
            except DAMAGE as error:
                log.warning("checkpoint cannot be used", seq=seq, error=str(error))
        return found

    def lineage(self) -> list[int]:
        """The current cut and its ancestors, newest first; empty where nothing was ever made current."""
        path = self.root / "CURRENT"
        return opened(path.read_bytes())["lineage"] if path.exists() else []

    def make_current(self, lineage: list[int]) -> None:
        """The moment a cut counts."""
        tmp = self.root / "CURRENT.tmp"
        write_bytes(
            tmp, sealed({"schema": SCHEMA, "seq": lineage[0], "lineage": lineage[:LINEAGE]})
        )
        tmp.replace(self.root / "CURRENT")
        sync_directory(self.root)

    def mend_current(self) -> list[str]:
        """Where CURRENT was lost, make it again from the newest cut and its parents; says what was wrong.

        A cut without a parent that no CURRENT names is no loss: its process died before anything counted.
        """
        try:
            if self.lineage():
                return []
            wrong = "CURRENT is missing"
        except DAMAGE as error:
            wrong = f"CURRENT is damaged ({error})"
        lineage = self._descent()
        if not (self.root / "CURRENT").exists() and len(lineage) < 2:
            return []
        if not lineage:
            raise IntegrityError(f"{wrong} and {self.root} holds no checkpoint; {WAY_OUT}")
        self.make_current(lineage)
        return [f"{wrong}: made again from {lineage[0]} and its parents"]

    def _descent(self) -> list[int]:
        """The cut with the highest number and its parents, as far as they are here."""
        found: list[int] = []
        seq = max(
            (int(path.name) for path in self.root.iterdir() if path.name.isdigit()), default=None
        )
        while seq is not None and self.path(seq).exists():
            found.append(seq)
            try:
                seq = self.manifest(seq)["parent"]
            except DAMAGE as error:
                if len(found) > 1:
                    break  # enough to start from
                raise IntegrityError(
                    f"CURRENT is lost and so is what {self.path(found[0])} descends from ({error}); {WAY_OUT}"
                ) from error
        return found

    def highest(self) -> int:
        """The highest sequence number ever seen here."""
        names = [path.name.partition(".")[0] for path in self.root.iterdir()]
        return max([0, *self.lineage(), *(int(name) for name in names if name.isdigit())])

    def drop_orphans(self) -> None:
        """Remove what a crash left: temporary directories, and cuts that never became current."""
        known = {self.path(seq).name for seq in self.lineage()}
        for path in self.root.iterdir():
            if path.name.endswith(".tmp") or (path.name.isdigit() and path.name not in known):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def newest_good(self) -> Recovered | None:
        """The current cut, or its nearest good ancestor; None where nothing was ever made current.

        A cut that is torn, damaged or of a newer schema is set aside as `<seq>.bad`. Once a good one is found
        the oldest of those are removed; where there is none, nothing is.
        Raises IntegrityError when cuts exist and none of them is good: starting afresh must be a decision.
        """
        lineage = self.lineage()
        set_aside: list[str] = []
        for place, seq in enumerate(lineage):
            if not self.path(seq).exists():
                set_aside.append(f"{seq}: it is missing")
                continue
            try:
                found = self.load(seq)
            except DAMAGE as error:
                set_aside.append(f"{seq}: {error}")
                self.path(seq).rename(self.root / f"{seq:06d}.bad")
                continue
            found.set_aside.extend(set_aside)
            if place:
                self.make_current([kept for kept in lineage[place:] if self.path(kept).exists()])
            self._remove_old_bad()
            return found
        if lineage:
            raise IntegrityError(
                f"no checkpoint below {self.root} is usable ({'; '.join(set_aside[:5])}); {WAY_OUT}"
            )
        return None

    def _remove_old_bad(self) -> None:
        bad = [path for path in self.root.glob("*.bad") if path.stem.isdigit()]
        for path in sorted(bad, key=lambda path: -int(path.stem))[BAD_KEPT:]:
            shutil.rmtree(path, ignore_errors=True)

    def load(self, seq: int) -> Recovered:
        """Read one cut whole, comparing every file with its manifest."""
        path, manifest = self.path(seq), self.manifest(seq)
        verify(path, manifest, set(manifest["files"]))
        return Recovered(
            seq=seq,
            header=_header(manifest),
            tensors=read_tensors(path / STATE_TENSORS),
            segments={
                name: read_tensors(path / segment_file(name), mapped=True)
                for name in manifest["segments"]
            },
            meta=finite.loads((path / STATE_JSON).read_bytes()),
        )


def sealed(body: Json) -> bytes:
    """JSON with a digest of itself."""
    return finite.dumps({**body, "digest": _digest(body)}, indent=1).encode()


def opened(data: bytes) -> Json:
    """What `sealed` was given; IntegrityError where a byte of it changed or a newer version wrote it."""
    body: Json = json.loads(data)
    if body["schema"] > SCHEMA:
        raise IntegrityError(
            f"schema {body['schema']} is newer than {SCHEMA}, which this version reads"
        )
    if body.pop("digest") != _digest(body):
        raise IntegrityError("it is not what was written: its digest differs")
    return body


def refuse_not_finite(weights: Mapping[str, np.ndarray | torch.Tensor]) -> None:
    """Raise NotFinite where a tensor holds NaN or Inf."""
    for name, value in weights.items():
        if isinstance(value, torch.Tensor) and not bool(torch.isfinite(value).all()):
            raise NotFinite(f"{name} holds NaN or Inf; the checkpoint before stays current")


def encoded(meta: Json) -> bytes | ValueError:
    """The bytes of state.json, or why there are none: that costs a checkpoint, not the process."""
    try:
        return finite.dumps(meta).encode()
    except ValueError as error:
        return error


def _digest(body: Json) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _header(manifest: Json) -> Json:
    return {key: value for key, value in manifest.items() if key not in PAYLOAD}


def segment_file(name: str) -> str:
    """The file of a segment."""
    return f"{name.replace('/', '+')}.safetensors"


def verify(path: Path, manifest: Json, hashed: set[str]) -> None:
    """Compare the files with the manifest: sizes of all, hashes of those named; IntegrityError says which differ."""
    for name, said in manifest["files"].items():
        if not (path / name).exists():
            raise IntegrityError(f"{name} is missing")
        size = (path / name).stat().st_size
        if size != said["bytes"]:
            raise IntegrityError(f"{name} has {size} bytes, the manifest says {said['bytes']}")
        if name in hashed:
            found = sha256(path / name)
            if found != said["sha256"]:
                raise IntegrityError(
                    f"{name} has sha256 {found[:12]}, the manifest says {said['sha256'][:12]}"
                )


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file and make it durable."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
