"""`mtld tail`: what happened, as the daemon told its journal."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from daemon import finite
from daemon.commands.shared import Call, Output, verb
from daemon.commands.words import hang, plain, printable

if TYPE_CHECKING:
    from daemon.journal import Journal, Line


@verb(log=True)
def tail(
    call: Call,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=10_000, help="How many of the newest lines.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only lines of this kind, such as task_switched.")
    ] = None,
) -> None:
    """Print the newest journal lines: switches, regressions, losses, snapshots, pauses, and what was decided.

    With -o json one array, or with --follow one object a line.
    """
    from daemon.journal import Journal  # imports redis, which the other verbs do without

    url, namespace = call.log()
    journal = Journal.open(url, namespace, password_file=call.secret())
    try:
        found = journal.newest(count)
        shown = [line for line in found if kind in {None, line.kind}]
        if not follow:
            call.show(
                [_told(line) for line in shown],
                lambda: [one for line in shown for one in _line(line)] or ["no line yet"],
            )
            return
        _write(call, shown)
        _follow(call, journal, found[-1].id if found else "0-0", kind)
    except KeyboardInterrupt:
        pass  # the way to end --follow, not a failure
    finally:
        journal.close()


def _follow(call: Call, journal: Journal, last: str, kind: str | None) -> None:
    while True:
        for line in journal.after(last):
            last = line.id
            if kind in {None, line.kind}:
                _write(call, [line])


def _write(call: Call, found: list[Line]) -> None:
    for line in found:
        as_json = call.output is Output.json
        lines = [finite.dumps(_told(line))] if as_json else map(printable, _line(line))
        sys.stdout.write("".join(f"{one}\n" for one in lines))
    sys.stdout.flush()


def _told(line: Line) -> dict[str, object]:
    """The line with its details as JSON; details that are none stay text."""
    try:
        return {**asdict(line), "detail": finite.loads(line.detail or "{}")}
    except ValueError:
        return asdict(line)


def _line(line: Line) -> list[str]:
    return hang(f"{line.at[:19]}Z  {line.kind}  {plain(_told(line)['detail'])}", 22)
