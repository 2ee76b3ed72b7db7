"""How long do probes, scrapes and `mtld status` take while the trainer starts, checkpoints, holds the lock, stands still?

Each question is asked over and over from this process, each by a thread: a new connection for the two paths, a new
process for `mtld status`. The trainer has a 1.4 MB model and 1,000 stored images, and trains without a pause.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from report import finish, percentile
from running import RunningDaemon, images, server

sys.path.insert(0, str(Path(__file__).parents[1]))
from daemon.producer import Producer
from tests.support.sidecar_process import Probe, SidecarProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = """
[engine]
buffer_rows = 1000
num_threads = 2
trunk = {{width = 256, depth = 2}}
strategy = {{name = "tests.support.stalling:Stalling", flag = "{flag}", seconds = {stall_s}}}
[checkpoint]
every_s = 0.05
"""
STALL_S = 5


@contextmanager
def fed(url: str) -> Iterator[None]:
    """A producer that always has more to send."""
    done = threading.Event()
    x, y = images(64 * 64)

    def feed() -> None:
        with Producer(url) as producer:
            producer.add_task("digits", modality="image", holdout=0.01)
            place = 0
            while not done.is_set():
                rows = slice(64 * (place % 64), 64 * (place % 64) + 64)
                producer.push("digits", x[rows], y[rows])
                place += 1
            producer.flush()

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def told(situation: str, probe: Probe) -> dict[str, float]:
    """The figures of one situation."""
    found: dict[str, float] = {}
    for name, took in probe.took_s.items():
        key = f"{situation}_{name.removeprefix('/')}"
        found[f"{key}_p99_ms"] = round(1e3 * percentile(took, 0.99), 1)
        found[f"{key}_asked"] = len(took)
    print(found)
    return found


def stalls(daemon: RunningDaemon, flag: Path, probe: Probe, times: int) -> None:
    """Let the trainer hold the lock, and ask only while it does."""
    for _ in range(times):
        step = daemon.vitals()["step"]
        flag.touch()
        daemon.wait(lambda _: not flag.exists())
        with probe.asking():
            sleep(STALL_S - 1)
        daemon.wait(lambda v, step=step: v["step"] > step)


def measure(folder: Path, url: str, seconds: float) -> dict[str, float]:
    """All situations, one after the other."""
    flag = folder / "stall"
    settings = SETTINGS.format(flag=flag, stall_s=STALL_S)
    daemon = RunningDaemon(folder / "state", url, settings)
    begin = monotonic()
    with SidecarProcess(daemon.state) as sidecar:
        figures = {"sidecar_start_s": round(monotonic() - begin, 3)}
        probe = Probe(sidecar)
        with probe.asking():
            daemon.start()
            daemon.wait(lambda v: v["state"] == "idle")
        figures |= told("starts", probe)
        with fed(url):
            daemon.wait(lambda v: v["step"] > 0)
            probe = Probe(sidecar)
            with probe.asking():
                sleep(seconds)
            figures |= told("checkpoints", probe)
            probe = Probe(sidecar)
            stalls(daemon, flag, probe, max(1, int(seconds / STALL_S)))
            figures |= told("holds_the_lock", probe)
            probe = Probe(sidecar)
            daemon.signal(signal.SIGSTOP)
            with probe.asking():
                sleep(seconds)
            daemon.signal(signal.SIGCONT)
            figures |= told("stopped", probe)
        figures["sidecar_rss_mib"] = round(sidecar.rss_bytes() / 2**20, 1)
        figures["checkpoints_written"] = daemon.vitals()["totals"]["checkpoints"]
    daemon.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each situation")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "server") as url:
        found = measure(Path(folder), url, options.seconds)
    finish("sidecar_latency", {**found, "seconds": options.seconds}, options.save)


if __name__ == "__main__":
    main()
