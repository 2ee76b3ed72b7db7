"""`mtld dead`: the events that were refused, why, and how to send them again."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.commands.shared import Call, columns, fit, note, size, verb
from daemon.errors import ConfigError, Refused

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from daemon.deadletter import DeadLetter, DeadLetters
    from daemon.types import Entry, Json

app = typer.Typer(
    help="List, show or replay refused events.", no_args_is_help=True, rich_markup_mode=None
)

Count = Annotated[
    int, typer.Option("--count", "-n", min=1, max=10_000, help="How many, newest first.")
]
Letter = Annotated[str, typer.Argument(help="Id of the dead letter, as `mtld dead list` shows it.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Only those refused for this reason.")]
HEADINGS = ("ID", "REASON", "TASK", "ROWS", "HOP", "MESSAGE")
SHOWN_BYTES = 512  # of a payload; enough to see what it is


@app.command("list")
@verb(log=True)
def list_(call: Call, count: Count = 20, reason: Reason = None) -> None:
    """List refused events, newest first, each with its stable reason code and what was found."""
    with _open(call) as letters:
        found = _chosen(letters, count, reason)
        kept, evicted = letters.totals()
    call.show([_told(letter) for letter in found], lambda: _table(found))
    if kept > len(found) or evicted:
        note(f"{len(found)} of {kept} kept; {evicted} older ones were dropped to make room")


@app.command()
@verb(log=True)
def show(call: Call, letter_id: Letter) -> None:
    """Show one refused event: why, who sent it, and the start of its payload while the log still has it."""
    with _open(call) as letters:
        letter = letters.letter(_checked(letter_id))
        entry = letters.original(letter)
    found = {**_told(letter), "original": None if entry is None else _original(entry)}
    call.show(found, lambda: list(_lines(found)))


@app.command()
@verb(log=True)
def replay(
    call: Call,
    letter_id: Annotated[
        list[str] | None, typer.Argument(help="Ids of dead letters; or --all.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that are kept (with --reason: of that reason).")
    ] = False,
    reason: Reason = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")
    ] = False,
) -> None:
    """Append refused events to the log again, once their cause is mended; at most 3 times each.

    They keep their ids, so one that was accepted meanwhile is not trained on twice.
    """
    if bool(letter_id) == every:
        raise ConfigError(
            "name the dead letters to replay, or say --all; `mtld dead list` shows them"
        )
    with _open(call) as letters:
        chosen = (
            [found.letter_id for found in reversed(_chosen(letters, 10_000, reason))]
            if every
            else letter_id or []
        )
        results = [_replayed(letters, _checked(one), dry_run) for one in chosen]
    call.show(
        results,
        lambda: [fit(f"{one['letter']}  {one['entry'] or one['error']}") for one in results],
    )
    failed = [one for one in results if one["error"]]
    if failed:
        note(f"{len(failed)} of {len(results)} were not replayed")
        raise typer.Exit(Refused.exit_code)


def _replayed(letters: DeadLetters, letter_id: str, dry_run: bool) -> Json:
    try:
        if not dry_run:
            return {"letter": letter_id, "entry": letters.replay(letter_id), "error": None}
        there = letters.original(letters.letter(letter_id)) is not None
    except Refused as error:
        return {"letter": letter_id, "entry": None, "error": str(error)}
    return {
        "letter": letter_id,
        "entry": "would be sent" if there else None,
        "error": None if there else "not in the log any more",
    }


@contextmanager
def _open(call: Call) -> Generator[DeadLetters]:
    from daemon.deadletter import DeadLetters  # imports redis, which the other verbs do without

    url, namespace = call.log()
    letters = DeadLetters.open(url, namespace, password_file=call.secret())
    try:
        yield letters
    finally:
        letters.close()


def _chosen(letters: DeadLetters, count: int, reason: str | None) -> list[DeadLetter]:
    if reason is None:
        return letters.newest(count)
    return [letter for letter in letters.newest(10_000) if letter.fields.get("reason") == reason][
        :count
    ]


def _checked(letter_id: str) -> str:
    if not re.fullmatch(r"\d{1,20}-\d{1,20}", letter_id):
        raise ConfigError(
            f"{letter_id!r} is no id of a dead letter; `mtld dead list` shows them, such as 1700000000000-0"
        )
    return letter_id


def _told(letter: DeadLetter) -> Json:
    return {"letter": letter.letter_id, **letter.fields}


def _original(entry: Entry) -> Json:
    data = entry.fields.get(b"data", b"")
    fields = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")[:256]
        for name, value in entry.fields.items()
        if name != b"data"
    }
    return {
        "fields": fields,
        "bytes": len(data),
        "start": data[:SHOWN_BYTES].decode("utf-8", "replace"),
    }


def _table(found: list[DeadLetter]) -> list[str]:
    rows: list[tuple[Any, ...]] = [
        (
            one.letter_id,
            *(
                one.fields.get(key) or None
                for key in ("reason", "subject", "rows", "hop", "message")
            ),
        )
        for one in found
    ]
    return columns(rows, HEADINGS) if rows else ["no dead letter"]


def _lines(found: Json) -> Iterator[str]:
    for key, value in found.items():
        if key != "original":
            yield f"{key:<11} {value}"
    original = found["original"]
    if original is None:
        yield f"{'payload':<11} no longer in the log; it can only be pushed again from where it came"
        return
    yield f"{'payload':<11} {size(original['bytes'])}: {original['start'][:SHOWN_BYTES]!r}"
    yield f"{'do next':<11} mend the cause, then `mtld dead replay {found['letter']}`"
