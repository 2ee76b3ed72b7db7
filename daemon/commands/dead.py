"""`mtld dead`: the events that were refused, why, and how to send them again, keep them elsewhere or be rid of them."""

from __future__ import annotations

import base64
import re
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon import finite, vitals
from daemon.commands.confirm import Confirm, confirmed
from daemon.commands.pause import seconds
from daemon.commands.shared import Call, DryRun, task_names, verb
from daemon.commands.words import columns, fields, fit, hang, note, several, size
from daemon.errors import ConfigError, Refused

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from daemon.deadletter import DeadLetter, DeadLetters
    from daemon.types import Entry, Json

app = typer.Typer(
    help="List, show, replay, export or purge refused events.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Count = Annotated[
    int, typer.Option("--count", "-n", min=1, max=10_000, help="How many, newest first.")
]
Letter = Annotated[str, typer.Argument(help="Id of the dead letter, as `mtld dead list` shows it.")]
HEADINGS = ("ID", "REASON", "TASK", "ROWS", "HOP")
KEPT = 10_000  # dead letters that the server holds at most
SHOWN_BYTES = 512  # of a payload; enough to see what it is


@dataclass(frozen=True, slots=True)
class Which:
    """Which dead letters are meant; every filter that is given must fit."""

    reason: Annotated[
        str | None, typer.Option("--reason", help="Only those refused for this reason.")
    ] = None
    task: Annotated[
        str | None,
        typer.Option("--task", "-t", autocompletion=task_names, help="Only those of this task."),
    ] = None
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="Only those refused longer ago: 90s, 30m, 2h, 7d."),
    ] = None

    def of(self, letters: DeadLetters) -> list[DeadLetter]:
        """All that fit, newest first."""
        age_s = seconds(self.older_than, "--older-than") if self.older_than else 0.0
        return [one for one in letters.newest(KEPT) if self._fits(one.fields, age_s)]

    def _fits(self, told: Any, age_s: float) -> bool:
        return (
            self.reason in {None, told.get("reason")}
            and self.task in {None, told.get("subject")}
            and (not age_s or (vitals.age_s(told.get("at", "")) or 0.0) >= age_s)
        )

    @property
    def is_any(self) -> bool:
        """Whether no filter is given."""
        return (self.reason, self.task, self.older_than) == (None, None, None)


@dataclass(frozen=True, slots=True)
class Chosen(Which):
    """Dead letters by their ids, or all that fit."""

    letter_id: Annotated[
        list[str] | None, typer.Argument(help="Ids of dead letters; or --all.")
    ] = None
    every: Annotated[bool, typer.Option("--all", help="All that are kept and fit the filters.")] = (
        False
    )

    def named(self) -> list[str]:
        """The ids that were typed; none where all are meant."""
        ids = self.letter_id or []
        if bool(ids) == self.every:
            raise ConfigError("name the dead letters, or say --all; `mtld dead list` shows them")
        if ids and not self.is_any:
            raise ConfigError("a filter goes with --all, not with ids; leave one of them out")
        return [_checked(one) for one in ids]


@app.command("list")
@verb(log=True, options=Which)
def list_(call: Call, which: Which, count: Count = 20) -> None:
    """List refused events, newest first, each with its stable reason code and what was found."""
    with _open(call) as letters:
        found = letters.newest(count) if which.is_any else which.of(letters)[:count]
        kept, gone = letters.totals()
    call.show([_told(letter) for letter in found], lambda: _table(found))
    if kept > len(found) or gone:
        note(f"{len(found)} of {kept} kept; {gone} more made room for newer ones or were purged")
    if found:
        note("`mtld dead show ID` shows one whole; mend the cause, then `mtld dead replay ID`")


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
@verb(log=True, options=Chosen)
def replay(call: Call, chosen: Chosen, dry_run: DryRun = False) -> None:
    """Append refused events to the log again, once their cause is mended; at most 3 times each.

    They keep their ids, so one that was accepted meanwhile is not trained on twice.
    """
    with _open(call) as letters:
        ids = chosen.named() or [one.letter_id for one in reversed(chosen.of(letters))]
        results = [_replayed(letters, one, dry_run) for one in ids]
    call.show(
        results,
        lambda: (
            [fit(f"{one['letter']}  {one['entry'] or one['error']}") for one in results]
            or ["no dead letter fits"]
        ),
    )
    failed = [one for one in results if one["error"]]
    if results and not dry_run:
        note(
            f"{several(len(results) - len(failed), 'event')} sent again; `mtld dead list` shows what is refused anew"
        )
    if failed:
        note(f"{len(failed)} of {len(results)} were not replayed")
        raise typer.Exit(Refused.exit_code)


@app.command()
@verb(log=True, options=Which)
def export(call: Call, which: Which) -> None:
    """Write refused events to stdout, oldest first, one JSON object a line: why, and the whole event to send again.

    `event` holds the fields of its entry by name; `data_base64` is its payload. It is null once the log has
    trimmed the event, so export before the oldest checkpoint is younger than it.
    """
    written = without = 0
    with _open(call) as letters:
        for letter in reversed(which.of(letters)):
            entry = letters.original(letter)
            line = {**_told(letter), "event": None if entry is None else _whole(entry)}
            sys.stdout.write(f"{finite.dumps(line)}\n")
            written, without = written + 1, without + (entry is None)
    lost = f"; of {without} of them the log no longer has the event" if without else ""
    note(f"{several(written, 'dead letter')} exported{lost}")


@app.command()
@verb(log=True, options=Chosen)
def purge(call: Call, chosen: Chosen, dry_run: DryRun = False, confirm: Confirm = None) -> None:
    """Delete dead letters for good; `mtld dead export` first keeps what they say. Their events stay in the log.

    Asks for the name of the stream, or takes it from --confirm; where nobody can be asked it refuses with exit
    code 7.
    """
    _, namespace = call.log()
    with _open(call) as letters:
        found = [letters.letter(one) for one in chosen.named()] or chosen.of(letters)
        if found and not dry_run:
            what = f"purging deletes {several(len(found), 'dead letter')} of stream {namespace}"
            confirmed(what, namespace, confirm)
        purged = 0 if dry_run else letters.purge([one.letter_id for one in found])
    reasons = Counter(one.fields.get("reason", "") for one in found)
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    result = {"chosen": len(found), "purged": purged, "reasons": dict(reasons)}
    count = several(len(found) if dry_run else purged, "dead letter")
    head = f"{'would purge' if dry_run else 'purged'} {count}"
    call.show(result, lambda: [f"{head}{f': {told}' if told else ''}"])


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
    told = {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")[:256]
        for name, value in entry.fields.items()
        if name != b"data"
    }
    return {
        "fields": told,
        "bytes": len(data),
        "start": data[:SHOWN_BYTES].decode("utf-8", "replace"),
    }


def _whole(entry: Entry) -> Json:
    """Every field of the entry; bytes that are not UTF-8 become the surrogates from which they can be had back."""
    told = {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in entry.fields.items()
        if name != b"data"
    }
    return {**told, "data_base64": base64.b64encode(entry.fields.get(b"data", b"")).decode()}


def _table(found: list[DeadLetter]) -> list[str]:
    """Two lines and more for each: a row of the table, and below it what was found, whole."""
    rows = [
        (
            one.letter_id,
            one.fields.get("reason"),
            one.fields.get("subject") or None,
            *(int(one.fields.get(key) or 0) for key in ("rows", "hop")),
        )
        for one in found
    ]
    if not rows:
        return ["no dead letter"]
    heading, *lines = columns(rows, HEADINGS)
    told = (
        hang(f"    {one.fields.get('source', '')}: {one.fields.get('message', '')}", 4)
        for one in found
    )
    return [
        heading,
        *(line for pair in zip(lines, told, strict=True) for line in (pair[0], *pair[1])),
    ]


def _lines(found: Json) -> Iterator[str]:
    original = found["original"]
    told = {key: value for key, value in found.items() if key != "original"}
    if original is None:
        told["payload"] = "no longer in the log; it can only be pushed again from where it came"
    else:
        told["payload"] = f"{size(original['bytes'])}: {original['start']!r}"
        told["do next"] = f"mend the cause, then `mtld dead replay {found['letter']}`"
    yield from fields(told)
