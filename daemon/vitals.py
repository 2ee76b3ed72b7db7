"""The vitals file: the trainer writes how it is, by rename; `status` and others read it without asking the trainer."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, fields
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

_KNOWN = frozenset(one.name for one in fields(Vitals))


def now() -> str:
    """The stamp that vitals carry: RFC 3339, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age_s(stamp: str) -> float | None:
    """Seconds since a stamp, or None where it is empty or not a time."""
    try:
        then = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return (datetime.now(UTC) - then).total_seconds() if then.tzinfo else None


def write(path: Path, vitals: Vitals) -> None:
    """Replace the file whole. It is not fsynced: after a power cut it says nothing that is still true."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(finite.dumps(asdict(vitals), separators=(",", ":")), encoding="utf-8")
    temporary.replace(path)


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
    known = {key: value for key, value in cast("Json", found).items() if key in _KNOWN}
    return Vitals(**known)


def is_alive(vitals: Vitals) -> bool:
    """Whether the process that wrote these vitals still runs; one that took over its pid does not count."""
    if vitals.pid <= 0:
        return False
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
