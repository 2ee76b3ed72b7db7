"""`mtld snapshot show`: what a published model says of itself, and what the gate said of it, task by task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from daemon import releases
from daemon.commands import scorecard
from daemon.commands.scores import NAME, number
from daemon.commands.shared import Call, verb
from daemon.commands.words import columns, fit, hang, plain, several, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import Json

Name = Annotated[str, typer.Argument(help="latest, previous, champion, a number, or v000123.")]
HEADINGS = ("TASK", "SCORE", "MACRO", "ECE", "ANSWERS", "WORST CLASS")
# What has lines of its own.
_APART = {"files", "version", "path", "scores", "verdict", "probabilities", "scorecards"}


@verb()
def show(call: Call, name: Name = "latest") -> None:
    """Show what a snapshot says of itself: its origin, its tasks' scores, the gate's verdict, its files.

    ECE is the error of its probabilities; ANSWERS says whether it decides as trained (balanced) or by what is most
    probable (prior). -o json is the whole manifest, with every task's classes, confusion and calibration.
    """
    release = releases.find(call.state_dir / "models", name)
    found = {
        **releases.manifest(release.path),
        "version": release.version,
        "path": str(release.path),
    }
    call.show(found, lambda: list(_told(found, release)))


def _told(found: Json, release: releases.Release) -> Iterator[str]:
    yield fit(f"{'path':<11} {release.path}")
    yield fit(f"{'aliases':<11} {', '.join(release.aliases) or '-'}")
    for key, value in found.items():
        if key not in _APART and value is not None:
            yield from hang(f"{key:<11} {plain(value)}", 12)
    for name, one in found["files"].items():
        yield fit(f"{'file':<11} {name}, {size(one['bytes'])}, sha256 {one['sha256'][:16]}…")
    yield from _verdict(cast("Json", found.get("verdict") or {}), release)
    tasks = [_task(found, name) for name in cast("Json", found.get("scores") or {})]
    if tasks:
        yield ""
        yield from columns(tasks, HEADINGS)


def _task(found: Json, name: str) -> tuple[object, ...]:
    """A task's line: what it scored, how far its probabilities are off, and its worst class."""
    scores = cast("Json", found["scores"][name] or {})
    metric = next(iter(scores), "")
    probable = _of(found, "probabilities", name)
    return (
        name[:NAME],
        f"{metric} {number(scores.get(metric))}".strip(),
        number(scores.get("macro_recall")),
        number(cast("Json", probable.get("ece") or {}).get("value")),
        probable.get("decision", "-"),
        scorecard.worst(_of(found, "scorecards", name)),
    )


def _verdict(verdict: Json, release: releases.Release) -> Iterator[str]:
    """The decision in words, then each task on the rows that it was decided on: those of the champion's time."""
    if not verdict:
        return
    against = verdict.get("against")
    against = "" if against is None else f", against {releases.directory_name(against)}"
    yield ""
    yield from hang(
        f"{'verdict':<11} {verdict.get('decision')}{against}: {verdict.get('reason')}", 12
    )
    tasks = cast("dict[str, Json]", verdict.get("tasks") or {})
    for name, one in tasks.items():
        yield from _judged(name, one)
    down = [name for name, one in tasks.items() if not one.get("is_within", True)]
    if verdict.get("decision") == "refused" and down:
        yield from _advice(down, release)


def _judged(name: str, one: Json) -> Iterator[str]:
    """What the gate made of one task, with the rows that flipped against the champion."""
    why = str(one.get("why") or "")
    if why:
        label, _, reason = why.partition(": ")
        yield from hang(f"{label:<11} {name}: {reason}", 12)
        return
    keys = ("score", "best", "tolerance", "rows")
    numbers = ", ".join(f"{key} {plain(one.get(key))}" for key in keys)
    flipped = ""
    if one.get("worse") is not None:
        worse = several(int(one["worse"]), "row")
        flipped = f"; {worse} answered worse than by the other, {one['better']:,} better"
    told = "within" if one.get("is_within") else "DOWN"
    yield from hang(f"{'judged':<11} {name} {told}: {numbers}{flipped}", 12)


def _advice(down: list[str], release: releases.Release) -> Iterator[str]:
    """What an operator can do about a refusal."""
    accept = ", ".join(f"`mtld task accept {name}`" for name in down)
    yield from hang(
        f"{'do next':<11} if the world changed and the lower scores are right: {accept}; if the rows are wrong: "
        f"`mtld rollback`; to serve this one all the same: `mtld snapshot promote {release.path.name} --force`", 12
    )  # fmt: skip


def _of(found: Json, key: str, name: str) -> Json:
    return cast("Json", cast("Json", found.get(key) or {}).get(name) or {})
