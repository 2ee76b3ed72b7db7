"""`mtld snapshot`: the published models and which of them is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from daemon import releases, vitals
from daemon.commands import champion, snapshot_diff, snapshot_export, snapshot_show
from daemon.commands.shared import Call, Timeout, verb, verified
from daemon.commands.words import ago, columns, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import Json

app = typer.Typer(
    help="Publish, list, show, verify, compare or export snapshots: frozen models for users.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.command()(snapshot_export.export)
app.command()(snapshot_diff.diff)
for steers in (champion.promote, champion.rollback, champion.pin, champion.unpin):
    app.command()(steers)
TOLD = ("at", "step", "epoch", "watermark", "scores", "reason", "verdict")
HEADINGS = ("VERSION", "AGE", "STEP", "SIZE", "ALIASES", "GATE", "JUDGED", "SCORES")


@app.command()
@verb()
def publish(call: Call, timeout_s: Timeout = 60.0) -> None:
    """Publish the model as it is now and return when it is there; `latest` points to it."""

    def table(reply: Json) -> list[str]:
        found = cast("Json", reply.get("snapshot") or {})
        return [f"published {found.get('path') or 'nothing: see the faults in `mtld status`'}"]

    call.ask("publish", {}, timeout_s, table)


@app.command("list")
@verb()
def list_(call: Call) -> None:
    """List the published snapshots, newest first, with what points to them."""
    found = [
        releases.described(release, TOLD)
        for release in releases.catalogue(call.state_dir / "models")
    ]
    call.show(
        found,
        lambda: columns([_row(one) for one in found], HEADINGS) if found else ["no snapshot yet"],
    )


app.command()(snapshot_show.show)


@app.command()
@verb()
def verify(
    call: Call,
    name: Annotated[str | None, typer.Argument(help="Only this one (default: all).")] = None,
) -> None:
    """Hash every file again and compare with the manifest; exit 8 if anything differs."""
    models = call.state_dir / "models"
    chosen = [releases.find(models, name)] if name else releases.catalogue(models)
    raise typer.Exit(verified(call, {one.path.name: releases.problems(one.path) for one in chosen}))


def _row(entry: Json) -> tuple[Any, ...]:
    name, aliases = releases.directory_name(entry["version"]), ", ".join(entry["aliases"])
    if "error" in entry:
        return name, None, None, None, aliases, "-", "-", "unreadable"
    age = ago(vitals.age_s(str(entry["at"])))
    scores = " ".join(_scores(entry)) or "-"
    return name, age, entry["step"], size(entry["bytes"]), aliases, *_gate(entry), scores


def _gate(entry: Json) -> tuple[str, str]:
    """The decision, and on how many of the tasks it was made: on none where there was no champion."""
    verdict = cast("Json", entry.get("verdict") or {})
    tasks = cast("Json", verdict.get("tasks") or {})
    unjudged = cast("list[str]", verdict.get("not_judged") or [])
    judged = f"{len(tasks) - len(unjudged)} of {len(tasks)}" if tasks else "-"
    return str(verdict.get("decision") or "-"), judged


def _scores(entry: Json) -> Iterator[str]:
    """One number a task: the first metric of each, if it is defined."""
    scores = cast("Json", entry.get("scores") or {})
    for task, found in scores.items():
        value: object = (
            next(iter(cast("Json", found).values()), None) if isinstance(found, dict) else found
        )
        yield f"{task} {value:.3f}" if isinstance(value, int | float) else f"{task} -"
