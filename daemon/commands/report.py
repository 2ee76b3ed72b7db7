"""The report of `mtld status`: what the vitals file says, on one screen or as JSON. No command-line library, no question asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon import vitals as vitals_file
from daemon.commands import scores
from daemon.commands.words import ago, columns, fit, hang, show, size
from daemon.condition import judge
from daemon.errors import NotRunning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.types import Json

DEGRADED = 5  # exit code of a check
TASK_HEADINGS = ("TASK", "", "SCORE", "+-", "ROWS", "AGE", "RECALL", "WORST CLASS")


def tell(state_dir: Path, *, as_json: bool, check: bool) -> int:
    """Print how the daemon of a state directory is; returns the exit code."""
    path = state_dir / vitals_file.NAME
    vitals = vitals_file.read(path)
    if vitals is None:
        raise NotRunning(
            f"no daemon has written {path}; start one with `mtld run`, or name its state directory with --state"
        )
    report = judge(vitals, state_dir)
    show(report, lambda: list(lines(report)), as_json=as_json)
    if not report["running"]:
        return NotRunning.exit_code
    return DEGRADED if check and report["degraded"] else 0


def lines(report: Json) -> Iterator[str]:
    """The report on one screen."""
    state = report["state"] if report["running"] else f"NOT RUNNING (was {report['state']})"
    reason = f": {report['reason']}" if report["reason"] else ""
    yield from hang(
        f"{state}{reason}; as of {ago(report['written_s_ago'])} ago, pid {report['pid']}", 4
    )
    for problem in scores.some(_untold(report)):
        yield from hang(f"{'problem':<11} {problem}", 12)
    yield from hang(f"{'do next':<11} {report['advice']}", 12)
    for name, text in _rows(report):
        yield fit(f"{name:<11} {text}")
    for name, fault in report["faults"].items():
        since = vitals_file.age_s(str(fault.get("last", "")))
        told = f"{name} x{fault.get('count', 1)}, {ago(since)} ago: {fault.get('detail', '')}"
        yield fit(f"{'fault':<11} {told}")
    if report["tasks"]:
        yield ""
        yield from _tasks(report)
        for told in scores.by_source(report):
            yield from hang(f"{'sources':<11} {told}", 12)


def _untold(report: Json) -> list[str]:
    """The problems that neither the state nor a fault tells."""
    return [one for one in report["problems"] if one not in report["faults"] | {report["state"]: 1}]


def _tasks(report: Json) -> list[str]:
    """How well each task is known; the column of marks is there when something is marked."""
    rows = [
        (one.task[: scores.NAME], scores.mark(one), scores.score(one) or "-", scores.spread(one), one.rows,
         ago(one.age_s), scores.number(one.macro_recall), scores.worst(one))
        for one in scores.known(report)
    ]  # fmt: skip
    marked = any(row[1] for row in rows)
    kept = [at for at in range(len(TASK_HEADINGS)) if at != 1 or marked]
    return columns([[row[at] for at in kept] for row in rows], [TASK_HEADINGS[at] for at in kept])


def _rows(report: Json) -> Iterator[tuple[str, str]]:
    phase = f" / {report['phase']}" if report["phase"] else ""
    yield "task", f"{report['task'] or '-'}{phase}, step {report['step']:,}"
    lag = "-" if report["lag_events"] is None else f"{report['lag_events']:,}"
    yield (
        "speed",
        f"{report['rows_per_s']:,.0f} rows/s; lag {lag} events, pending {report['pending_rows']:,} rows",
    )
    yield from zip(("rows", ""), _accounted(report["accounting"]), strict=True)
    yield "scores", scores.overall(report)
    yield "checkpoint", _checkpoint(report["checkpoint"])
    yield "snapshot", _snapshot(report["snapshot"], report["champion"])
    yield (
        "stream",
        f"{report['namespace']}, epoch {report['epoch']}, on {report['broker'] or 'no server'}",
    )
    exact = "bit-exact" if report["bit_exact"] else f"not bit-exact: {report['bit_exact_reason']}"
    took = report["recovery_s"]
    began = "first start" if took is None else f"recovered in {took:.2f} s"
    held = f"{report['replay_rows']:,} rows, {size(report['replay_bytes'])}"
    yield "replay", f"{held}; {began}, {exact}"


def _accounted(rows: Json) -> tuple[str, str]:
    skipped = f" + skipped {rows['skipped']:,}" if rows["skipped"] else ""
    lost = f"{'at least ' if rows['lost_is_lower_bound'] else ''}{rows['lost_events']:,}"
    return (
        f"sent {rows['sent']:,} = trained {rows['trained']:,} + held out {rows['held_out']:,}"
        f" + duplicate {rows['duplicate']:,}",
        f"+ dead {rows['dead']:,} + pending {rows['pending']:,}{skipped};"
        f" events: dead {rows['dead_events']:,}, lost {lost}",
    )


def _checkpoint(found: Json) -> str:
    if not found.get("seq"):
        return "none yet"
    cost = f"stalled {found.get('stage_ms') or 0:.1f} ms, wrote {size(found.get('bytes'))}"
    return _stamped(f"{found['seq']:06d}", found) + f", step {found.get('step') or 0:,}, {cost}"


def _snapshot(found: Json, champion: str | None) -> str:
    serving = f"champion {champion}" if champion else "no champion yet"
    if not found.get("version"):
        return f"none since it started; {serving}"
    verdict = f" ({found['verdict']})" if found.get("verdict") else ""
    name = f"v{found['version']:06d}"
    return f"{_stamped(name, found)}{verdict}; {serving}"


def _stamped(name: str, found: Json) -> str:
    return f"{name}, {ago(vitals_file.age_s(str(found.get('at', ''))))} ago"
