"""What the vitals mean: alive, ready, degraded and why, and what to do next; shared by `status`, probes and page."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from daemon import releases, standing
from daemon import vitals as vitals_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.standing import Standing
    from daemon.types import Json, Vitals

SILENT_S = 30.0  # a loop writes its vitals every second, whatever it does; beyond this it hangs
RECENT_S = 3600.0  # a fault older than this is history, not a reason to be degraded
SOURCES_NAMED = 3  # of those whose labels look wrong
LAG_EVENTS = 10_000  # the default bound of producers: at it they wait

HEALTHY = frozenset({"training", "idle"})
TRANSIENT = frozenset({"starting", "recovering", "draining"})
UNREADY = frozenset({"starting", "recovering", "draining", "stopped", "diverged"})
_ADVICE = {
    "paused": "`mtld resume` when you are ready",
    "draining": "wait: it checkpoints and stops",
    "starting": "wait: it takes the lease and loads its state",
    "recovering": "wait: it loads the last checkpoint; if it takes minutes, read its log",
    "stopped": "start it again with `mtld run`",
    "broker_down": "start or reach the server; the daemon tries again by itself (`mtld doctor`)",
    "broker_full": "give the server memory, or its disk room, as it says; nothing is lost meanwhile (`mtld doctor`)",
    "stream_exhausted": "a producer used the last stream id: delete the stream, then restart its producers",
    "diverged": "the loss is not finite: `mtld pause`, then lower the learning rate and restart",
    "outbox_full": "dead letters cannot leave: give the server memory (`mtld doctor`)",
}
_FAULT_ADVICE = {
    "checkpoint_failed": "checkpoints fail: make room on the disk or mend it, then `mtld checkpoint now`",
    "events_lost": "events were lost unread: `mtld tail --kind events_lost` says when; send them again",
    "stream_regressed": "the log went back: `mtld tail --kind stream_regressed`; send again what is missing",
    "guard_cannot_roll_back": "a task fell and cannot be rolled back by itself: `mtld checkpoint list`, `mtld rollback`",
    "checkpoint_set_aside": "a checkpoint was damaged: look at the disk, then `mtld checkpoint verify`",
    "snapshot_failed": "a snapshot could not be published: mend what it says, then `mtld snapshot publish`",
}


def judge(vitals: Vitals, state_dir: Path) -> Json:
    """The vitals as a report: alive or not, degraded or not and why, and what to do next."""
    running = is_running(vitals)
    written_s = vitals_file.age_s(vitals.written_at)
    problems = list(_problems(vitals)) if running else []
    return {
        "running": running,
        "degraded": bool(problems),
        "problems": problems,
        "advice": _advice(vitals, running, problems),
        "state_dir": str(state_dir),
        "champion": releases.target(state_dir / "models", "champion"),
        "written_s_ago": written_s,
        "accounting": accounting(vitals.counters, vitals.pending_rows),
        **asdict(vitals),
    }


def is_running(vitals: Vitals) -> bool:
    """Whether the daemon of these vitals runs, be it well or badly."""
    return vitals_file.is_alive(vitals) and vitals.state != "stopped"


def not_live(vitals: Vitals | None) -> str:
    """Why the process should be restarted: it is gone or hangs. Empty where its loop ticks or may be busy for longer.

    A daemon that is paused, diverged or without a server ticks, and no restart would help it.
    """
    if vitals is None:
        return "no daemon has written its vitals here"
    if not is_running(vitals):
        return f"no daemon runs; the last one was {vitals.state}"
    return silence(vitals)


def silence(vitals: Vitals) -> str:
    """For how long the loop has not ticked, where that is longer than it may be; else empty."""
    written_s = vitals_file.age_s(vitals.written_at)
    if written_s is not None and written_s <= SILENT_S:
        return ""
    told = "silent" if written_s is None else f"silent for {written_s:.0f} s"
    if not vitals.busy:
        return told
    late_s = vitals_file.age_s(vitals.busy_until)
    return "" if late_s is not None and late_s <= 0 else f"{told}, longer than {vitals.busy} takes"


def not_ready(vitals: Vitals | None) -> str:
    """Why it does not train what is sent now; empty where it does."""
    reason = not_live(vitals)
    if vitals is None or reason:
        return reason
    if vitals.state in UNREADY:
        return vitals.state
    if vitals.paused is not None or vitals.state == "paused":
        return f"paused: {vitals.paused}"
    return "" if vitals.broker_up else "the server does not answer"


def accounting(counters: Json, pending_rows: int) -> Json:
    """Rows sent and what became of them; lost is counted in events, as nobody knows how many rows they had."""
    parts = {
        "trained": int(counters.get("trained_rows", 0)),
        "held_out": int(counters.get("held_out_rows", 0)),
        "duplicate": int(counters.get("duplicate_rows", 0)),
        "dead": int(counters.get("dead_rows", 0)),
        "pending": pending_rows,
        "skipped": int(counters.get("skipped_rows", 0)),
    }
    return {
        "sent": sum(parts.values()),
        **parts,
        "lost_events": int(counters.get("lost_events", 0)),
        "lost_is_lower_bound": bool(counters.get("lost_is_lower_bound", False)),
        "dead_events": int(counters.get("dead_events", 0)),
    }


def _problems(vitals: Vitals) -> Iterator[str]:
    silent = silence(vitals)
    if silent:
        yield silent
    if vitals.state not in HEALTHY | TRANSIENT:
        yield vitals.state
    yield from _learned_badly(vitals)
    if (vitals.lag_events or 0) >= LAG_EVENTS:
        yield f"lag of {vitals.lag_events} events"
    for name, fault in vitals.faults.items():
        since = vitals_file.age_s(str(fault.get("last", "")))
        if since is not None and since < RECENT_S and name != vitals.state:
            yield name


def _learned_badly(vitals: Vitals) -> Iterator[str]:
    """What is wrong with what is learned, as of the newest evaluation: over as soon as that says so."""
    known = standing.of(vitals)
    yield from (_fell(one) for one in known if one.fallen)
    yield from (f"{one.task}: {one.collapsed}" for one in known if one.collapsed)
    if vitals.skips:
        yield f"entries up to {_skip_end(vitals)} are left out"
    stale = [one for one in known if standing.is_stale(one, vitals)]
    if stale:
        oldest_s = max(one.age_s or 0.0 for one in stale)
        names = stale[0].task if len(stale) == 1 else f"{len(stale)} tasks"
        yield f"no new score of {names} for {oldest_s / 60:.0f} min"


def _fell(one: Standing) -> str:
    part = one.fallen[one.deepest]
    more = len(one.fallen) - 1
    phases = f" and {more} more of its phases" if more else ""
    told = f"{one.deepest}{phases} fell from {part['was']:.2f} to {part['is']:.2f} on {part.get('rows', 0)} rows"
    names = [name[:40] for name in one.suspects[:SOURCES_NAMED]]
    if not names:
        return told
    rest = len(one.suspects) - len(names)
    listed = ", ".join(names) + (f" and {rest} more" if rest else "")
    one_only = len(one.suspects) == 1
    return f"{told}; labels of source{'' if one_only else 's'} {listed} look wrong"


def _skip_end(vitals: Vitals) -> str:
    """The last entry that is left out."""
    return max((last for _, last in vitals.skips), key=_id)


def _id(entry: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry.split("-") if part.isdigit())


def _advice(vitals: Vitals, running: bool, problems: list[str]) -> str:
    if not running:
        return "start it with `mtld run`; it resumes at its last checkpoint"
    if problems and problems[0].startswith("silent"):
        return f"it runs (pid {vitals.pid}) but reports nothing: read its log, then kill -9 is safe"
    if vitals.state in _ADVICE:
        since = _newest(vitals, "paused") if vitals.state == "paused" else ""
        return _ADVICE[vitals.state] + (f"; paused since {since[:19]}Z" if since else "")
    told = _advice_on_a_task(vitals)
    told = told or next((told for name, told in _FAULT_ADVICE.items() if name in problems), "")
    told = told or _advice_on_what_was_learned(vitals)
    if told or not problems:
        return told or "nothing" + (
            "; send data with `mtld push`" if vitals.state == "idle" else ""
        )
    return "see the faults below; `mtld doctor` looks for causes"


def _advice_on_a_task(vitals: Vitals) -> str:
    """What to do where a task fell or has collapsed."""
    known = standing.of(vitals)
    fell = next((one.task for one in known if one.fallen), "")
    if fell:
        return (
            "`mtld tail --kind guard_fell`; if its rows are wrong: `mtld pause`, `mtld rollback`; "
            f"if they are right (the world changed): `mtld task accept {fell}`"
        )
    collapsed = next((one.task for one in known if one.collapsed), "")
    if collapsed:
        return (
            f"`mtld task show {collapsed}`; if its rows are wrong: `mtld pause`, `mtld rollback`; "
            f"if they are right, a larger part of replay: `mtld task update {collapsed} --share 2`"
        )
    return ""


def _advice_on_what_was_learned(vitals: Vitals) -> str:
    if vitals.skips:
        return f"nothing: a rollback leaves entries out until {_skip_end(vitals)} is read; `mtld tail --kind rolled_back` says why"
    if any(standing.is_stale(one, vitals) for one in standing.of(vitals)):
        return "`mtld evaluate` scores every task now; if it does not answer, read the log"
    if vitals.snapshot.get("verdict") in {"refused", "held"}:
        return (
            "the last snapshot was not promoted: `mtld snapshot show latest` says which task fell; "
            "if that is meant to be so: `mtld task accept TASK`"
        )
    if _is_recent(_newest(vitals, "dead_letter")):
        return "some events were refused: `mtld dead list` says why"
    return ""


def _newest(vitals: Vitals, kind: str) -> str:
    """When something of this kind was last journalled or refused, as far as the vitals remember; else empty."""
    return max(
        (str(one.get("at", "")) for one in vitals.events if one.get("kind") == kind), default=""
    )


def _is_recent(stamp: str) -> bool:
    since = vitals_file.age_s(stamp)
    return since is not None and since < RECENT_S
