"""How much longer does this checkout take than another one, for the same steps and for the same log?

Two processes, one a checkout, take turns: while one works through a block the other waits. `--what engine` steps an engine
on rows of Split-Fashion's shape as W1 does, `--what machine` applies a log in memory: decoding, de-duplication, hold-outs,
steps. The ratio of a pair of neighbouring blocks is this checkout's time over the other's; below 1 this one is faster.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

EVENT_ROWS, STREAM, MEMORY = 64, 32, 32
THREADS = int(os.environ.get("AGAINST_THREADS", "2"))  # of a step
TRUNK = {"width": 256, "depth": 2, "norm": "none"}


def images(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    centres = draw.integers(0, 256, (10, 28, 28))
    y = draw.integers(0, 10, rows)
    x = centres[y] * 0.7 + draw.integers(0, 77, (rows, 28, 28))
    return x.astype(np.uint8), y


def engine(seed: int, **more: Any) -> Any:
    from mtl_engine.engine import Engine

    return Engine(trunk=TRUNK, replay_batch=MEMORY, num_threads=THREADS, seed=seed, **more)


def engine_blocks(seed: int, events: int, holdout: float) -> Any:
    """A function that takes as many steps as `events` events hold."""
    from mtl_engine.types import TaskSpec

    del holdout
    one = engine(seed)
    one.add_task(TaskSpec("digits", modality="image", classes=tuple(range(10))))
    x, y = images(40_000, seed)
    at = 0

    def block() -> None:
        nonlocal at
        for _ in range(events * EVENT_ROWS // STREAM):
            one.observe("digits", x[at : at + STREAM], y[at : at + STREAM])
            at = (at + STREAM) % (len(x) - STREAM)

    return block


def machine_blocks(seed: int, events: int, holdout: float) -> Any:
    """A function that applies so many events of a log that never repeats a row or an id."""
    from safetensors.numpy import save

    from daemon.config import Stream
    from daemon.machine import LogMachine
    from daemon.types import Entry, Limits

    arguments = [engine(seed, teacher_every=2000), Stream(batch_size=STREAM), Limits()]
    if "seed" in inspect.signature(LogMachine).parameters:
        arguments.append(seed)
    one = LogMachine(*arguments)
    draw = np.random.default_rng(seed)
    x, y = images(EVENT_ROWS * 256, seed)
    number = 0

    def enter(fields: dict[bytes, bytes]) -> None:
        nonlocal number
        number += 1
        common = {b"specversion": b"1.0", b"id": str(number).encode(), b"source": b"bench/1"}
        one.enter(Entry(f"{number}-0", {**common, **fields}))
        while one.train_one():
            pass

    spec = json.dumps({"modality": "image", "holdout": holdout}).encode()
    added = {
        b"type": b"mtl.task.add.v1",
        b"subject": b"digits",
        b"datacontenttype": b"application/json",
    }
    enter({**added, b"data": spec})

    def event() -> dict[bytes, bytes]:
        row = draw.integers(0, len(x), EVENT_ROWS)
        noisy = x[row] ^ draw.integers(0, 4, (EVENT_ROWS, 28, 28), dtype=np.uint8)
        kind = {b"type": b"mtl.data.v1", b"subject": b"digits"}
        data = save({"x": noisy, "y": y[row]})
        return {**kind, b"datacontenttype": b"application/vnd.safetensors", b"data": data}

    def block() -> Any:
        made = [event() for _ in range(events)]
        begin = perf_counter()
        for fields in made:
            enter(fields)
        return perf_counter() - begin

    return block


def work(what: str, seed: int, events: int, holdout: float) -> None:
    """One side: a block for every line that comes in, its seconds on a line out."""
    block = {"engine": engine_blocks, "machine": machine_blocks}[what](seed, events, holdout)
    for _ in range(3):
        block()
    for _ in sys.stdin:
        begin = perf_counter()
        took = block()
        sys.stdout.write(f"{took or perf_counter() - begin}\n")
        sys.stdout.flush()


def side(checkout: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        __file__,
        "--worker",
        "--what",
        options.what,
        "--seed",
        str(options.seed),
    ]
    command += ["--events", str(options.events), "--holdout", str(options.holdout)]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(THREADS)}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=checkout,
    )


def block_of(worker: subprocess.Popen[str]) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def pairs_of(options: argparse.Namespace) -> list[tuple[float, float]]:
    """Blocks of both sides after one start of each."""
    here = Path(__file__).resolve().parents[1]
    own, other = side(here, options), side(options.other.resolve(), options)
    pairs: list[tuple[float, float]] = []
    for number in range(options.blocks):
        if number % 2:
            pairs.append((block_of(own), block_of(other)))
        else:
            theirs = block_of(other)
            pairs.append((block_of(own), theirs))
    for worker in (own, other):
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait()
    return pairs


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """Over several starts: where a process lies in memory makes steps some percent slower or faster."""
    starts = [pairs_of(options) for _ in range(options.starts)]
    pairs = [pair for found in starts for pair in found]
    ratios = sorted(mine / theirs for mine, theirs in pairs)
    each = [round(median(mine / theirs for mine, theirs in found), 4) for found in starts]
    low, high = (ratios[int(len(ratios) * part)] for part in (0.25, 0.75))
    return {
        "what": options.what, "holdout": options.holdout, "blocks": options.blocks, "events_a_block": options.events,
        "ratio_median": round(median(ratios), 4), "ratio_quartiles": [round(low, 4), round(high, 4)],
        "ratio_by_start": each, "ratio_mean_of_starts": round(sum(each) / len(each), 4),
        "ms_median": [round(median(one[k] for one in pairs) * 1e3, 2) for k in (0, 1)], "seed": options.seed, "threads_a_step": THREADS,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "other", nargs="?", type=Path, help="the other checkout, as `git worktree add` makes it"
    )
    parser.add_argument("--what", choices=("engine", "machine"), default="machine")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=40, help="pairs of blocks after each start")
    parser.add_argument("--events", type=int, default=50, help="events of 64 rows a block")
    parser.add_argument("--holdout", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if options.worker:
        work(options.what, options.seed, options.events, options.holdout)
        return
    if options.other is None:
        parser.error("name the other checkout")
    from report import finish

    finish(f"against_{options.what}", compared(options), options.save)


if __name__ == "__main__":
    main()
