"""`mtld snapshot promote|rollback|pin|unpin`: which published snapshot is served, decided by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from daemon import client, releases
from daemon.commands.confirm import Confirm, confirmed
from daemon.commands.shared import Call, DryRun, Timeout, asker, verb
from daemon.errors import NotRunning, Refused

if TYPE_CHECKING:
    from daemon.types import Json

Name = Annotated[str, typer.Argument(help="latest, previous, a number, or v000123.")]
Reason = Annotated[str, typer.Option(help="For the journal.")]


@verb()
def promote(
    call: Call,
    name: Name = "latest",
    force: Annotated[
        bool, typer.Option("--force", help="Even if the gate refused it; asks for its name.")
    ] = False,
    reason: Reason = "",
    confirm: Confirm = None,
    dry_run: DryRun = False,
    timeout_s: Timeout = 10.0,
) -> None:
    """Make a snapshot the champion. Works with and without a running daemon.

    One that the gate refused needs --force and its name, typed or with --confirm.
    """
    models = call.state_dir / "models"
    release = releases.find(models, name)
    releases.check_promotable(release, force=force)
    now = releases.target(models, "champion") or "none"
    if dry_run:
        call.show({"champion": release.path.name, "before": now, "done": False},
                  lambda: [f"champion would be {release.path.name}, now it is {now}"])  # fmt: skip
        return
    if force:
        confirmed(f"the gate's verdict on {release.path.name} is overruled", release.path.name, confirm)  # fmt: skip
    args: Json = {"name": release.path.name, "force": force, "reason": reason}
    reply = _told(call, "promote", args, timeout_s) or {
        "champion": release.path.name,
        "before": releases.promote(models, release.path.name, by_hand=True),
    }
    call.show(reply, lambda: [f"champion is {reply['champion']}, before it was {reply['before'] or 'none'}"])  # fmt: skip


@verb()
def rollback(
    call: Call, reason: Reason = "", dry_run: DryRun = False, timeout_s: Timeout = 10.0
) -> None:
    """Give the champion's place back to the one before. Again, and it is as it was.

    Works with and without a running daemon. The training goes on as it is: for that, `mtld rollback`.
    """
    models = call.state_dir / "models"
    now, before = (releases.target(models, alias) for alias in ("champion", "previous"))
    if dry_run:
        if before is None:
            raise Refused(f"there was no champion before {now or 'this one'} in {models}")
        call.show({"champion": before, "before": now, "done": False},
                  lambda: [f"champion would be {before}, now it is {now}"])  # fmt: skip
        return
    reply = _told(call, "demote", {"reason": reason}, timeout_s)
    if reply is None:
        champion, other = releases.demote(models)
        reply = {"champion": champion, "before": other}
    found = reply
    call.show(found, lambda: [f"champion is {found['champion']}, no longer {found['before']}"])


@verb()
def pin(call: Call, name: Name) -> None:
    """Keep a snapshot whatever its age, until it is unpinned."""
    _pin(call, name, pinned=True)


@verb()
def unpin(call: Call, name: Name) -> None:
    """Let a pinned snapshot go when its time comes."""
    _pin(call, name, pinned=False)


def _pin(call: Call, name: str, *, pinned: bool) -> None:
    models = call.state_dir / "models"
    release = releases.find(models, name)
    releases.pin(models, release.path.name, pinned=pinned)
    kept = "is kept until it is unpinned" if pinned else "is no longer pinned"
    call.show({"version": release.version, "pinned": pinned}, lambda: [f"{release.path.name} {kept}"])  # fmt: skip


def _told(call: Call, name: str, args: Json, timeout_s: float) -> Json | None:
    """What the running daemon did, which also writes it into the journal and tells the hook; None where none runs."""
    try:
        return client.call(call.state_dir, name, {**args, "by": asker()}, timeout_s)
    except NotRunning:
        return None
