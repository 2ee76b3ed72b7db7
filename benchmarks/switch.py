"""How long after a task switch arrives is the first step of the new phase done?

A daemon with the default strategy learns Split-Fashion-MNIST (W1: five phases of two classes, net 784-256-256-10) from a
real server, and is then switched back and forth between the first and the last phase. `arrival` is the moment at which the
XADD of the switch returned to who sent it; the end is the daemon's own log line `first step of a phase`. Both are
stamps of the monotonic clock, which all processes of a machine share, so the wait until the daemon reads is part of it. In
between lie the step under way, the flush of the old phase, scoring every hold-out, the new teacher, reading on, and where
it falls before that step, copying the checkpoint and judging the snapshot that a switch publishes.

Rows come at a steady rate, in events of 32 and of 5, and once as fast as the daemon takes them: then the switch waits for
what lies before it in the log, and only how long training stands still (`stall`, from reading the switch on) says something.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np
from report import finish, percentile
from running import RunningDaemon, server
from workloads import images

from daemon.producer import Producer
from daemon.sources.link import Link, server_info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workloads.base import Phase

    from daemon.types import Json

BAR_MS = 100.0
BACK = (0, 4, 0, 4)  # the phases that come again once all were there
BACK_ROWS = 3000
LINE = '"first step of a phase"'
PARTS = ("until_read", "applying", "waiting_for_rows", "until_stepped")
SETTINGS = """
[engine]
strategy = "default"
encoder = "mlp"
buffer_rows = 500
replay_batch = 32
num_threads = {threads}
trunk = {{width = 256, depth = 2, norm = "none"}}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """How rows arrive; at a rate of 0 as fast as the daemon takes them."""

    event_rows: int
    rows_per_s: float


@dataclass(slots=True)
class Stream:
    """Sends phases, and remembers when the server had each entry."""

    producer: Producer
    case: Case
    arrived_s: dict[str, float] = field(default_factory=dict[str, float])  # by the entry's id
    switches: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])
    due_s: float = field(default_factory=monotonic)

    def switch(self, phase: Phase, *, back: bool) -> None:
        entry_id = self.producer.switch(phase.task, phase.name).entry_id
        self.arrived_s[entry_id] = monotonic()
        self.switches.append((entry_id, back))

    def rows(self, phase: Phase, row_N: np.ndarray) -> None:
        """Send rows, each event at its time; who is late does not catch up."""
        size, rate = self.case.event_rows, self.case.rows_per_s
        for start in range(0, len(row_N), size):
            x, y = phase.rows(row_N[start : start + size])
            if rate:
                sleep(max(0.0, self.due_s - monotonic()))
                self.due_s = max(self.due_s + size / rate, monotonic())
            receipt = self.producer.push(phase.task, x, y)
            self.arrived_s[receipt.entry_id] = monotonic()


@dataclass(frozen=True, slots=True)
class Switch:
    """One switch: milliseconds of each part; while rows had not come yet the wait is theirs, whatever else was done."""

    back: bool
    parts_ms: dict[str, float]

    @property
    def latency_ms(self) -> float:
        """From arrival to the first step."""
        return sum(self.parts_ms.values())

    @property
    def stall_ms(self) -> float:
        """From reading the switch to the first step, less the time in which its rows had not come."""
        return self.parts_ms["applying"] + self.parts_ms["until_stepped"]


def read(line: dict[str, Any], arrived_s: dict[str, float], *, back: bool) -> Switch:
    """A switch from the daemon's line about it and the moments at which the server had the entries."""
    begun_s, at_s = line["begun_monotonic_s"], line["at_monotonic_s"]
    applied_s = begun_s + line["applied_s"]
    waited_s = min(max(0.0, arrived_s[line["after"]] - applied_s), at_s - applied_s)
    took_s = (begun_s - arrived_s[line["switch"]], line["applied_s"], waited_s, at_s - applied_s - waited_s)  # fmt: skip
    return Switch(back, dict(zip(PARTS, (1e3 * one for one in took_s), strict=True)))


def measure(case: Case, seed: int, url: str, folder: Path, threads: int) -> list[Switch]:
    """One daemon from its first row on; the switch to the first phase, before any row, does not count."""
    daemon = RunningDaemon(folder / "state", url, SETTINGS.format(threads=threads))
    daemon.start()
    daemon.wait(_is_idle)
    phases, draw = images.split_fashion("test").phases, np.random.default_rng(seed)
    with Producer(url, max_unread=2000) as producer:
        producer.add_task(phases[0].task, modality="image")
        stream = Stream(producer, case)
        for phase in phases:
            stream.switch(phase, back=False)
            stream.rows(phase, phase.order(draw))
        for number in BACK:
            stream.switch(phases[number], back=True)
            stream.rows(phases[number], phases[number].order(draw)[:BACK_ROWS])
        stream.producer.flush()
    daemon.wait(_is_idle, 1200, poll_s=0.5)
    log = (daemon.state / "daemon.log").read_text()
    daemon.stop()
    lines = {one["switch"]: one for one in map(json.loads, _lines(log))}
    return [read(lines[entry], stream.arrived_s, back=back) for entry, back in stream.switches[1:]]


def _is_idle(vitals: Json) -> bool:
    """Whether all is learned that was in the log at the last look."""
    return vitals["state"] == "idle" and not vitals["lag_events"]


def _lines(log: str) -> Iterator[str]:
    return (line for line in log.splitlines() if LINE in line)


def told(switches: list[Switch], case: Case) -> dict[str, Any]:
    """The figures of one case."""
    found: dict[str, Any] = {"rows_per_event": case.event_rows, "switches": len(switches)}
    found["rows_per_s"] = case.rows_per_s or "as fast as they are taken"
    found["stall_ms"] = _spread([one.stall_ms for one in switches])
    if not case.rows_per_s:
        return found
    latency = [one.latency_ms for one in switches]
    found["latency_ms"] = _spread(latency)
    found["within_bar"] = median(latency) < BAR_MS
    found["to_new_classes_ms"] = _spread([one.latency_ms for one in switches if not one.back])
    found["back_ms"] = _spread([one.latency_ms for one in switches if one.back])
    found["parts_median_ms"] = {
        part: round(median(one.parts_ms[part] for one in switches), 2) for part in PARTS
    }
    found["each_ms"] = [round(one, 1) for one in latency]
    return found


def _spread(values: list[float]) -> dict[str, float]:
    points = {"median": median(values), "p90": percentile(values, 0.9), "max": max(values)}
    return {name: round(value, 1) for name, value in points.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="daemons, each with its own seed")
    parser.add_argument("--rows-per-s", type=float, default=3000.0)
    parser.add_argument("--threads", type=int, default=2, help="the setting engine.num_threads")
    parser.add_argument("--json", action="store_true", help="one JSON line and nothing else")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    cases = {
        "events_of_32": Case(32, options.rows_per_s),
        "events_of_5": Case(5, options.rows_per_s),
        "backlog": Case(32, 0.0),
    }
    figures: dict[str, Any] = {"bar_ms": BAR_MS, "rounds": options.rounds, "num_threads": options.threads}  # fmt: skip
    for name, case in cases.items():
        switches: list[Switch] = []
        for seed in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "server") as url:
                figures["server"] = _described(url)
                switches += measure(case, seed, url, Path(folder), options.threads)
        figures[name] = told(switches, case)
        if not options.json:
            print({name: figures[name]}, flush=True)
    finish("switch", figures, options.save)


def _described(url: str) -> str:
    info = server_info(link := Link.open(url))
    link.close()
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version', info.get('redis_version'))}"


if __name__ == "__main__":
    main()
