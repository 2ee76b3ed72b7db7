"""Does a healthy stream wake anybody up? Alarms of the guard and of forgetting while good data repeats for 20 minutes.

The demo's digits and intents, phase after phase with a switch before each, over and over from one source, into a daemon
with default settings. Nothing is wrong with a row, so every alarm is a false one: a task that fell (journal `guard_fell`), and
forgetting as deploy/prometheus/alerts.yml means it, above 0.2 for ten minutes. What else the gate and the views say is
counted beside them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
from running import RunningDaemon, server

from daemon.demo.data import Phase, phases
from daemon.producer import Producer
from daemon.sources.link import Keys, Link

TASKS = {"digits": "image", "intents": "text"}
EVENT_ROWS = 32
ROWS_PER_S = 300.0  # leaves the machine mostly idle
MAX_UNREAD = 400  # events; where others use the machine too, the stream is as fast as it allows
LOOK_S = 2.0  # between two looks at what the daemon says
HIGH, FOR_S = 0.2, 600.0  # of MtldForgettingHigh


@dataclass(slots=True)
class Watch:
    """What the daemon said of itself all along."""

    daemon: RunningDaemon
    link: Link
    journal: Counter[str] = field(default_factory=Counter[str])  # lines by kind
    fell: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    verdicts: Counter[str] = field(default_factory=Counter[str])
    refusals: list[str] = field(default_factory=list[str])
    most: dict[str, float] = field(default_factory=dict[str, float])  # forgetting, by task
    high: dict[str, float] = field(
        default_factory=dict[str, float]
    )  # longest stretch above HIGH, s
    collapsed: set[str] = field(default_factory=set[str])
    _since: dict[str, float] = field(default_factory=dict[str, float])
    _read: str = "0-0"

    def look(self) -> None:
        """Once more."""
        self._lines()
        told = self.daemon.vitals()
        for task, known in (told.get("evaluation") or {}).get("tasks", {}).items():
            if known.get("collapsed"):
                self.collapsed.add(f"{task}: {known['collapsed']}")
            forgetting = known.get("forgetting")
            if forgetting is not None:
                self._mark(task, forgetting)

    def _mark(self, task: str, forgetting: float) -> None:
        self.most[task] = max(forgetting, self.most.get(task, 0.0))
        if forgetting <= HIGH:
            self._since.pop(task, None)
            return
        stretch = monotonic() - self._since.setdefault(task, monotonic())
        self.high[task] = max(stretch, self.high.get(task, 0.0))

    def _lines(self) -> None:
        """The journal's lines since the last look; the stream is bounded, so nobody looks late."""
        for entry_id, flat in self.link.call(
            "XRANGE", Keys.of("default").journal, f"({self._read}", "+"
        ):
            line = dict(zip(flat[::2], flat[1::2], strict=True))
            kind, detail = line[b"kind"].decode(), json.loads(line[b"detail"])
            self._read = entry_id.decode()
            self.journal[kind] += 1
            if kind == "guard_fell":
                self.fell.append(detail)
            if kind == "snapshot_published":
                self.verdicts[detail["decision"]] += 1
                if detail["decision"] == "refused":
                    self.refusals.append(detail["reason"])


def stream(seed: int) -> Iterator[tuple[Phase, Any, Any]]:
    """Events without an end, each with its phase; the rows of a phase come in another order in every pass."""
    known = [phase for phase in phases() if phase.task in TASKS]
    draw = np.random.Generator(np.random.PCG64(seed))
    while True:
        for phase in known:
            order = draw.permutation(len(phase))
            for start in range(0, len(order), EVENT_ROWS):
                rows = order[start : start + EVENT_ROWS]
                x = phase.x[rows] if phase.task == "digits" else [phase.x[row] for row in rows]
                yield phase, x, [phase.y[row] for row in rows]


def push(producer: Producer, watch: Watch, seconds: float, seed: int) -> dict[str, int]:
    """Push at the rate until time is up, and look now and then."""
    begin = looked = monotonic()
    sent = {"rows": 0, "switches": 0}
    last: Phase | None = None
    for phase, x, y in stream(seed):
        if monotonic() - begin > seconds:
            return sent
        if phase is not last:
            producer.switch(phase.task, phase.name)
            sent["switches"] += 1
            last = phase
        producer.push(phase.task, x, y)
        sent["rows"] += len(y)
        if monotonic() - looked > LOOK_S:
            watch.look()
            looked = monotonic()
        sleep(max(0.0, begin + sent["rows"] / ROWS_PER_S - monotonic()))
    return sent


def measure(folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Run the whole thing below `folder`."""
    with server(folder / "broker") as url:
        daemon = RunningDaemon(folder / "state", url, f"[engine]\nseed = {seed}\n")
        daemon.start()
        try:
            daemon.wait(lambda told: told["state"] == "idle")
            watch = Watch(daemon, Link.open(url))
            with Producer(url, name="demo", max_unread=MAX_UNREAD, timeout_s=120.0) as producer:
                for task, modality in TASKS.items():
                    producer.add_task(task, modality=modality)
                sent = push(producer, watch, 60.0 * minutes, seed)
            told = daemon.wait(_is_done)
            daemon.ask("checkpoint")
            watch.look()
        finally:
            daemon.stop()
    return {
        "minutes": minutes,
        "seed": seed,
        **sent,
        **_figures(watch),
        "counters": told["counters"],
    }


def _figures(watch: Watch) -> dict[str, Any]:
    tasks = (watch.daemon.vitals().get("evaluation") or {}).get("tasks", {})
    return {
        "guard_alarms": watch.journal["guard_fell"],
        "forgetting_alarms": sum(stretch >= FOR_S for stretch in watch.high.values()),
        "fell": watch.fell,
        "forgetting_most": watch.most,
        "forgetting_longest_high_s": {task: round(s, 1) for task, s in watch.high.items()},
        "collapsed": sorted(watch.collapsed),
        "verdicts": dict(watch.verdicts),
        "refusals": watch.refusals,
        "journal": dict(watch.journal),
        "scores": {task: known.get("score") for task, known in tasks.items()},
    }


def _is_done(told: dict[str, Any]) -> bool:
    return told["state"] == "idle" and not told["lag_events"] and not told["pending_rows"]


def main() -> None:
    from report import finish

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.minutes, options.seed)
    figures["ok"] = not figures["guard_alarms"] and not figures["forgetting_alarms"]
    finish("alarms", figures, options.save)
    assert figures["ok"], "good data raised an alarm"


if __name__ == "__main__":
    main()
