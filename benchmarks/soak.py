"""Does anything grow while rows go by? Resident memory, open files, threads, the server's memory, the state directory.

A daemon trains on images and texts, with task switches, published snapshots, duplicates and bad events among
them. Samples are taken all along; after a warm-up that fills every bounded buffer, the slope through them
(Theil-Sen, so that single peaks do not count) times their span must stay below what is allowed for each, and so
must the median of the last third less that of the first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import psutil
from running import RunningDaemon, images, server

from daemon.producer import Producer
from daemon.sources.link import Link

EVENT_ROWS = 32
SAMPLE_S = 0.2
MIB = 1 << 20
# What a quantity may grow by over the whole run: the larger of an amount and a part of its median.
ALLOWED = {
    "resident_bytes": (8 * MIB, 0.02),
    "open_files": (0.5, 0.0),
    "threads": (0.5, 0.0),
    "server_bytes": (1 * MIB, 0.05),
    "state_bytes": (1 * MIB, 0.05),
}
# Every bound is reached during the warm-up: the ring, the buffer, the hold-outs, the retained checkpoints and log.
SETTINGS = """
[engine]
buffer_rows = 500
num_threads = 2
trunk = {width = 64, depth = 1}
[stream]
batch_size = 32
dedup_events = 512
max_unread = 200
log_retain_bytes = 4194304
[checkpoint]
every_s = 0.5
keep = 3
[publish]
every_s = 0
keep = 3
"""


@dataclass(slots=True)
class Samples:
    """What was measured, one list for each quantity."""

    at_s: list[float] = field(default_factory=list[float])
    of: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in ALLOWED})

    def take(self, process: psutil.Process, link: Link, state: Path) -> None:
        """Look once at everything."""
        info = link.call("INFO", "memory").decode()
        used = next(line for line in info.splitlines() if line.startswith("used_memory:"))
        now = {
            "resident_bytes": process.memory_info().rss,
            "open_files": process.num_fds(),
            "threads": process.num_threads(),
            "server_bytes": int(used.partition(":")[2]),
            "state_bytes": _size(state),
        }
        self.at_s.append(monotonic())
        for name, value in now.items():
            self.of[name].append(value)

    def verdict(self) -> dict[str, dict[str, Any]]:
        """Growth over the span, what is allowed, and whether that is flat."""
        found: dict[str, dict[str, Any]] = {}
        for name, values in self.of.items():
            amount, part = ALLOWED[name]
            median = float(np.median(values))
            by_slope = slope(self.at_s, values) * (self.at_s[-1] - self.at_s[0])
            third = len(values) // 3  # a slope through whole numbers misses a single step
            by_thirds = float(np.median(values[-third:]) - np.median(values[:third]))
            growth = max(by_slope, by_thirds)
            allowed = max(amount, part * median)
            found[name] = {
                "median": round(median, 1),
                "max": max(values),
                "growth": round(growth, 1),
                "allowed": round(allowed, 1),
                "is_flat": growth <= allowed,
            }
        return found


def slope(x: list[float], y: list[float], most: int = 400) -> float:
    """The median of the slopes between all pairs of at most `most` evenly chosen points."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).astype(int))
    xs, ys = np.asarray(x)[chosen], np.asarray(y)[chosen]
    first, second = np.triu_indices(len(xs), 1)
    return float(np.median((ys[second] - ys[first]) / (xs[second] - xs[first])))


@contextmanager
def sampling(samples: Samples, daemon: RunningDaemon, url: str, every_s: float) -> Iterator[None]:
    """Sample in a thread of its own until the block ends."""
    ended, link, process = threading.Event(), Link.open(url), psutil.Process(daemon.pid)

    def run() -> None:
        while not ended.wait(every_s):
            samples.take(process, link, daemon.state)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        link.close()


class Load:
    """Rows of two tasks, with what a stream has among its rows."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._x, self._y = images(4096)
        self._texts = [f"call number {place % 97} of {place % 10}" for place in range(4096)]
        self._number = 0
        self.rows = 0
        producer.add_task("digits", modality="image")
        producer.add_task(
            "calls", modality="text", max_bytes=32, encoder={"name": "text", "buckets": 512}
        )

    def push(self, num_rows: int) -> None:
        """Send at least so many rows that are to be learned from."""
        end = self.rows + num_rows
        while self.rows < end:
            self._number += 1
            self._push_one(self._number)
            self.rows += EVENT_ROWS

    def _push_one(self, number: int) -> None:
        start = number * EVENT_ROWS % (len(self._x) - EVENT_ROWS)
        part = slice(start, start + EVENT_ROWS)
        if number % 4:
            receipt = self._producer.push("digits", self._x[part], self._y[part])
            if number % 101 == 0:  # once more, as after a lost reply
                self._producer.push("digits", self._x[part], self._y[part], id=receipt.id)
        else:
            labels = [place % 10 for place in range(part.start, part.stop)]
            self._producer.push("calls", self._texts[part], labels)
        if number % 103 == 0:
            self._producer.push("nobody", self._x[part], self._y[part])
        if number % 400 == 0:
            self._producer.switch(("digits", "calls")[number // 400 % 2], f"phase {number}")


def measure(folder: Path, warm_up: int, rows: int, every_s: float = SAMPLE_S) -> dict[str, Any]:
    """Run the whole thing below `folder`."""
    samples = Samples()
    with server(folder / "broker") as url:
        daemon = RunningDaemon(folder / "state", url, SETTINGS)
        daemon.start()
        try:
            daemon.wait(lambda told: told["state"] == "idle")
            with Producer(url, max_unread=200, timeout_s=120.0) as producer:
                load = Load(producer)
                load.push(warm_up)
                begin = monotonic()
                with sampling(samples, daemon, url, every_s):
                    load.push(rows)
                took = monotonic() - begin
            told = daemon.wait(_is_done)
        finally:
            daemon.stop()
    verdict = samples.verdict()
    return {
        "rows": rows,
        "warm_up_rows": warm_up,
        "seconds": round(took, 1),
        "rows_per_s": round(rows / took),
        "samples": len(samples.at_s),
        "is_flat": all(one["is_flat"] for one in verdict.values()),
        "quantities": verdict,
        "counters": told["counters"],
    }


def _is_done(told: dict[str, Any]) -> bool:
    return told["state"] == "idle" and not told["lag_events"] and not told["pending_rows"]


def _size(folder: Path) -> int:
    """Bytes below a folder that others write to meanwhile, hard links counted once."""
    seen: dict[int, int] = {}
    for parent, _, names in os.walk(folder):  # goes on where a directory has just been removed
        for name in names:
            if name == "daemon.log":
                continue
            try:
                found = (Path(parent) / name).lstat()
            except FileNotFoundError:
                continue  # removed between the two looks
            seen[found.st_ino] = found.st_size
    return sum(seen.values())


def main() -> None:
    from report import finish

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--warm-up", type=int, default=100_000)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.warm_up, options.rows)
    finish("soak", figures, options.save)
    assert figures["is_flat"], "something grows"


if __name__ == "__main__":
    main()
