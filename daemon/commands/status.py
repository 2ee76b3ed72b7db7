"""`mtld status`: one screen that says how the trainer is and what to do next; a file read, no question asked."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from daemon import vitals as vitals_file
from daemon.commands.shared import Call, Output, ago, columns, fit, size, verb
from daemon.errors import NotRunning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.types import Json, Vitals

SILENT_S = 30.0  # a loop writes its vitals every second, whatever it does; beyond this it hangs
WATCH_S = 2.0
RECENT_S = 3600.0  # a fault older than this is history, not a reason to be degraded
LAG_EVENTS = 10_000  # the default bound of producers: at it they wait

HEALTHY = frozenset({"training", "idle"})
TRANSIENT = frozenset({"starting", "recovering", "draining"})
_ADVICE = {
    "paused": "`mtld resume` when you are ready",
    "draining": "wait: it checkpoints and stops",
    "starting": "wait: it takes the lease and loads its state",
    "recovering": "wait: it loads the last checkpoint; if it takes minutes, read its log",
    "stopped": "start it again with `mtld run`",
    "broker_down": "start or reach the server; the daemon tries again by itself (`mtld doctor`)",
    "broker_full": "give the server memory or stop producers; nothing is lost meanwhile (`mtld doctor`)",
    "stream_exhausted": "a producer used the last stream id: delete the stream, then restart its producers",
    "diverged": "the loss is not finite: `mtld pause`, then lower the learning rate and restart",
}


@verb()
def status(
    call: Call,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 5 when running but degraded; for monitoring.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Again every 2 s, until Ctrl-C.")
    ] = False,
) -> None:
    """Say how the trainer is, what it learned, what it lost, and what to do next.

    Exits 3 when no daemon runs, after printing what the last one wrote. Asks nobody: it answers as quickly while the
    trainer computes, checkpoints or hangs.
    """
    exit_code = _once(call, check)
    try:
        while watch:
            time.sleep(WATCH_S)
            if call.output is Output.table and sys.stdout.isatty():
                typer.echo("\033[H\033[2J", nl=False)
            exit_code = _once(call, check)
    except KeyboardInterrupt:
        pass  # the way to end it, not a failure
    raise typer.Exit(exit_code)


def _once(call: Call, check: bool) -> int:
    path = call.state_dir / vitals_file.NAME
    vitals = vitals_file.read(path)
    if vitals is None:
        raise NotRunning(
            f"no daemon has written {path}; start one with `mtld run`, or name its state directory with --state"
        )
    report = judge(vitals, call.state_dir)
    call.show(report, lambda: list(lines(report)))
    if not report["running"]:
        return NotRunning.exit_code
    return 5 if check and report["degraded"] else 0


def judge(vitals: Vitals, state_dir: Path) -> Json:
    """The vitals as a report: alive or not, degraded or not and why, and what to do next."""
    running = vitals_file.is_alive(vitals) and vitals.state != "stopped"
    written_s = vitals_file.age_s(vitals.written_at)
    problems = list(_problems(vitals, written_s)) if running else []
    return {
        "running": running,
        "degraded": bool(problems),
        "problems": problems,
        "advice": _advice(vitals, running, problems),
        "state_dir": str(state_dir),
        "written_s_ago": written_s,
        "accounting": accounting(vitals.counters, vitals.pending_rows),
        **asdict(vitals),
    }


def accounting(counters: Json, pending_rows: int) -> Json:
    """Rows sent and what became of them; lost is counted in events, as nobody knows how many rows they had."""
    parts = {
        "trained": int(counters.get("trained_rows", 0)),
        "held_out": int(counters.get("held_out_rows", 0)),
        "duplicate": int(counters.get("duplicate_rows", 0)),
        "dead": int(counters.get("dead_rows", 0)),
        "pending": pending_rows,
    }
    return {
        "sent": sum(parts.values()),
        **parts,
        "lost_events": int(counters.get("lost_events", 0)),
        "lost_is_lower_bound": bool(counters.get("lost_is_lower_bound", False)),
        "dead_events": int(counters.get("dead_events", 0)),
    }


def _problems(vitals: Vitals, written_s: float | None) -> Iterator[str]:
    if written_s is None or written_s > SILENT_S:
        yield f"silent for {ago(written_s)}"
    if vitals.state not in HEALTHY | TRANSIENT:
        yield vitals.state
    if (vitals.lag_events or 0) >= LAG_EVENTS:
        yield f"lag of {vitals.lag_events} events"
    for name, fault in vitals.faults.items():
        since = vitals_file.age_s(str(fault.get("last", "")))
        if since is not None and since < RECENT_S and name != vitals.state:
            yield name


def _advice(vitals: Vitals, running: bool, problems: list[str]) -> str:
    if not running:
        return "start it with `mtld run`; it resumes at its last checkpoint"
    if problems and problems[0].startswith("silent"):
        return f"it runs (pid {vitals.pid}) but reports nothing: read its log, then kill -9 is safe"
    if vitals.state in _ADVICE:
        return _ADVICE[vitals.state]
    if vitals.counters.get("lost_events"):
        return "events were lost unread: see `mtld tail` for when, and send them again"
    if vitals.counters.get("dead_events"):
        return "some events were refused: `mtld dead list` says why"
    if problems:
        return "see the faults below; `mtld doctor` looks for causes"
    return "nothing; send data with `mtld push`" if vitals.state == "idle" else "nothing"


def lines(report: Json) -> Iterator[str]:
    """The report on one screen."""
    state = report["state"] if report["running"] else f"NOT RUNNING (was {report['state']})"
    reason = f": {report['reason']}" if report["reason"] else ""
    yield fit(f"{state}{reason}, {ago(report['written_s_ago'])} ago, pid {report['pid']}")
    for name, text in _rows(report):
        yield fit(f"{name:<11} {text}")
    for name, fault in report["faults"].items():
        since = vitals_file.age_s(str(fault.get("last", "")))
        told = f"{name} x{fault.get('count', 1)}, {ago(since)} ago: {fault.get('detail', '')}"
        yield fit(f"{'fault':<11} {told}")
    if report["tasks"]:
        yield ""
        yield from columns(
            [_task(task, report["snapshot"]) for task in report["tasks"]], TASK_HEADINGS
        )


def _rows(report: Json) -> Iterator[tuple[str, str]]:
    yield "do next", report["advice"]
    phase = f" / {report['phase']}" if report["phase"] else ""
    yield "task", f"{report['task'] or '-'}{phase}, step {report['step']:,}"
    lag = "-" if report["lag_events"] is None else f"{report['lag_events']:,}"
    yield (
        "speed",
        f"{report['rows_per_s']:,.0f} rows/s; lag {lag} events, pending {report['pending_rows']:,} rows",
    )
    yield from zip(("rows", ""), _accounted(report["accounting"]), strict=True)
    yield "checkpoint", _checkpoint(report["checkpoint"])
    snapshot = report["snapshot"]
    yield (
        "snapshot",
        _stamped(f"v{snapshot['version']:06d}", snapshot)
        if snapshot.get("version")
        else "none since it started",
    )
    yield (
        "stream",
        f"{report['namespace']}, epoch {report['epoch']}, on {report['broker'] or 'no server'}",
    )
    yield "replay", f"{report['replay_rows']:,} rows, {size(report['replay_bytes'])}"
    exact = "bit-exact" if report["bit_exact"] else f"not bit-exact: {report['bit_exact_reason']}"
    took = "first start" if report["recovery_s"] is None else f"{report['recovery_s']:.2f} s"
    yield "recovery", f"{took}, {exact}"


def _accounted(rows: Json) -> tuple[str, str]:
    lost = f"{'at least ' if rows['lost_is_lower_bound'] else ''}{rows['lost_events']:,}"
    return (
        f"sent {rows['sent']:,} = trained {rows['trained']:,} + held out {rows['held_out']:,}"
        f" + duplicate {rows['duplicate']:,}",
        f"+ dead {rows['dead']:,} + pending {rows['pending']:,};"
        f" events: dead {rows['dead_events']:,}, lost {lost}",
    )


def _checkpoint(found: Json) -> str:
    if not found.get("seq"):
        return "none yet"
    cost = f"stalled {found.get('stage_ms') or 0:.1f} ms, wrote {size(found.get('bytes'))}"
    return _stamped(f"{found['seq']:06d}", found) + f", step {found.get('step') or 0:,}, {cost}"


def _stamped(name: str, found: Json) -> str:
    return f"{name}, {ago(vitals_file.age_s(str(found.get('at', ''))))} ago"


TASK_HEADINGS = ("TASK", "KIND", "OUTPUTS", "REPLAY ROWS", "SCORE")


def _task(task: Json, snapshot: Json) -> tuple[Any, ...]:
    """A row of the table; the score is the task's own, else that of the last snapshot."""
    scores = cast("Json", snapshot.get("scores") or {})
    score: object = task.get("scores") or scores.get(task["name"])
    told = " ".join(_score(score)) or "-"
    return task["name"], task.get("kind"), task.get("columns"), task.get("replay_rows"), told


def _score(score: object) -> Iterator[str]:
    """Each metric with its name; one that is not defined on the hold-outs has no number."""
    if isinstance(score, int | float):
        yield f"{score:.3f}"
    elif isinstance(score, dict):
        for name, value in cast("Json", score).items():
            yield f"{name} {value:.3f}" if isinstance(value, int | float) else f"{name} -"
