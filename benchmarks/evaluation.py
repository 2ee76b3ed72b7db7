"""How long does scoring the hold-outs of many tasks stop training at a time?

20 image tasks on one trunk (784-256-256, the default strategy) with 500 judge and 500 select rows each. An evaluation goes
through the log as two decisions a large task, with training in between: one lets averaged and live weights answer its select
rows, one scores its judge rows, and what stops is one decision. A task switch does both for all tasks at once, and publishing
compares with the champion and fits probabilities besides.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from report import finish

from daemon.config import Gate, Publish, Stream
from daemon.cut import Process
from daemon.events.control import decision
from daemon.machine import LogMachine
from daemon.publication import Publication
from daemon.rounds import planned
from daemon.types import Entry, Limits
from mtl_engine.engine import Engine
from mtl_engine.types import TaskSpec

if TYPE_CHECKING:
    from collections.abc import Callable

TASKS, ROWS = 20, 500
HEADER = {"epoch": 1, "watermark": "1-0", "build": {}}


def milliseconds(act: Callable[[], Any]) -> float:
    begin = perf_counter()
    act()
    return (perf_counter() - begin) * 1e3


def made(seed: int, threads: int) -> LogMachine:
    """A machine whose tasks have all the hold-outs that they may have."""
    draw = np.random.default_rng(seed)
    engine = Engine(trunk={"width": 256, "depth": 2}, num_threads=threads, seed=seed)

    def images(rows: int) -> np.ndarray:
        return draw.integers(0, 256, (rows, 28, 28), dtype=np.uint8)

    for number in range(TASKS):
        name = f"t{number}"
        engine.add_task(TaskSpec(name))
        engine.observe(name, images(32), draw.integers(0, 10, 32))
        for kind in ("judge", "select"):
            engine.hold_out(name, images(ROWS), np.arange(ROWS) % 10, kind=kind)
    return LogMachine(engine, Stream(), Limits())


def stops(machine: LogMachine, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Milliseconds of every stop."""
    engine = machine.engine
    x, y = np.zeros((32, 28, 28), np.uint8), np.zeros(32, np.int64)
    publication, process = Publication(folder, Publish(), Gate()), Process()
    stopped = ("decision", "comparison", "evaluation", "switch", "publish")
    found: dict[str, list[float]] = {name: [] for name in stopped}
    number = 0

    def decided(kind: str, **detail: str) -> None:
        nonlocal number
        number += 1
        fields = decision(kind, 1, f"{number}-0", detail)
        encoded = {name.encode(): value.encode() for name, value in fields.items()}
        machine.enter(Entry(f"{number}-0", encoded))

    def published() -> None:
        intent = publication.intent(process)
        assert intent is not None
        publication.judge(intent, machine, "")
        staged.append(publication.carry_out(intent, machine, HEADER))

    staged: list[Any] = []
    for turn in range(rounds):
        engine.observe("t0", x, y)
        total = 0.0
        for detail in planned(engine):
            took = milliseconds(lambda detail=detail: decided("evaluate", **detail))
            found["comparison" if "compare" in detail else "decision"].append(took)
            total += took
        found["evaluation"].append(total)
        engine.observe("t0", x, y)
        found["switch"].append(
            milliseconds(lambda turn=turn: machine.switch_task("t0", f"p{turn}"))
        )
        engine.observe("t0", x, y)
        publication.ask("benchmark")
        found["publish"].append(milliseconds(published))
        staged.pop()()
        publication.outcomes()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = stops(made(options.seed, options.threads), options.rounds, Path(folder))
    figures: dict[str, Any] = {
        "tasks": TASKS,
        "judge_rows": ROWS,
        "rounds": options.rounds,
        "threads_a_step": options.threads,
    }
    for name, values in found.items():
        figures[f"{name}_ms"] = {"median": round(median(values), 1), "max": round(max(values), 1)}
    finish("evaluation", {**figures, "seed": options.seed}, options.save)


if __name__ == "__main__":
    main()
