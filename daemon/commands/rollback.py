"""`mtld rollback`: make an older checkpoint the state again, and replay the log after it, all of it or without a part."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from daemon import client
from daemon.commands.confirm import Confirm, confirmed
from daemon.commands.shared import Call, DryRun, Timeout, asker, verb
from daemon.errors import ConfigError
from daemon.identity import is_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import Json

_POINTS = "each an id of the log (1732550400000-0) or a time with its zone (2026-01-31T03:00:00Z)"


@dataclass(frozen=True, slots=True)
class Without:
    """What a replay leaves out."""

    skip: Annotated[
        list[str] | None,
        typer.Option(
            "--skip",
            metavar="FIRST..LAST",
            help="Leave these entries of the log out; ids or times (2026-01-31T03:00Z), both included; may be repeated.",
        ),
    ] = None
    skip_to_now: Annotated[
        bool, typer.Option("--skip-to-now", help="Leave out everything that was read since.")
    ] = False


@verb(options=Without)
def rollback(
    call: Call,
    without: Without,
    checkpoint: Annotated[int, typer.Argument(help="As `mtld checkpoint list` numbers it.")],
    reason: Annotated[str, typer.Option(help="For the journal.")] = "",
    confirm: Confirm = None,
    dry_run: DryRun = False,
    timeout_s: Timeout = 120.0,
) -> None:
    """Make an older checkpoint the state again and replay the log after it; returns when that is durable.

    Replaying everything ends where the daemon is now, so say what to leave out: --skip FIRST..LAST or --skip-to-now.
    Entries left out are counted, and may be sent again. What users are served is another matter: `mtld snapshot rollback`.
    """
    args: Json = {
        "seq": checkpoint,
        "skips": [_range(one) for one in without.skip or ()],
        "skip_to_now": without.skip_to_now,
        "reason": reason,
        "by": asker(),
    }
    plan = client.call(call.state_dir, "rollback", {**args, "dry_run": True}, timeout_s)
    if dry_run:
        call.show(plan, lambda: list(_plan(plan)))
        return
    confirmed("; ".join(_plan(plan)), str(checkpoint), confirm)
    call.ask("rollback", args, timeout_s, lambda reply: list(_done(reply)))


def _range(text: str) -> list[str]:
    first, between, last = text.partition("..")
    if not between:
        raise ConfigError(f"--skip is {text!r}; write FIRST..LAST, {_POINTS}")
    return [_point(first, "0"), _point(last, str((1 << 64) - 1))]


def _point(text: str, seq: str) -> str:
    """An id as it is, or a time as the id that an entry added then would have: ids begin with milliseconds."""
    if is_id(text):
        return text
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--skip has {text!r}; write {_POINTS}") from None
    if at.tzinfo is None:
        raise ConfigError(f"--skip has {text!r} without a zone; write {_POINTS}")
    return f"{int(at.timestamp() * 1000)}-{seq}"


def _plan(plan: Json) -> Iterator[str]:
    yield f"checkpoint {plan['seq']:06d}: step {plan['from_step']:,} goes back to {plan['step']:,}"
    if plan["is_replayable"]:
        yield f"{plan['events_after_it']:,} events came after it (entry {plan['watermark']}) and are read again, but for what is left out"
    else:
        yield "what came after it is no longer in the log, so nothing is read again"
    for first, last in plan["skips"]:
        yield f"left out: {first} to {last}"


def _done(reply: Json) -> Iterator[str]:
    yield f"rolled back to {reply['seq']:06d}: checkpoint {reply['checkpoint']:06d}, epoch {reply['epoch']}"
    yield "`mtld status` shows how the replay goes; the champion is as it was"
