"""The vitals file: the trainer writes how it is, by rename; `status` and others read it without asking the trainer."""

from __future__ import annotations

import errno
import math
import os
import time
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from daemon import finite
from daemon.types import Json, Vitals

NAME = "vitals.json"
MAX_BYTES = (
    4 * 1024 * 1024
)  # a larger file is not ours; ours has bounded lists and stays below 100 KiB
CLOCK_SLACK_S = 2.0  # process start times have a resolution of 10 ms, wall clocks are slewed
BLOCK = 16_384  # bytes; the file grows and is padded by so many
FRESH_S = 30.0  # vitals younger than this prove a process that cannot be seen from here, in another container

_NAMES = tuple(one.name for one in fields(Vitals))
_BLANK = Vitals()


def now() -> str:
    """The stamp that vitals carry: RFC 3339, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_s(stamp: str) -> float | None:
    """A stamp as seconds since 1970, or None where it is empty or not a time."""
    try:
        then = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return then.timestamp() if then.tzinfo else None


def age_s(stamp: str) -> float | None:
    """Seconds since a stamp, or None where it is empty or not a time."""
    then = unix_s(stamp)
    return None if then is None else datetime.now(UTC).timestamp() - then


def write(path: Path, vitals: Vitals) -> None:
    """Replace the file whole. It is not fsynced: after a power cut it says nothing that is still true.

    The file that was replaced is kept and written over the next time, so a full disk does not silence the daemon.
    """
    told = {name: getattr(vitals, name) for name in _NAMES}  # asdict would copy all of it first
    data = finite.dumps(told, separators=(",", ":")).encode()
    spare, replaced = path.with_name(f".{path.name}.spare"), path.with_name(f".{path.name}.old")
    with spare.open("r+b" if spare.exists() else "wb", buffering=0) as file:
        size = max(BLOCK * math.ceil(len(data) / BLOCK), os.fstat(file.fileno()).st_size)
        if file.write(data.ljust(size)) != size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(spare))
    replaced.unlink(missing_ok=True)
    if path.exists():
        replaced.hardlink_to(path)
    spare.replace(path)
    if replaced.exists():
        replaced.replace(spare)


def read(path: Path) -> Vitals | None:
    """What was last written, or None where there is no file or it is not a vitals file; newer fields are dropped."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        found: object = finite.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    told = cast("Json", found)
    known = {name: told[name] for name in _NAMES if name in told}
    return Vitals(**known) if all(_fits(name, value) for name, value in known.items()) else None


def pid_namespace() -> str:
    """Where the pids that this process sees mean something; empty where nobody says so."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _fits(name: str, value: object) -> bool:
    """Whether a value has the type of that field, so that nobody who reads it must look again."""
    blank: object = getattr(_BLANK, name)
    if blank is None:
        return value is None or isinstance(value, str | int | float)
    is_number = isinstance(blank, float) and isinstance(value, int)
    return is_number or isinstance(value, type(blank))


def is_alive(vitals: Vitals) -> bool:
    """Whether the process that wrote these vitals still runs; one that took over its pid does not count."""
    if vitals.pid <= 0:
        return False
    if vitals.pid_namespace and vitals.pid_namespace != pid_namespace():
        return _is_fresh(vitals)
    try:
        os.kill(vitals.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it runs, as another user
    running_s, since_written_s = _running_s(vitals.pid), age_s(vitals.written_at)
    if running_s is None or since_written_s is None:
        return running_s is not None
    return running_s + CLOCK_SLACK_S >= since_written_s


def _is_fresh(vitals: Vitals) -> bool:
    """Whether they were written lately, or the loop has said that it will be busy until later than now."""
    written_s, late_s = age_s(vitals.written_at), age_s(vitals.busy_until)
    is_busy = bool(vitals.busy) and late_s is not None and late_s <= 0
    return is_busy or (written_s is not None and written_s <= FRESH_S)


def _running_s(pid: int) -> float | None:
    """How long a process has run, from field 22 of /proc/PID/stat; None for a zombie or no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    if state in {"Z", "X"}:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(rest[18]) / os.sysconf("SC_CLK_TCK")
