"""`mtld checkpoint`: the resumable states on disk; read without torch, and without asking the daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon import releases, vitals
from daemon.commands.shared import Call, Timeout, told, verb, verified
from daemon.commands.words import ago, columns, size
from daemon.errors import IntegrityError, Refused
from daemon.identity import id_tuple

if TYPE_CHECKING:
    from daemon.types import Json, Vitals

app = typer.Typer(
    help="Make, list or verify checkpoints: all that is needed to resume.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

HEADINGS = ("SEQ", "AGE", "STEP", "EPOCH", "WATERMARK", "SIZE", "PARENT", "REPLAY", "")


@app.command()
@verb()
def now(call: Call, timeout_s: Timeout = 60.0) -> None:
    """Checkpoint now and return when it is durable: a crash after that repeats nothing from before it."""
    call.ask("checkpoint", {}, timeout_s, lambda reply: [f"durable{told(reply)}"])


@app.command("list")
@verb()
def list_(call: Call) -> None:
    """List the checkpoints that are kept, newest first; `current` is where a start resumes.

    REPLAY says whether the log still has what came after it, so that `mtld rollback` can read it again.
    """
    found = catalogue(call.state_dir)
    call.show(
        found,
        lambda: columns([_row(one) for one in found], HEADINGS) if found else ["no checkpoint yet"],
    )


@app.command()
@verb()
def verify(
    call: Call,
    seq: Annotated[int | None, typer.Argument(help="Only this one (default: all).")] = None,
) -> None:
    """Hash every file again and compare with the manifests; exit 8 if anything differs.

    Also says so when CURRENT names a checkpoint that is not there.
    """
    root = call.state_dir / "checkpoints"
    chosen = [one for one in directories(root) if seq in {None, int(one.name)}]
    if seq is not None and not chosen:
        raise Refused(
            f"no checkpoint {seq} in {root}; `mtld checkpoint list` names those there are"
        )
    found = {one.name: releases.problems(one) for one in chosen}
    if (
        seq is None
        and current(root) is not None
        and not any(int(name) == current(root) for name in found)
    ):
        found["CURRENT"] = [f"names {current(root)}, which is not there"]
    raise typer.Exit(
        verified(
            call,
            {
                name: what
                for name, what in found.items()
                if name == "CURRENT" or (root / name).exists()
            },
        )
    )


def directories(root: Path) -> list[Path]:
    """The finished checkpoints, newest first; what is being written or was set aside is left out."""
    found = [
        path
        for path in (root.iterdir() if root.is_dir() else ())
        if path.name.isdigit() and path.is_dir()
    ]
    return sorted(found, key=lambda path: -int(path.name))


def current(root: Path) -> int | None:
    """The sequence number that CURRENT names, None before the first checkpoint."""
    try:
        return int(json.loads((root / "CURRENT").read_bytes())["seq"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{root / 'CURRENT'} cannot be read: {error}") from None


def catalogue(state_dir: Path) -> list[Json]:
    """What the manifests say, newest first; one that cannot be read says why."""
    root = state_dir / "checkpoints"
    resumed = current(root)
    seen = vitals.read(state_dir / vitals.NAME)
    return [
        {**entry, "replayable": _replayable(entry, seen)}
        for entry in (_entry(path, resumed) for path in directories(root))
    ]


def _replayable(entry: Json, seen: Vitals | None) -> bool | None:
    """Whether the log still has what came after it, as far as the daemon has trimmed; None where nobody knows."""
    if seen is None or not seen.trimmed_to or "watermark" not in entry:
        return None
    return entry["epoch"] == seen.epoch and id_tuple(entry["watermark"]) >= id_tuple(
        seen.trimmed_to
    )


def _entry(path: Path, resumed: int | None) -> Json:
    entry: Json = {"seq": int(path.name), "current": int(path.name) == resumed, "path": str(path)}
    try:
        said = releases.manifest(path)
    except IntegrityError as error:
        return {**entry, "error": str(error)}
    kept = {key: said.get(key) for key in ("parent", "step", "epoch", "watermark", "at", "schema")}
    return {
        **entry,
        **kept,
        "bytes": sum(int(one.get("bytes", 0)) for one in said["files"].values()),
    }


def _row(entry: Json) -> tuple[Any, ...]:
    flag = "current" if entry["current"] else ""
    if "error" in entry:
        return entry["seq"], None, None, None, None, None, None, None, f"unreadable {flag}"
    age = ago(vitals.age_s(str(entry["at"])))
    shown = (
        entry["step"],
        entry["epoch"],
        entry["watermark"],
        size(entry["bytes"]),
        entry["parent"],
        {True: "yes", False: "no"}.get(entry["replayable"], "-"),
    )
    return entry["seq"], age, *shown, flag
