"""`mtld top`: the trainer live on one screen of 80 by 24; it reads the vitals file and asks nobody."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections import defaultdict, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from daemon import vitals as vitals_file
from daemon.commands import scores
from daemon.commands.shared import Call, Output, verb
from daemon.commands.words import WIDTH, ago, columns, fit, hang, plain, printable, size
from daemon.condition import HEALTHY, TRANSIENT, judge
from daemon.errors import NotRunning

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from daemon.standing import Standing
    from daemon.types import Json

REFRESH_S = 1.0  # how often the vitals are written
LINES = 24  # of the smallest screen, and of what --once prints
TASKS_SHOWN = 6
WORST = 14  # letters of the worst class and its recall
TREND = 16  # values of a sparkline
HEADINGS = ("TASK", "SCORE", "ROWS", "AGE", "RECALL", "WORST CLASS", "LOSS", f"LAST {TREND} S")
_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = {"good": "32", "busy": "33", "bad": "31"}
_ENTER, _LEAVE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"  # another screen without a cursor

History = defaultdict[str, deque[float]]


@verb()
def top(
    call: Call,
    once: Annotated[
        bool, typer.Option("--once", help="Print the screen once and end; so does a pipe.")
    ] = False,
) -> None:
    """Show the trainer live: state, advice, speed, lag, losses and scores of tasks, what happened last.

    q or Ctrl-C ends it. With -o json it prints once what `mtld status -o json` prints.
    """
    history: History = defaultdict(lambda: deque(maxlen=TREND))
    if once or call.output is Output.json or not sys.stdout.isatty():
        report = _look(call)
        if report is None:
            raise NotRunning(
                f"no daemon has written {call.state_dir / vitals_file.NAME}; start one with `mtld run`"
            )
        call.show(report, lambda: screen(report, history, LINES))
        raise typer.Exit(0 if report["running"] else NotRunning.exit_code)
    with _terminal():
        while not _quit(REFRESH_S if history else 0.0):
            _draw(call, history)


def _look(call: Call) -> Json | None:
    seen = vitals_file.read(call.state_dir / vitals_file.NAME)
    return None if seen is None else judge(seen, call.state_dir)


def _draw(call: Call, history: History) -> None:
    width, height = shutil.get_terminal_size((WIDTH, LINES))
    report = _look(call)
    if report is None:
        history["waited"].append(0.0)
        shown = [f"waiting for {call.state_dir / vitals_file.NAME}; start a daemon with `mtld run`"]
    else:
        note(history, report)
        shown = [printable(line) for line in screen(report, history, height)]
        shown[0] = f"\033[1;{_COLOURS[_mood(report)]}m{shown[0][:width]}\033[0m"
    rest = "".join(f"\r\n{line[:width]}\033[K" for line in shown[1:])
    sys.stdout.write(f"\033[H{shown[0]}\033[K{rest}\033[J")
    sys.stdout.flush()


def note(history: History, report: Json) -> None:
    """Keep what is drawn as a line: speed, lag, and the loss of each task."""
    history["rows/s"].append(float(report["rows_per_s"]))
    history["lag"].append(float(report["lag_events"] or 0))
    for task, loss in cast("Json", report.get("losses") or {}).items():
        if isinstance(loss, int | float):
            history[f"loss {task}"].append(float(loss))


def screen(report: Json, history: History, height: int) -> list[str]:
    """The screen: what it is, what to do, how fast, what is kept, the tasks; what happened fills the rest."""
    shown = [
        fit(line)
        for line in (*_head(report), "", *_facts(report, history), "", *_tasks(report, history))
    ]
    recent = [_told(one) for one in reversed(report["events"])]
    room = height - len(shown) - 3
    if recent and room > 0:
        shown += ["", "LAST EVENTS", *recent[:room]]
    return [*shown[: height - 1], "q quits; `mtld status` has more"]


def _head(report: Json) -> Iterator[str]:
    state = report["state"] if report["running"] else f"NOT RUNNING (was {report['state']})"
    where = f"stream {report['namespace'] or '-'}, pid {report['pid']}, {ago(report['written_s_ago'])} ago"
    clock = f"{vitals_file.now()[11:19]} UTC"
    yield f"mtld: {state}; {where}"[: WIDTH - len(clock) - 1].ljust(WIDTH - len(clock)) + clock
    if report["reason"]:
        yield f"reason     {report['reason']}"
    if report["problems"]:
        told = (_problem(one, report["faults"]) for one in scores.some(report["problems"]))
        yield from hang(f"problem    {'; '.join(told)}", 11)
    yield from hang(f"do next    {report['advice']}", 11)


def _problem(name: str, faults: Json) -> str:
    """A problem; of one that may be over, when it was last."""
    return f"{name} ({_age({'at': faults[name].get('last')})} ago)" if name in faults else name


def _facts(report: Json, history: History) -> Iterator[str]:
    rows, lag = report["accounting"], report["lag_events"]
    phase = f" / {report['phase']}" if report["phase"] else ""
    yield f"task       {report['task'] or '-'}{phase}, step {report['step']:,}"
    speed = f"{report['rows_per_s']:,.0f} rows/s"
    behind = "unknown" if lag is None else f"{lag:,} events"
    yield f"speed      {speed:<16} {sparkline(history['rows/s']):<18} lag {behind:<16} {sparkline(history['lag'])}"
    lost = f"lost {rows['lost_events']:,} events" if rows["lost_events"] else "lost none"
    yield (
        f"rows       {rows['trained']:,} trained, {rows['pending']:,} pending;"
        f" dead {rows['dead_events']:,} events, {lost}"
    )
    kept, published = report["checkpoint"], report["snapshot"]
    told = (
        f"{kept['seq']:06d}, {_age(kept)} ago, {size(kept.get('bytes'))}"
        if kept.get("seq")
        else "none"
    )
    version = (
        f"v{published['version']:06d}, {_age(published)} ago"
        if published.get("version")
        else "none since it started"
    )
    yield f"saved      checkpoint {told}; snapshot {version}"
    yield f"scores     {scores.overall(report)}"


def _age(found: Json) -> str:
    return ago(vitals_file.age_s(str(found.get("at", ""))))


def _tasks(report: Json, history: History) -> Iterator[str]:
    tasks = scores.known(report)
    if not tasks:
        yield "no task yet; declare one with `mtld task add`"
        return
    # what is wrong first, then the one in focus
    tasks.sort(key=lambda one: (not scores.mark(one), one.task != report["task"]))
    yield from columns([_task(one, report, history) for one in tasks[:TASKS_SHOWN]], HEADINGS)
    if len(tasks) > TASKS_SHOWN:
        yield f"and {len(tasks) - TASKS_SHOWN} more: `mtld task list`"


def _task(one: Standing, report: Json, history: History) -> tuple[Any, ...]:
    loss = cast("Json", report.get("losses") or {}).get(one.task)
    mark = scores.mark(one) or ("*" if one.task == report["task"] else "")
    return (
        f"{one.task[: scores.NAME]} {mark}".rstrip(), scores.number(one.score), one.rows, ago(one.age_s),
        scores.number(one.macro_recall), scores.worst(one)[:WORST], scores.number(loss), sparkline(history[f"loss {one.task}"]),
    )  # fmt: skip


def _told(event: Json) -> str:
    """A journal line or a dead letter, as short as it can be understood."""
    at = str(event.get("at", ""))[11:19]
    if "reason" in event:
        return fit(f"{at}  dead  {event['reason']}: {event.get('message', '')}")
    return fit(f"{at}  {event.get('kind', '')}  {plain(event.get('detail', ''))}".rstrip())


def sparkline(values: deque[float]) -> str:
    """Values as bars from the least to the greatest; nothing where there are fewer than two."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def _mood(report: Json) -> str:
    if not report["running"] or report["problems"]:
        return "bad"
    return (
        "good" if report["state"] in HEALTHY else "busy" if report["state"] in TRANSIENT else "bad"
    )


@contextmanager
def _terminal() -> Generator[None]:
    """The terminal's other screen, and keys without Enter; afterwards everything is as it was."""
    keys = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = termios.tcgetattr(keys) if keys is not None else None
    sys.stdout.write(_ENTER)
    try:
        if keys is not None:
            tty.setcbreak(keys)
        yield
    except KeyboardInterrupt:
        pass  # as good as q
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        if keys is not None and before is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _quit(timeout_s: float) -> bool:
    """Whether q was typed, after waiting so long for a key."""
    if not sys.stdin.isatty():
        time.sleep(timeout_s)
        return False
    ready, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return bool(ready) and bool({b"q", b"Q"} & set(_typed()))


def _typed() -> list[bytes]:
    """The keys that wait, unbuffered; a terminal that is gone is as good as q."""
    keys = os.read(sys.stdin.fileno(), 64)
    return [keys[i : i + 1] for i in range(len(keys))] or [b"q"]
