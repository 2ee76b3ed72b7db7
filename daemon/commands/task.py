"""`mtld task`: what the model learns; changes are written into the log, so that they are ordered with the data."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon import vitals as vitals_file
from daemon.commands.shared import Call, Timeout, columns, fit, note, verb
from daemon.config import TASK_KEYS
from daemon.errors import ConfigError, NotRunning, Refused, TimedOut
from daemon.strict import nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.producer import Producer
    from daemon.types import Json, Vitals

app = typer.Typer(
    help="Declare, list, show, switch or retire tasks.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="Name of the task.")]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Return when the running daemon has applied it; exit 6 if it has not in time.",
    ),
]
MODALITIES = ("image", "text", "table", "embedding")
KINDS = ("classification", "multilabel", "regression")
HEADINGS = ("TASK", "MODALITY", "KIND", "OUTPUTS", "REPLAY ROWS")
POLL_S = 0.1


@app.command()
@verb(log=True)
def add(
    call: Call,
    name: Name,
    modality: Annotated[str, typer.Option(help="image, text, table or embedding.")],
    kind: Annotated[
        str, typer.Option(help="classification, multilabel or regression.")
    ] = "classification",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another field, KEY=VALUE (value in JSON); may be repeated."),
    ] = None,
    wait: Wait = False,
    timeout_s: Timeout = 30.0,
) -> None:
    """Declare a task. Its place in the log decides which events may name it: those that come after.

    For example: mtld task add fashion --modality image --set input_shape=[28,28] --set holdout=0.1
    """
    spec = {
        "modality": _one_of("--modality", modality, MODALITIES),
        "kind": _one_of("--kind", kind, KINDS),
    }
    spec |= settings(setting or [])
    _write(call, timeout_s, lambda producer: producer.add_task(name=name, **spec))
    waited = _await(call, wait, timeout_s, lambda seen: name in _names(seen))
    _say(
        call, {"task": name, "sent": "mtl.task.add.v1", "applied": waited}, f"task {name} declared"
    )


@app.command("list")
@verb()
def list_(call: Call) -> None:
    """List the tasks the daemon knows, as of its last vitals; * marks the one in focus."""
    seen = _vitals(call)
    rows = [
        (
            f"{task['name']}{' *' if task['name'] == seen.task else ''}",
            *map(task.get, ("modality", "kind", "columns", "replay_rows")),
        )
        for task in seen.tasks
    ]
    call.show(
        seen.tasks,
        lambda: (
            columns(rows, HEADINGS) if rows else ["no task yet; declare one with `mtld task add`"]
        ),
    )


@app.command()
@verb()
def show(call: Call, name: Name) -> None:
    """Show all that is known of one task: its settings, classes, rows, and hold-out scores."""
    seen = _vitals(call)
    _known(seen, name)
    found = next(task for task in seen.tasks if task["name"] == name)
    call.show(found, lambda: [fit(f"{key:<13} {value}") for key, value in found.items()])


@app.command()
@verb(log=True)
def switch(
    call: Call,
    name: Name,
    phase: Annotated[
        str | None, typer.Option(help="Name of the stretch of the stream that begins here.")
    ] = None,
    wait: Wait = False,
    timeout_s: Timeout = 30.0,
) -> None:
    """Begin a phase: freeze the teacher, score every hold-out, move the focus to this task.

    A switch to the task in focus with a new phase marks a boundary inside it.
    """
    _write(call, timeout_s, lambda producer: producer.switch(name, phase))
    waited = _await(call, wait, timeout_s, lambda seen: (seen.task, seen.phase) == (name, phase))
    sent = {"task": name, "phase": phase, "sent": "mtl.task.switch.v1", "applied": waited}
    _say(call, sent, f"switch to {name} written")


@app.command()
@verb(log=True)
def retire(
    call: Call,
    name: Name,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask; needed where nobody can answer.")
    ] = False,
    wait: Wait = False,
    timeout_s: Timeout = 30.0,
) -> None:
    """Forget a task for good: its head, its stored rows, its hold-outs. Published snapshots keep it."""
    if not yes:
        raise Refused(
            f"retiring deletes what the model knows of {name!r}; say --yes if that is meant"
        )
    _write(call, timeout_s, lambda producer: producer.retire_task(name))
    waited = _await(call, wait, timeout_s, lambda seen: name not in _names(seen))
    _say(
        call,
        {"task": name, "sent": "mtl.task.retire.v1", "applied": waited},
        f"task {name} retired",
    )


def settings(pairs: list[str]) -> Json:
    """`KEY=VALUE` words as task settings; a value that is not JSON is text."""
    found: Json = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set is {pair!r}; write KEY=VALUE")
        if key not in TASK_KEYS or key == "name":
            raise ConfigError(f"--set names {key!r}: {nearest(key, set(TASK_KEYS) - {'name'})}")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def _write(call: Call, timeout_s: float, send: Callable[[Producer], object]) -> None:
    from daemon.producer import (
        Producer,  # imports redis and numpy, which the other verbs do without
    )

    url, namespace = call.log()
    with Producer(
        url, namespace=namespace, timeout_s=timeout_s, password_file=call.secret()
    ) as producer:
        send(producer)
        producer.flush()


def _await(
    call: Call, wait: bool, timeout_s: float, applied: Callable[[Vitals], bool]
) -> bool | None:
    """True once vitals show the effect; None when nobody wanted to wait."""
    if not wait:
        return None
    deadline = time.monotonic() + timeout_s
    dead = _dead(_vitals(call))
    while not applied(seen := _vitals(call)):
        if not vitals_file.is_alive(seen):
            raise NotRunning(
                "it is in the log, but no daemon runs to apply it; start one with `mtld run`"
            )
        if _dead(seen) > dead:
            raise Refused(
                "the daemon refused an event meanwhile, probably this one: `mtld dead list` says why"
            )
        if time.monotonic() > deadline:
            raise TimedOut(
                f"it is in the log, but not applied after {timeout_s:g} s; see the lag in `mtld status`"
            )
        time.sleep(POLL_S)
    return True


def _dead(seen: Vitals) -> int:
    return int(seen.counters.get("dead_events", 0))


def _vitals(call: Call) -> Vitals:
    seen = vitals_file.read(call.state_dir / vitals_file.NAME)
    if seen is None:
        raise NotRunning(
            f"no daemon has written {call.state_dir / vitals_file.NAME}; name its directory with --state"
        )
    return seen


def _names(seen: Vitals) -> set[str]:
    return {str(task["name"]) for task in seen.tasks}


def _known(seen: Vitals, name: str) -> None:
    if name not in _names(seen):
        hint = nearest(name, _names(seen)) if seen.tasks else "no task is declared yet"
        raise Refused(f"no task {name!r}: {hint}")


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"{flag} is {value!r}: {nearest(value, known)}")
    return value


def _say(call: Call, result: dict[str, Any], line: str) -> None:
    call.show(
        result,
        lambda: [f"{line}; {'applied' if result['applied'] else 'it takes effect in its turn'}"],
    )
    if not result["applied"]:
        note("add --wait to return when it is applied")
