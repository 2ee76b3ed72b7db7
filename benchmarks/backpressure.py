"""What if producers are ten times faster than training? Nothing may be lost, and the lag stays below its bound.

Two producers push as fast as they may into a daemon whose steps are made slow by a wide trunk, once with the
default bound and once with one that is smaller than what the daemon reads between two timed checkpoints, where
only checkpoints by count keep the producers going. How fast producers are when nothing holds them is measured
beside it, on a stream that nobody reads.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from running import RunningDaemon, server

from daemon.producer import Producer
from daemon.sources.lag import unread
from daemon.sources.link import Keys, Link

PRODUCERS = 2
ROWS = 8  # of an event
SAMPLE_S = 0.02
SETTINGS = """
[engine]
buffer_rows = 200
replay_batch = {rows}
num_threads = 2
trunk = {{width = {width}, depth = 2}}
[stream]
batch_size = {rows}
max_unread = {bound}
[checkpoint]
every_s = 5.0
[publish]
every_s = 0
"""


@dataclass(slots=True)
class Watch:
    """The largest lag that anybody could have seen."""

    url: str
    namespace: str
    most: int = 0
    looks: int = 0

    def run(self, ended: threading.Event) -> None:
        link = Link.open(self.url)
        while not ended.wait(SAMPLE_S):
            self.most = max(self.most, unread(link, Keys.of(self.namespace).events))
            self.looks += 1
        link.close()


def push(url: str, namespace: str, bound: int, num_events: int, seed: int) -> None:
    """One producer's share, as fast as it may."""
    draw = np.random.Generator(np.random.PCG64(seed))
    x = draw.standard_normal((ROWS, 64)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    with Producer(url, namespace, f"p{seed}", max_unread=bound, timeout_s=300.0) as producer:
        for _ in range(num_events):
            producer.push("rows", x, y)


def free_rate(url: str, num_events: int) -> float:
    """Events/s of the same producers into a stream without a bound."""
    return num_events / _all_of(url, "unbounded", 10**9, num_events)


def _all_of(url: str, namespace: str, bound: int, num_events: int) -> float:
    """Seconds that the producers took together."""
    begin = monotonic()
    threads = [
        threading.Thread(target=push, args=(url, namespace, bound, num_events // PRODUCERS, seed))
        for seed in range(PRODUCERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return monotonic() - begin


def measure(folder: Path, bound: int, num_events: int, width: int) -> dict[str, Any]:
    """One bound: how far the daemon fell behind, and whether every row arrived."""
    with server(folder / "broker") as url:
        free = free_rate(url, 2000)
        settings = SETTINGS.format(rows=ROWS, width=width, bound=bound)
        daemon = RunningDaemon(folder / "state", url, settings)
        daemon.start()
        watch, ended = Watch(url, "default"), threading.Event()
        watcher = threading.Thread(target=watch.run, args=(ended,))
        try:
            daemon.wait(lambda told: told["state"] == "idle")
            with Producer(url) as producer:
                producer.add_task("rows", modality="embedding")
            watcher.start()
            begin = monotonic()
            pushed_s = _all_of(url, "default", bound, num_events)
            told = daemon.wait(
                lambda told: told["state"] == "idle" and _rows(told) == num_events * ROWS, 300.0
            )
            trained_s = monotonic() - begin
        finally:
            ended.set()
            if watcher.is_alive():
                watcher.join()
            daemon.stop()
    counters, trained = told["counters"], num_events / trained_s
    # As `Producer` says: each of the others may still hold half of what was free when it last looked.
    most = bound + (PRODUCERS - 1) * ((bound + 1) // 2)
    return {
        "bound": bound,
        "events": num_events,
        "events_lost": counters["lost_events"],
        "events_accepted": counters["accepted_events"],
        "lag_max": watch.most,
        "lag_allowed": most,
        "lag_samples": watch.looks,
        "producers_events_per_s_alone": round(free),
        "trained_events_per_s": round(trained),
        "times_faster": round(free / trained, 1),
        "pushed_s": round(pushed_s, 1),
        "ok": counters["lost_events"] == 0
        and counters["accepted_events"] == num_events
        and counters["dead_events"] == counters["duplicate_events"] == 0
        and watch.most <= most,
    }


def _rows(told: dict[str, Any]) -> int:
    return int(told["counters"]["trained_rows"] + told["counters"]["held_out_rows"])


def main() -> None:
    from report import finish

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=600)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, bound, num_events in (("default", 10_000, 12_000), ("small", 20, 1500)):
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = measure(Path(folder), bound, num_events, options.width)
    figures["ok"] = all(one["ok"] and one["times_faster"] >= 10 for one in figures.values())
    finish("backpressure", figures, options.save)
    assert figures["ok"], "rows were lost, the lag passed its bound, or the producers were too slow"


if __name__ == "__main__":
    main()
