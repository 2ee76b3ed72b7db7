"""Sends one task event and, where asked, waits until the running daemon has applied it; or only says what it would send."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import typer

from daemon import finite
from daemon import vitals as vitals_file
from daemon.commands.shared import Call, DryRun, Timeout
from daemon.commands.words import hang, note
from daemon.errors import ConfigError, NotRunning, Refused, TimedOut
from daemon.strict import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.producer import Producer, Receipt
    from daemon.types import Json, Vitals

POLL_S = 0.1

Wait = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Return when the running daemon has applied it; exit 6 if it has not in time.",
    ),
]


@dataclass(frozen=True, slots=True)
class Sending:
    """How a task event is sent."""

    dry_run: DryRun = False
    wait: Wait = False
    timeout_s: Timeout = 30.0


@dataclass(frozen=True, slots=True)
class Change:
    """One task event: what it says, how a producer sends it, and which vitals show that it took effect."""

    kind: str
    task: str
    told: str  # for people: task mood declared
    data: Json
    write: Callable[[Producer], Receipt]
    shows: Callable[[Vitals], bool]


def send(call: Call, sending: Sending, change: Change) -> None:
    """Write the event, wait if asked, and print what became of it."""
    url, namespace = call.log()
    result: Json = {"task": change.task, "type": change.kind, "data": change.data}
    if sending.dry_run:
        line = f"would write to stream {namespace}: {change.told}; {change.kind} {finite.dumps(change.data)}"
        call.show({**result, "entry": None, "applied": None}, lambda: hang(line, 4))
        return
    before = _watched(call, namespace) if sending.wait else None
    entry = _written(call, (url, namespace), sending, change)
    applied = before is not None and _await(call, sending.timeout_s, change, entry, before)
    then = "applied" if applied else f"in the log as {entry}, takes effect in its turn"
    call.show(
        {**result, "entry": entry, "applied": applied or None}, lambda: [f"{change.told}: {then}"]
    )
    if not applied:
        note("add --wait to return when it is applied")


def seen(call: Call) -> Vitals:
    """The daemon's vitals; NotRunning where none were ever written."""
    found = vitals_file.read(call.state_dir / vitals_file.NAME)
    if found is None:
        raise NotRunning(
            f"no daemon has written {call.state_dir / vitals_file.NAME}; name its directory with --state"
        )
    return found


def names(vitals: Vitals) -> list[str]:
    """The tasks that the daemon knew when it wrote its vitals."""
    return [str(task["name"]) for task in vitals.tasks]


def warn_unknown(call: Call, task: str) -> None:
    """Say so where the daemon does not know a task; it may be declared in the log and not read yet, so no more."""
    found = vitals_file.read(call.state_dir / vitals_file.NAME)
    if found is not None and task not in names(found):
        hint = nearest(task, names(found)) if found.tasks else "it knows none yet"
        note(f"the daemon knows no task {task!r} so far: {hint}")


def _watched(call: Call, namespace: str) -> Vitals:
    """The vitals before anything is sent; they must be those of a daemon that reads this stream."""
    found = seen(call)
    if found.namespace and found.namespace != namespace:
        raise ConfigError(
            f"--wait watches the daemon of {call.state_dir}, which reads stream {found.namespace!r},"
            f" not {namespace!r}; correct --state or --namespace"
        )
    return found


def _written(call: Call, log: tuple[str, str], sending: Sending, change: Change) -> str:
    from daemon.producer import (
        Producer,  # imports redis and numpy, which the other verbs do without
    )

    producer = Producer(*log, timeout_s=sending.timeout_s, password_file=call.secret())
    with producer:
        return change.write(producer).entry_id


def _await(call: Call, timeout_s: float, change: Change, entry: str, before: Vitals) -> bool:
    """True once the daemon has read past the entry and did not refuse it."""
    from daemon.identity import id_tuple

    deadline = time.monotonic() + timeout_s
    while id_tuple((now := seen(call)).watermark) < id_tuple(entry):
        if not vitals_file.is_alive(now):
            raise NotRunning(
                "it is in the log, but no daemon runs to apply it; start one with `mtld run`"
            )
        if time.monotonic() > deadline:
            raise TimedOut(
                f"it is in the log as {entry}, but not applied after {timeout_s:g} s; {_why(now)}"
            )
        time.sleep(POLL_S)
    if _dead(now) == _dead(before) or change.shows(now):
        return True
    letter = next((one for one in now.events if one.get("id") == entry and "reason" in one), None)
    if letter is not None:
        raise Refused(f"the daemon refused it, {letter['reason']}: {letter.get('message', '')}")
    raise Refused(
        "the daemon refused an event meanwhile, probably this one: `mtld dead list` says why"
    )


def _dead(vitals: Vitals) -> int:
    return int(cast("int", vitals.counters.get("dead_events", 0)))


def _why(vitals: Vitals) -> str:
    if vitals.state == "paused":
        return "the daemon is paused: `mtld resume`"
    return f"the daemon is {vitals.state}; see the lag in `mtld status`"
