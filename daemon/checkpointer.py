"""Durable cuts of the whole state: stage, write, verify, publish by rename, retain.

The training thread only copies tensors (`stage`); a thread of its own writes, and hashing, writing and fsync
release the interpreter. What lies where is told in `daemon/checkpoint_store.py`.
"""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from daemon.arena import Arena, Pool
from daemon.checkpoint_store import (
    DAMAGE,
    MANIFEST,
    SCHEMA,
    STATE_JSON,
    STATE_TENSORS,
    NotFinite,
    Store,
    encoded,
    refuse_not_finite,
    sealed,
    segment_file,
    verify,
    write_bytes,
)
from daemon.durable import sync_directory
from daemon.errors import IntegrityError
from daemon.failpoints import reach
from daemon.retention import retained
from mtl_engine.state import FileInfo, sha256, write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from daemon.arena import Array
    from daemon.checkpoint_store import Recovered
    from daemon.types import Json


@dataclass(frozen=True, slots=True)
class Cut:
    """A consistent cut: everything needed to go on. `weights` names the tensors that must be finite."""

    tensors: Mapping[str, Array]
    segments: Mapping[str, tuple[int, Mapping[str, Array]]]
    meta: Json
    header: Json  # goes into the manifest as it is: step, epoch, token, position, intents, build
    weights: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Written:
    """A cut that is durable and current."""

    seq: int
    header: Json
    stage_s: float
    write_s: float
    bytes_written: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A cut that could not be written; the one before it is still current and training may go on."""

    seq: int
    header: Json
    reason: str
    not_finite: bool = False  # the weights themselves are the reason


class Checkpointer:
    """Writes cuts one at a time below `root` and keeps the newest `keep`, and older ones an hour apart.

    `then` runs in the writer after the cut is current: the place where a snapshot is published.
    """

    def __init__(self, root: Path, keep: int, keep_hourly: int = 0) -> None:
        self.store = Store(root)
        self.keep = keep
        self.keep_hourly = keep_hourly
        self._arena = Arena()
        self._pool = Pool()  # for segments
        self._thread: threading.Thread | None = None
        self._outcome: Written | Failed | None = None
        self._lineage: list[int] = []  # what the next cut descends from, the nearest first
        self._current: int | None = None  # what CURRENT names: not the parent, after a rollback
        self._next_seq = 1
        self._durable_versions: dict[str, int] = {}  # of the segments in the current cut
        self._headers: dict[int, Json] = {}  # of the retained cuts

    def assume(self, versions: Mapping[str, int]) -> None:
        """Segments at these versions are what the recovered cut holds, so they need not be written again."""
        self._durable_versions = dict(versions)

    def recover(self) -> Recovered | None:
        """The newest good cut, or None where there never was one; new cuts will descend from it."""
        self.store.root.mkdir(parents=True, exist_ok=True)
        mended = self.store.mend_current()
        self._next_seq = 1 + self.store.highest()
        self.store.drop_orphans()
        found = self.store.newest_good()
        if found is not None:
            found.set_aside.extend(mended)
            self._lineage = [seq for seq in self.store.lineage() if self.store.path(seq).exists()]
            self._current = next(iter(self._lineage), None)
            self._headers = self.store.headers(self._lineage)
        return found

    def descend(self, seq: int, versions: Mapping[str, int]) -> None:
        """The next cut descends from this retained one, whose segments are at these versions, not from the newest."""
        place = self._lineage.index(seq)
        self._lineage = self._lineage[place:]
        self.assume(versions)

    @property
    def busy(self) -> bool:
        """Whether a cut is being written; at most one is."""
        return self._thread is not None

    def retained(self) -> list[Json]:
        """Manifest headers of the retained cuts, newest first; ask while nothing is being written."""
        return [self._headers[seq] for seq in self._lineage if seq in self._headers]

    def stage(self, cut: Cut, then: Callable[[], None] | None = None) -> None:
        """Copy the cut (the only part that the training thread waits for) and start writing it."""
        if self._thread is not None:
            raise AssertionError("a checkpoint is being written; poll() or wait() first")
        begin = monotonic()
        self._pool.reclaim()
        tensors = {name: self._arena.copy(name, value) for name, value in cut.tensors.items()}
        fresh: dict[str, dict[str, Array]] = {}
        for name, (version, columns) in cut.segments.items():
            if self._durable_versions.get(name) != version:
                fresh[name] = {column: self._pool.copy(value) for column, value in columns.items()}
        self._arena.keep_only(cut.tensors.keys())
        versions = {name: version for name, (version, _) in cut.segments.items()}
        meta = encoded(cut.meta)
        job = _Job(self._next_seq, tensors, fresh, versions, meta, cut.header, cut.weights, then)
        job.stage_s = monotonic() - begin
        self._next_seq += 1
        reach("staged")
        self._thread = threading.Thread(
            target=self._write, args=(job,), name="checkpoint-writer", daemon=True
        )
        self._thread.start()

    def poll(self) -> Written | Failed | None:
        """The outcome of the cut being written, once; None while there is none."""
        if self._thread is None or self._thread.is_alive():
            return None
        return self.wait()

    def wait(self) -> Written | Failed | None:
        """The same, but wait for it."""
        if self._thread is None:
            return None
        self._thread.join()
        self._thread = None
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            raise AssertionError("the checkpoint writer ended without an outcome")
        return outcome

    def _write(self, job: _Job) -> None:
        begin = monotonic()
        try:
            size = self._publish(job)
        except (*DAMAGE, NotFinite) as error:
            self._undo(job)
            reason = f"{type(error).__name__}: {error}"
            self._outcome = Failed(job.seq, job.header, reason, isinstance(error, NotFinite))
            return
        self._outcome = Written(job.seq, job.header, job.stage_s, monotonic() - begin, size)
        self._remove_old()
        if job.then is not None:
            job.then()

    def _undo(self, job: _Job) -> None:
        """Leave nothing on the disk of a failed cut, unless CURRENT has come to name it."""
        shutil.rmtree(self.store.temporary(job.seq), ignore_errors=True)
        self._durable_versions = {}  # the reason may lie in a parent's file: link none of them
        if not job.is_renamed:
            return  # a directory of that name would be somebody else's
        with suppress(*DAMAGE):  # an unreadable CURRENT stays: the next recovery will know
            if self.store.lineage()[:1] == [job.seq]:
                self._follow(job)
            else:
                shutil.rmtree(self.store.path(job.seq), ignore_errors=True)

    def _follow(self, job: _Job) -> None:
        self._lineage = [job.seq, *self._lineage]
        self._current = job.seq
        self._headers[job.seq] = {**job.header, "seq": job.seq, "at": job.at}

    def _publish(self, job: _Job) -> int:
        refuse_not_finite({name: job.tensors[name] for name in sorted(job.weights)})
        tmp = self.store.temporary(job.seq)
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        parent = self._lineage[0] if self._lineage else None
        manifest = self._fill(tmp, job, parent)
        sync_directory(tmp)
        verify(tmp, manifest, job.fresh_files)
        reach("written")
        tmp.rename(self.store.path(job.seq))
        job.is_renamed = True
        sync_directory(self.store.root)
        reach("renamed")
        if next(iter(self.store.lineage()), None) != self._current:
            raise IntegrityError(
                f"CURRENT does not name {self._current}: another process has written here"
            )
        self.store.make_current([job.seq, *self._lineage])
        self._follow(job)
        self._durable_versions = job.versions
        reach("current_swapped")
        return sum(manifest["files"][file]["bytes"] for file in job.fresh_files)

    def _fill(self, tmp: Path, job: _Job, parent: int | None) -> Json:
        """Write or link every file; returns the manifest."""
        if isinstance(job.meta, ValueError):
            raise job.meta
        files: Json = {}
        linked = job.versions.keys() - job.fresh.keys()
        old: Json = self.store.manifest(parent or 0)["files"] if linked else {}
        for name in job.versions:
            file = segment_file(name)
            columns = job.fresh.get(name)
            if columns is None:
                os.link(self.store.path(parent or 0) / file, tmp / file)
                files[file] = old[file]
            else:
                files[file] = asdict(write_tensors(tmp / file, columns))
                job.fresh_files.add(file)
        files[STATE_TENSORS] = asdict(write_tensors(tmp / STATE_TENSORS, job.tensors))
        write_bytes(tmp / STATE_JSON, job.meta)
        files[STATE_JSON] = asdict(FileInfo(STATE_JSON, sha256(tmp / STATE_JSON), len(job.meta)))
        job.fresh_files |= {STATE_TENSORS, STATE_JSON}
        manifest = {
            "schema": SCHEMA, "seq": job.seq, "parent": parent, "at": job.at,
            **job.header, "files": files, "segments": sorted(job.versions),
        }  # fmt: skip
        write_bytes(tmp / MANIFEST, sealed(manifest))
        return manifest

    def _remove_old(self) -> None:
        stamps = {seq: str(header["at"]) for seq, header in self._headers.items()}
        self._lineage = retained(self._lineage, stamps, self.keep, self.keep_hourly)
        for seq in self._headers.keys() - set(self._lineage):
            del self._headers[seq]
            shutil.rmtree(self.store.path(seq), ignore_errors=True)


@dataclass(slots=True)
class _Job:
    """What the writer thread needs; the tensors are copies."""

    seq: int
    tensors: Mapping[str, Array]
    fresh: Mapping[str, Mapping[str, Array]]
    versions: dict[str, int]
    meta: bytes | ValueError
    header: Json
    weights: frozenset[str]
    then: Callable[[], None] | None
    stage_s: float = 0.0
    is_renamed: bool = False
    fresh_files: set[str] = field(default_factory=set[str])
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
