"""`mtld task`: what the model learns; changes are written into the log, so that they are ordered with the data."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from daemon.commands import sending as log
from daemon.commands.confirm import Confirm, confirmed
from daemon.commands.sending import Change, Sending
from daemon.commands.shared import Call, Timeout, task_names, verb
from daemon.commands.words import columns, fields
from daemon.errors import ConfigError, Refused
from daemon.keywords import TASK_KEYS
from daemon.strict import nearest

if TYPE_CHECKING:
    from daemon.types import Json, Vitals

app = typer.Typer(
    help="Declare, list, show, switch, update or retire tasks.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

New = Annotated[str, typer.Argument(help="Name of the task.")]
Name = Annotated[str, typer.Argument(help="Name of the task.", autocompletion=task_names)]
MODALITIES = ("image", "text", "table", "embedding")
KINDS = ("classification", "multilabel", "regression")
DECISIONS = ("balanced", "prior")
HEADINGS = ("TASK", "MODALITY", "KIND", "OUTPUTS", "REPLAY ROWS")


@app.command()
@verb(log=True, options=Sending)
def add(
    call: Call,
    sending: Sending,
    name: New,
    modality: Annotated[str, typer.Option(help="image, text, table or embedding.")],
    kind: Annotated[
        str, typer.Option(help="classification, multilabel or regression.")
    ] = "classification",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another field, KEY=VALUE (value in JSON); may be repeated."),
    ] = None,
) -> None:
    """Declare a task. Its place in the log decides which events may name it: those that come after.

    For example: mtld task add fashion --modality image --set input_shape=[28,28] --set holdout=0.1
    """
    spec: Json = {
        "modality": _one_of("--modality", modality, MODALITIES),
        "kind": _one_of("--kind", kind, KINDS),
    }
    spec |= settings(setting or [])
    change = Change(
        "mtl.task.add.v1",
        name,
        f"task {name} declared",
        spec,
        lambda producer: producer.add_task(name=name, **spec),
        lambda seen: name in log.names(seen),
    )
    log.send(call, sending, change)


@app.command("list")
@verb()
def list_(call: Call) -> None:
    """List the tasks the daemon knows, as of its last vitals; * marks the one in focus."""
    seen = log.seen(call)
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
    seen = log.seen(call)
    scored: Json = cast("Json", seen.evaluation.get("tasks") or {}).get(name) or {}
    found: Json = _known(seen, name) | ({"evaluation": scored} if scored else {})
    call.show(found, lambda: list(fields(found)))


@app.command()
@verb(log=True, options=Sending)
def switch(
    call: Call,
    sending: Sending,
    name: Name,
    phase: Annotated[
        str | None, typer.Option(help="Name of the stretch of the stream that begins here.")
    ] = None,
) -> None:
    """Begin a phase: freeze the teacher, score every hold-out, move the focus to this task.

    A switch to the task in focus with a new phase marks a boundary inside it.
    """
    change = Change(
        "mtl.task.switch.v1",
        name,
        f"switch to {name}",
        {} if phase is None else {"phase": phase},
        lambda producer: producer.switch(name, phase),
        lambda seen: (seen.task, seen.phase) == (name, phase),
    )
    log.warn_unknown(call, name)
    log.send(call, sending, change)


@app.command()
@verb(log=True, options=Sending)
def update(  # noqa: PLR0913  (an option for each field that may change)
    call: Call,
    sending: Sending,
    name: Name,
    share: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="Its part of a replay draw.")
    ] = None,
    min_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Its least part of a replay draw.")
    ] = None,
    loss_weight: Annotated[
        float | None, typer.Option(min=0, max=1e6, help="Factor of its loss.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, max=1, help="Fall of its score that is accepted.")
    ] = None,
    decision: Annotated[
        str | None, typer.Option(help="How it answers: balanced, or prior (the most probable).")
    ] = None,
) -> None:
    """Change how much a task counts, or how it answers, from its place in the log on. What is not named stays as it is.

    For example: mtld task update fashion --loss-weight 2 --wait
    """
    given = {
        "share": share, "min_share": min_share, "loss_weight": loss_weight, "tolerance": tolerance,
    }  # fmt: skip
    changes: Json = {key: _number(key, value) for key, value in given.items() if value is not None}
    if decision is not None:
        changes["decision"] = _one_of("--decision", decision, DECISIONS)
    if not changes:
        raise ConfigError(
            "nothing to change: give --share, --min-share, --loss-weight, --tolerance or --decision"
        )
    change = Change(
        "mtl.task.update.v1",
        name,
        f"task {name} changed",
        changes,
        lambda producer: producer.update_task(name, **changes),
        lambda seen: name in log.names(seen) and changes.items() <= _known(seen, name).items(),
    )
    log.warn_unknown(call, name)
    log.send(call, sending, change)


@app.command()
@verb(log=True, options=Sending)
def retire(call: Call, sending: Sending, name: Name, confirm: Confirm = None) -> None:
    """Forget a task for good: its head, its stored rows, its hold-outs. Published snapshots keep it.

    Asks for the task's name, or takes it from --confirm; where nobody can be asked it refuses with exit code 7.
    """
    log.warn_unknown(call, name)
    if not sending.dry_run:
        confirmed(f"retiring deletes what the model knows of task {name}", name, confirm)
    change = Change(
        "mtl.task.retire.v1",
        name,
        f"task {name} retired",
        {},
        lambda producer: producer.retire_task(name),
        lambda seen: name not in log.names(seen),
    )
    log.send(call, sending, change)


@app.command()
@verb()
def accept(call: Call, name: Name, timeout_s: Timeout = 10.0) -> None:
    """Take a task's present level as its measure, for guard and gate: the world changed, and lower scores are right.

    The guard compares with the next evaluation from then on, and the gate does not hold the task's fall against the next
    snapshot. Other tasks are judged as before. If the rows are wrong instead, see `mtld rollback`.
    """
    call.ask(
        "accept",
        {"task": name},
        timeout_s,
        lambda reply: [
            f"{reply['task']} is measured by its present level from the next evaluation on"
        ],
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
        found[key] = _value(pair, value)
    return found


def _value(pair: str, text: str) -> Any:
    def refuse(_: str) -> NoReturn:
        raise ConfigError(f"--set is {pair!r}; a number must be finite")

    def number(digits: str) -> float:
        found = float(digits)
        return found if isfinite(found) else refuse(digits)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=number)
    except (ValueError, RecursionError):
        return text


def _number(key: str, value: float) -> float:
    if not isfinite(value):  # NaN passes a range
        raise ConfigError(f"--{key.replace('_', '-')} is {value}; it must be a finite number")
    return value


def _known(seen: Vitals, name: str) -> Json:
    """What the vitals say of a task; Refused with the nearest name where they know none of this name."""
    for task in seen.tasks:
        if task["name"] == name:
            return task
    hint = nearest(name, log.names(seen)) if seen.tasks else "no task is declared yet"
    raise Refused(f"no task {name!r}: {hint}")


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"{flag} is {value!r}: {nearest(value, known)}")
    return value
