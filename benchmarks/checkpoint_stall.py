"""How long does one checkpoint hold up the training thread, for 5 MB of weights and a 15 MB buffer?

A real engine trains while a real checkpointer writes to disk every half second. The stall of a checkpoint is the
time by which the step that took the cut was longer than the median step; how much the steps beside a writing
checkpoint are slowed down is reported next to it.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from report import finish, percentile
from running import images

from daemon.checkpointer import Checkpointer, Written
from daemon.config import Stream
from daemon.cut import Process, take
from daemon.machine import LogMachine
from daemon.reader import Position
from daemon.types import Limits
from mtl_engine.engine import Engine
from mtl_engine.types import TaskSpec


@dataclass
class Times:
    """Seconds per step, by what the checkpointer did meanwhile."""

    quiet: list[float]
    writing: list[float]
    staging: list[float]  # steps that took a cut


def measure(
    num_checkpoints: int, every_s: float, folder: Path
) -> tuple[Times, int, dict[str, int]]:
    """Train until so many checkpoints are written; returns the times, bytes per checkpoint and the sizes."""
    engine = Engine(
        strategy="default",
        buffer_rows=18_000,
        trunk={"width": 800, "depth": 2, "norm": "none"},
        num_threads=2,
    )
    engine.add_task(TaskSpec(name="digits", modality="image", holdout=0.0))
    machine = LogMachine(engine, Stream(), Limits())
    x, y = images(60_000)
    for start in range(0, 20_000, 32):  # the buffer is full before anything is measured
        engine.observe("digits", x[start : start + 32], y[start : start + 32])
    checkpointer = Checkpointer(folder, keep=3)
    checkpointer.recover()
    times, written, at, last = Times([], [], []), [], 0, perf_counter()
    while len(written) < num_checkpoints:
        begin, was_busy = perf_counter(), checkpointer.busy
        engine.observe("digits", x[at : at + 32], y[at : at + 32])
        due = not checkpointer.busy and begin - last >= every_s
        if due:
            header = {"outbox_seq": 0, "log_bytes": 0, "build": {}, "publish": None}
            checkpointer.stage(take(machine, Position(), Process(), header))
            last = begin
        outcome = checkpointer.poll()
        if isinstance(outcome, Written):
            written.append(outcome.bytes_written)
        kind = times.staging if due else times.writing if was_busy else times.quiet
        kind.append(perf_counter() - begin)
        at = (at + 32) % (len(x) - 32)
    sizes = {
        "weight_bytes": sum(
            tensor.nbytes
            for name, tensor in engine.state_dict().tensors.items()
            if name.startswith("model.")
        ),
        "replay_bytes": int(engine.describe()["replay_bytes"]),
    }
    return times, int(median(written)), sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=120)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between checkpoints")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times, size, sizes = measure(options.checkpoints, options.every, Path(folder))
    step = median(times.quiet)
    stalls = [
        (taken - step) * 1e3 for taken in times.staging[1:]
    ]  # the first one allocates its copies
    figures = {
        "stall_ms_p99": round(percentile(stalls, 0.99), 2), "stall_ms_p50": round(median(stalls), 2),
        "stall_ms_max": round(max(stalls), 2), "first_stall_ms": round((times.staging[0] - step) * 1e3, 2),
        "step_ms": round(step * 1e3, 3), "step_ms_p99": round(percentile(times.quiet, 0.99) * 1e3, 3),
        "step_ms_while_writing": round(median(times.writing) * 1e3, 3),
        "step_ms_p99_while_writing": round(percentile(times.writing, 0.99) * 1e3, 3),
        "checkpoints": options.checkpoints, "bytes_written": size, **sizes,
    }  # fmt: skip
    finish("checkpoint_stall", figures, options.save)


if __name__ == "__main__":
    main()
