"""Rolling back: an older checkpoint becomes the state again, and the log after it is replayed, all of it or in part.

The older state is written as a new checkpoint whose parent is the old one, and the swap of CURRENT is the moment at
which it counts: a crash before it leaves the state as it was, a crash after it the state rolled back. The epoch moves on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from daemon.checkpoint_store import DAMAGE
from daemon.cut import Process, position_of, restore, versions
from daemon.errors import IntegrityError, Refused
from daemon.failpoints import reach
from daemon.identity import FIRST_ID, event_key, id_tuple
from daemon.reader import Reader
from mtl_engine.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.checkpoint_store import Recovered
    from daemon.guard import Base
    from daemon.loop import Loop
    from daemon.reader import Position
    from daemon.types import Bounds, Json


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rolled back to, and which entries after it are left out, as [first, last] ids, both included."""

    seq: int
    skips: tuple[tuple[str, str], ...] = ()
    skip_to_now: bool = False  # leave out everything up to now
    by: str = ""
    reason: str = ""
    guarded: Mapping[str, Base] | None = None  # what the guard goes on comparing with


def look(loop: Loop, plan: Plan) -> Json:
    """What a rollback would do; Refused, with what would be accepted, where it cannot be done."""
    header = _header(loop, plan.seq)
    position, bounds = position_of(header), loop.source.bounds()
    is_replayable = _is_replayable(loop, position, bounds)
    if not is_replayable and not plan.skip_to_now:
        raise Refused(
            f"the log no longer holds what came after checkpoint {plan.seq} (entry {position.id}), so it cannot be "
            "replayed; choose a newer checkpoint, or leave everything since then out with --skip-to-now"
        )
    return {
        "seq": plan.seq,
        "step": header["step"],
        "watermark": position.id,
        "from_step": loop.machine.engine.step_count,
        "events_after_it": bounds.entries_added - position.n,
        "skips": [list(skip) for skip in _skips(loop, plan, position)],
        "is_replayable": is_replayable,
    }


def before_switch(loop: Loop) -> bool:
    """Go back to before the switch after which the guard saw a task fall, without what came since; whether it was done.

    What goes on coming may be as bad: it is compared with the scores of before, and left out in its turn.
    """
    guard = loop.machine.guard
    if not guard.fallen or guard.since == guard.gave_up:
        return False
    bounds = loop.source.bounds()
    for header in loop.durability.checkpointer.retained():
        position = position_of(header)
        if id_tuple(position.id) < id_tuple(guard.since):
            if not _is_replayable(loop, position, bounds):
                break
            skip = (guard.since, loop.reader.position.id)
            plan = Plan(int(header["seq"]), (skip,), False, "guard", guard.held, dict(guard.base))
            try:
                roll_back(loop, plan)
            except Refused as error:  # a damaged one; those before it may do
                loop.health.fault("guard_cannot_roll_back", str(error))
                continue
            return True
    guard.gave_up = guard.since
    loop.health.fault("guard_cannot_roll_back", f"no replayable checkpoint before {guard.since}")
    loop.journal("guard_cannot_roll_back", {"since": guard.since})
    return False


def is_left_out(process: Process, entry_id: str) -> bool:
    """Whether a rollback decided that this entry is not read."""
    here = id_tuple(entry_id)
    return any(id_tuple(first) <= here <= id_tuple(last) for first, last in process.skips)


def roll_back(loop: Loop, plan: Plan) -> Json:
    """Carry the plan out; returns what was done once it is durable. Touches nothing before it knows that it can."""
    loop.durability.wait(loop)
    loop.durability.commit(loop)
    told = look(loop, plan)
    store = loop.durability.checkpointer.store
    try:
        found = store.load(plan.seq)
    except DAMAGE as error:
        raise Refused(f"checkpoint {plan.seq} cannot be used ({error}); choose another") from None
    skips = _skips(loop, plan, position_of(found.header))
    here = loop.reader.position.id
    with loop.health.busy("loading"):
        _become(loop, found, skips, is_replayable=bool(told["is_replayable"]))
    if plan.guarded is not None:
        loop.machine.guard.resume(plan.guarded, here)
    loop.health.count("rollbacks")
    loop.journal("rolled_back", {**told, "by": plan.by, "reason": plan.reason})
    reach("rolled_back")
    loop.durability.stage(loop)
    loop.durability.wait(loop)
    current = loop.durability.checkpointer.retained()[0]
    if current["epoch"] != loop.process.epoch:
        raise IntegrityError(
            "the rolled-back state could not be written, so it does not count; a restart goes on where it was: "
            "see the log for the reason, mend it, then start and roll back again"
        )
    return {**told, "checkpoint": current["seq"], "epoch": loop.process.epoch}


def _become(
    loop: Loop, found: Recovered, skips: list[tuple[str, str]], *, is_replayable: bool
) -> None:
    """The state in memory becomes the older one; what is not a function of the log stays as it is."""
    machine, now, here = loop.machine, loop.process, loop.reader.position
    machine.outbox.drop_covered(loop.source.sent_mark())  # no server is asked after this
    waiting = machine.outbox.waiting()
    lost, bound = machine.counters.lost_events, machine.counters.lost_is_lower_bound
    try:
        position, then = restore(found, machine)
    except StateError as error:
        raise IntegrityError(f"checkpoint {found.seq} does not fit: {error}") from error
    loop.process = Process(
        epoch=now.epoch + 1, regressions=now.regressions, token=now.token, reread_until=then.reread_until, next_version=now.next_version,
        paused=now.paused, paused_until=now.paused_until, skips=[list(skip) for skip in skips],
    )  # fmt: skip
    machine.rereading = id_tuple(position.id) < id_tuple(then.reread_until)
    # A dead letter of what is read again would be told twice.
    stays = [one for one in waiting if one.kind != "dead" or not is_replayable
             or id_tuple(one.body["id"]) <= id_tuple(position.id)]  # fmt: skip
    machine.outbox.restart(loop.process.epoch, stays)
    if is_replayable:
        position = replace(position, a_max=here.a_max, g_max=here.g_max)
    else:  # nothing after it is read again, so its losses stay counted and its entries are left out at once
        machine.counters.skipped_events += max(0, here.n - position.n)
        machine.counters.lost_events, machine.counters.lost_is_lower_bound = lost, bound
        position = here
    loop.durability.rolled_back(found.seq, found.header, versions(machine), position)
    loop.reader = Reader(loop.source, position, FIRST_ID)
    loop.steering.rolled_back()


def _header(loop: Loop, seq: int) -> Json:
    kept = {int(header["seq"]): header for header in loop.durability.checkpointer.retained()}
    if seq not in kept:
        names = ", ".join(str(one) for one in kept) or "none"
        raise Refused(f"no checkpoint {seq} can be rolled back to; there are {names}")
    return kept[seq]


def _is_replayable(loop: Loop, position: Position, bounds: Bounds) -> bool:
    """Whether every entry after a position is still in the log, as far as trimming goes."""
    if position.id == FIRST_ID:
        return bounds.length == bounds.entries_added
    rows = loop.source.read(position.id, 1)
    if not rows or rows[0].id != position.id:
        return False
    return not position.key or event_key(rows[0]) == position.key


def _skips(loop: Loop, plan: Plan, position: Position) -> list[tuple[str, str]]:
    """The plan's ranges, with `skip_to_now` everything from the position to here, and what was left out before.

    What was left out stays so, wherever one goes back to: bad rows do not return with the next rollback. Ranges before
    all that can be rolled back to are forgotten.
    """
    chosen = list(plan.skips)
    if plan.skip_to_now:
        chosen.append((position.id, loop.reader.position.id))
    oldest = id_tuple(loop.durability.checkpointer.retained()[-1]["watermark"])
    before = [(first, last) for first, last in loop.process.skips if id_tuple(last) > oldest]
    return list(dict.fromkeys([*chosen, *before]))
