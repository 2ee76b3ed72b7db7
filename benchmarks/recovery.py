"""How long after a SIGKILL until the daemon takes its next step, beyond importing torch?

Each round: the daemon trains, is killed in the middle of a backlog, is started again, and the time from starting
the process to its first step is taken from the daemon's own log line. Importing torch and nothing else is timed
in a fresh process in the same round and subtracted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import monotonic

from report import finish
from running import RunningDaemon, images, server

from daemon.producer import Producer

# 5 MB of weights and about 15 MB of stored rows.
SETTINGS = """
[engine]
strategy = "default"
buffer_rows = 18000
num_threads = 2
trunk = {width = 800, depth = 2, norm = "none"}
[stream]
max_unread = 100000
[checkpoint]
every_s = 1.0
"""


def import_s() -> float:
    """Seconds to start Python and import torch."""
    begin = monotonic()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return monotonic() - begin


def first_step_s(daemon: RunningDaemon) -> float:
    """Seconds from starting the process to its first optimizer step."""
    before = (daemon.state / "daemon.log").stat().st_size
    begin = daemon.start()

    def stepped(_: object) -> bool:
        return bool(_lines(daemon, before))

    daemon.wait(stepped)
    return float(_lines(daemon, before)[0]["at_monotonic_s"]) - begin


def _lines(daemon: RunningDaemon, offset: int) -> list[dict[str, float]]:
    text = (daemon.state / "daemon.log").read_bytes()[offset:].decode()
    return [
        json.loads(line)
        for line in text.splitlines()
        if '"first step"' in line and line.endswith("}")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    took: list[float] = []
    imports: list[float] = []
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "broker") as url:
        daemon = RunningDaemon(Path(folder) / "state", url, SETTINGS)
        daemon.start()
        daemon.wait(lambda v: v["state"] == "idle")
        producer = Producer(url, max_unread=100_000)
        producer.add_task(name="digits", modality="image", holdout=0.01)
        for number in range(options.rounds):
            x, y = images(120_000, number)
            for start in range(0, len(x), 64):
                producer.push("digits", x[start : start + 64], y[start : start + 64])
            producer.flush()
            now = daemon.vitals()["step"]
            daemon.wait(
                lambda v, now=now: v["step"] > now + 800
            )  # well inside the backlog, between checkpoints
            daemon.kill()
            imports.append(import_s())
            took.append(first_step_s(daemon))
            print(
                {
                    "start_to_first_step_s": round(took[-1], 3),
                    "import_torch_s": round(imports[-1], 3),
                }
            )
            daemon.wait(lambda v: v["state"] == "idle", 300)
        size = sum(
            path.stat().st_size for path in max((daemon.state / "checkpoints").glob("0*")).iterdir()
        )
        daemon.stop()
    beyond = [all_ - torch_ for all_, torch_ in zip(took, imports, strict=True)]
    figures = {
        "recovery_s": round(median(beyond), 3), "recovery_s_max": round(max(beyond), 3),
        "start_to_first_step_s": round(median(took), 3), "import_torch_s": round(median(imports), 3),
        "checkpoint_bytes": size, "rounds": options.rounds,
    }  # fmt: skip
    finish("recovery", figures, options.save)


if __name__ == "__main__":
    main()
