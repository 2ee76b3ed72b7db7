"""What `mtld doctor` looks at on this machine: each check is a function from a call to findings, and touches nothing it looks at."""

from __future__ import annotations

import os
import shutil
import stat
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from daemon import client, releases, vitals
from daemon.commands.checkpoint import current, directories
from daemon.commands.words import ago, size
from daemon.errors import DaemonError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.commands.shared import Call

FREE_WARN_BYTES = 2 << 30  # a few checkpoints and the log
FREE_FAIL_BYTES = 200 << 20  # one small checkpoint
FSYNC_WARN_S, FSYNC_FAIL_S = 0.05, 1.0  # a checkpoint fsyncs about ten files
DEFAULT_THREADS = 2  # engine.num_threads
ANSWER_S = 5.0  # a loop looks at its requests between two steps, many times a second

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report: what was looked at, how it is, what was found and, unless ok, what to do."""

    check: str
    level: Level
    found: str
    fix: str = ""


def packages(call: Call) -> Iterator[Finding]:
    """That `daemon` is ours, and the versions of what we run on, without importing any of it."""
    del call
    intruder = _version("python-daemon")
    if intruder:
        fix = "pip uninstall python-daemon, then pip install --force-reinstall --no-deps mtld"
        yield Finding(
            "package", "fail", f"python-daemon {intruder} shares our package name `daemon`", fix
        )
    else:
        yield Finding("package", "ok", f"daemon is mtld's, {Path(__file__).parents[1]}")
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok", python)
    for name, needed in (("torch", "2.8"), ("redis", "7"), ("numpy", "1.26")):
        found = _version(name)
        good = found is not None and numbers(found) >= numbers(needed)
        yield Finding(
            name,
            "ok" if good else "fail",
            found or "not installed",
            "" if good else f"pip install '{name}>={needed}'",
        )


def state_directory(call: Call) -> Iterator[Finding]:
    """That the state directory can be written, by us only, with room and a disk that can keep up."""
    path = call.state_dir
    if not path.is_dir():
        yield Finding(
            "state",
            "warn",
            f"{path} does not exist",
            "`mtld run` makes it; or name another with --state",
        )
        return
    if not os.access(path, os.W_OK | os.X_OK):
        yield Finding(
            "state",
            "fail",
            f"{path} cannot be written",
            f"chown it to the daemon's user: {os.getuid()}",
        )
        return
    others = stat.S_IMODE(path.stat().st_mode) & 0o077
    yield Finding(
        "state", "warn" if others else "ok", str(path), f"chmod 700 {path}" if others else ""
    )
    free = shutil.disk_usage(path).free
    level: Level = "fail" if free < FREE_FAIL_BYTES else "warn" if free < FREE_WARN_BYTES else "ok"
    yield Finding(
        "disk free",
        level,
        size(free),
        "" if level == "ok" else "free space; checkpoints fail when it is full",
    )
    try:
        took = _fsync_s(path)
    except OSError as error:
        yield Finding(
            "fsync", "fail", f"{path}: {error.strerror}", "make room on this disk, or mend it"
        )
        return
    level = "fail" if took > FSYNC_FAIL_S else "warn" if took > FSYNC_WARN_S else "ok"
    fix = (
        "" if level == "ok" else "use a local disk, or checkpoint less often: [checkpoint] every_s"
    )
    yield Finding("fsync", level, f"{took * 1e3:.1f} ms", fix)


def crowd(call: Call) -> Iterator[Finding]:
    """That a step with several threads does not wait for cores that others use."""
    load, cores, threads = os.getloadavg()[0], os.cpu_count() or 1, _threads(call)
    crowded = load > cores and threads > 1
    fix = (
        "if it is always so, engine.num_threads = 1 is faster; a change on the way is not bit-exact"
        if crowded
        else ""
    )
    said = f"{load:.1f} on {cores} cores, {threads} threads a step"
    yield Finding("load", "warn" if crowded else "ok", said, fix)


def process(call: Call) -> Iterator[Finding]:
    """That the lock, the vitals and the control socket agree on whether a daemon runs."""
    seen = vitals.read(call.state_dir / vitals.NAME)
    alive = seen is not None and vitals.is_alive(seen) and seen.state != "stopped"
    locked = _is_locked(call.state_dir / "LOCK")
    if seen is None or not alive:
        fix = (
            "see who holds it: fuser LOCK; a daemon that just starts is fine"
            if locked
            else "`mtld run`"
        )
        yield Finding(
            "daemon", "warn", "not running" + (", but LOCK is held" if locked else ""), fix
        )
        return
    silent = vitals.age_s(seen.written_at)
    yield Finding("daemon", "ok" if locked else "fail", f"pid {seen.pid}, {seen.state}, vitals {ago(silent)} old",
                  "" if locked else "it lost its LOCK (was the file deleted?): restart it")  # fmt: skip
    path = call.state_dir / client.SOCKET
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    if mode is None:
        yield Finding(
            "control",
            "fail",
            f"{path} is missing",
            "restart the daemon; do not clean its directory while it runs",
        )
    elif mode != 0o600:
        yield Finding("control", "fail", f"mode {mode:o}", f"chmod 600 {path}")
    else:
        yield _answers(call)


def checkpoints(call: Call) -> Iterator[Finding]:
    """That the checkpoint a start would resume at is whole."""
    root = call.state_dir / "checkpoints"
    kept = directories(root)
    try:
        resumed = current(root)
    except IntegrityError as error:
        yield Finding(
            "checkpoints", "fail", str(error), "restore it: it names where a start resumes"
        )
        return
    if resumed is None:
        yield _never_current(len(kept))
        return
    path = next((one for one in kept if int(one.name) == resumed), None)
    problems = ["is missing"] if path is None else releases.problems(path)
    said = f"{resumed:06d} {'verified' if not problems else '; '.join(problems)}, {len(kept)} kept"
    fix = (
        ""
        if not problems
        else "a start falls back to its nearest good ancestor by itself; look at the disk"
    )
    yield Finding("checkpoints", "fail" if problems else "ok", said, fix)
    aside = sorted(one.name for one in root.glob("*.bad"))
    if aside:
        yield Finding("set aside", "warn", ", ".join(aside), "look at them, then delete them")


def _never_current(num_kept: int) -> Finding:
    if not num_kept:
        return Finding("checkpoints", "ok", "none yet")
    fix = "restore CURRENT before the next start, which would begin afresh and remove them"
    return Finding("checkpoints", "fail", f"{num_kept} kept, but CURRENT is gone", fix)


def _answers(call: Call) -> Finding:
    begin = time.monotonic()
    try:
        client.call(call.state_dir, "tasks", {}, ANSWER_S)
    except DaemonError as error:
        return Finding("control", "fail", str(error), "read its log; kill -9 is safe")
    return Finding(
        "control", "ok", f"mode 600, answers in {(time.monotonic() - begin) * 1e3:.0f} ms"
    )


def _threads(call: Call) -> int:
    """Threads of the last checkpoint's build; before the first one what a daemon takes by default."""
    try:
        resumed = current(call.state_dir / "checkpoints")
        path = call.state_dir / "checkpoints" / f"{resumed or 0:06d}"
        return int(releases.manifest(path)["build"]["threads"])
    except (IntegrityError, KeyError, TypeError):
        return DEFAULT_THREADS


def _fsync_s(directory: Path) -> float:
    took: list[float] = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(5):
            begin = time.monotonic()
            file.write(b"\0" * 4096)
            os.fsync(file.fileno())
            took.append(time.monotonic() - begin)
    return statistics.median(took)


def _is_locked(path: Path) -> bool:
    """Whether anybody holds the lock, from /proc/locks: trying it could get in a starting daemon's way."""
    if not path.exists():
        return False
    found = path.stat()
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    return any(
        f" {place} " in line
        for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """The first two parts of a version, to compare."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
