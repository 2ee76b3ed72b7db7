"""`mtld evaluate`: how good the model is on what it never trained on, asked of the running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from daemon import vitals
from daemon.commands import scorecard
from daemon.commands.scores import NAME, SOURCES, number
from daemon.commands.shared import Call, Timeout, verb
from daemon.commands.words import ago, columns, fit, hang, several
from daemon.errors import ConfigError
from daemon.standing import sources
from daemon.strict import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from daemon.types import Json

TASKS = ("TASK", "ROWS", "SCORE", "MACRO", "WORST CLASS")
PARTS = ("PART", "NOW", "BEST", "FORGOTTEN", "FLIPPED")
PART = 36  # letters of a part's name that a table has room for
_OVERALL = (("average_accuracy", "average accuracy"), ("forgetting", "forgetting"), ("bwt", "BWT"))


@verb()
def evaluate(
    call: Call,
    task: Annotated[
        list[str] | None, typer.Argument(help="Only these tasks, class by class (default: all).")
    ] = None,
    timeout_s: Timeout = 60.0,
) -> None:
    """Score every task's held-out rows now: between two steps, on the weights of that moment, changing nothing.

    Status and page go on showing the last evaluation of the log, one every `evaluate.every_s`.

    Below the scores: average accuracy, forgetting and backward transfer (BWT) of the accuracy matrix, and every part
    (a task's rows of one phase) with its best score at the last 32 switches and its rows that flipped: those that
    are wrong now and were right at the last switch, and the other way round.

    Of a task that is named: its classes, what it takes for what, its calibration, its sources. -o json has all.
    """
    named = task or []
    args: Json = {"tasks": named} if named else {}
    call.ask("evaluate", args, timeout_s, lambda reply: list(_told(reply, named)))


def _told(reply: Json, only: list[str]) -> Iterator[str]:
    scores = cast("Json", reply["scores"])
    for name in only:
        if name not in scores:
            raise ConfigError(f"no held-out rows of {name!r}: {nearest(name, scores)}")
    yield fit(f"step {reply['step']:,}: {_numbers(reply['matrix'], _OVERALL)}")
    if not scores:
        yield "no rows are held out yet"
        return
    chosen = only or list(scores)
    yield ""
    yield from columns([_task(reply, name) for name in chosen], TASKS)
    parts = [row for row in _parts(reply) if row[0].partition("/")[0] in chosen]
    if parts:
        yield ""
        yield from columns([(row[0][:PART], *row[1:]) for row in parts], PARTS)
    for name in only:
        yield from _one(reply, name)
    yield ""
    yield from hang(f"nothing was changed; {_logged(reply.get('logged') or {})}", 0)


def _task(reply: Json, name: str) -> tuple[object, ...]:
    """A task's line: its rows, the metric it is judged by, and the class that is known worst."""
    scores = cast("Json", reply["scores"][name])
    metric = next(iter(scores))
    return (
        name[:NAME],
        cast("Json", reply.get("rows") or {}).get(name),
        f"{metric} {number(scores[metric])}",
        number(scores.get("macro_recall")),
        scorecard.worst(_of(reply, "scorecards", name)),
    )


def _parts(reply: Json) -> Iterator[tuple[str, ...]]:
    """Each part's score now, its best in the rows before, the fall from there, and the rows that flipped."""
    rows = cast("list[Json]", reply["matrix"]["rows"])
    if not rows:
        return
    for part, now in cast("Json", rows[-1]["parts"]).items():
        before = [row["parts"][part] for row in rows[:-1] if part in row["parts"]]
        best = max(before, default=None)
        fall = None if best is None else best - now
        flipped = _of(reply, "flipped", part)
        words = f"{flipped['worse']} worse, {flipped['better']} better" if flipped else "-"
        yield part, number(now), number(best), number(fall), words


def _one(reply: Json, name: str) -> Iterator[str]:
    """All of one task: its metrics, its scorecard, who sent its rows, and what flipped."""
    scores = cast("Json", reply["scores"][name])
    yield ""
    yield from scorecard.line(name, _numbers(scores, [(key, key) for key in scores]))
    yield from scorecard.told(_of(reply, "scorecards", name))
    yield from _sources(cast("Json", reply.get("senders") or {}), name)
    yield from _flips(cast("dict[str, Json]", reply.get("flipped") or {}), name)


def _sources(senders: Json, name: str) -> Iterator[str]:
    """The score of the newest rows each sent, before they were learned; the lowest first."""
    found = sources(senders, name)
    if found:
        yield ""
    for place, (source, value, rows) in enumerate(found[: 2 * SOURCES]):
        words = f"{source[:40]} {number(value)} of its newest {several(rows, 'row')}"
        yield from scorecard.line("" if place else "sources", words)
    if len(found) > 2 * SOURCES:
        yield from scorecard.line("", f"and {len(found) - 2 * SOURCES} more: `-o json`")


def _flips(flipped: dict[str, Json], name: str) -> Iterator[str]:
    found = [(part, one) for part, one in flipped.items() if one["task"] == name]
    if found:
        yield ""
    for place, (part, one) in enumerate(found):
        words = (
            f"{part}: of the {several(one['rows'], 'row')} that were there at step {one['step']:,}, "
            f"{one['worse']:,} answered worse now and {one['better']:,} better"
        )
        yield from scorecard.line("" if place else "flipped", words)


def _logged(found: Json) -> str:
    """Where the numbers come from that are shown elsewhere."""
    if not found.get("at"):
        return "status and page have no evaluation of the log yet"
    age = ago(vitals.age_s(str(found["at"])))
    return f"status and page show the last evaluation of the log: step {found['step']:,}, {age} ago"


def _numbers(found: Json, named: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{told} {number(found[key])}" for key, told in named)


def _of(reply: Json, key: str, name: str) -> Json:
    return cast("Json", cast("Json", reply.get(key) or {}).get(name) or {})
