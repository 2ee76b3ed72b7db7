"""How much of a bare PyTorch loop's speed is left after Redis, decoding, replay, and a checkpoint every 5 s?

Alternates in one run: the daemon works through a backlog of 28x28 uint8 rows in events of 64, then a bare loop
trains the same net on float32 rows ready in memory with torch's default SGD and as many rows per step (stream +
replayed). The ratio is steps per second against steps per second; a ratio above 1 means that the daemon is faster.
The daemon's rate is taken between two of its own vitals while it is training, so start-up and draining are left
out, and every checkpoint in between is in.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import redis
import torch
from report import finish
from running import RunningDaemon, images, server

from daemon.producer import Producer

EVENT_ROWS = 64
STREAM, MEMORY = 32, 32
SETTINGS = """
[engine]
strategy = "{strategy}"
replay_batch = {memory}
num_threads = 2
trunk = {{width = 256, depth = 2, norm = "none"}}
[stream]
batch_size = {stream}
max_unread = 100000
[checkpoint]
every_s = 5.0
"""


def bare_steps_per_s(seconds: float) -> float:
    """Steps per second of the plainest loop that trains the same net on as many rows per step."""
    torch.set_num_threads(2)
    net = torch.nn.Sequential(
        torch.nn.Linear(784, 256), torch.nn.ReLU(),
        torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.03)
    x, y = images(20_000)
    rows = torch.from_numpy(x).reshape(-1, 784).float() / 255
    labels = torch.from_numpy(y)
    size = STREAM + MEMORY
    begin, steps = perf_counter(), 0
    while perf_counter() - begin < seconds:
        at = steps * size % (len(rows) - size)
        loss = torch.nn.functional.cross_entropy(net(rows[at : at + size]), labels[at : at + size])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    return steps / (perf_counter() - begin)


def daemon_steps_per_s(
    daemon: RunningDaemon, producer: Producer, num_rows: int, seed: int
) -> tuple[float, int]:
    """Steps per second over a backlog, and how many checkpoints were made meanwhile."""
    daemon.ask("pause", reason="filling the log")
    x, y = images(num_rows, seed)
    for start in range(0, num_rows, EVENT_ROWS):
        producer.push("digits", x[start : start + EVENT_ROWS], y[start : start + EVENT_ROWS])
    producer.flush()
    _settle(daemon.url)
    target = daemon.vitals()["counters"]["trained_rows"] + num_rows - EVENT_ROWS
    daemon.ask("resume")
    samples = []
    while True:
        found = daemon.wait(
            lambda v: not samples or v["written_at"] != samples[-1]["written_at"], poll_s=0.1
        )
        if found["state"] == "training":
            samples.append(found)
        if found["counters"]["trained_rows"] >= target or found["state"] == "idle":
            break
    first, last = samples[1], samples[-1]  # the first one may still hold the moment of resuming
    seconds = (
        datetime.fromisoformat(last["written_at"]) - datetime.fromisoformat(first["written_at"])
    ).total_seconds()
    return (last["step"] - first["step"]) / seconds, last["checkpoint"]["seq"] - first[
        "checkpoint"
    ]["seq"]


def _settle(url: str) -> None:
    """Until the server has rewritten its file of what was pushed: filling the log is not what is measured."""
    server = redis.Redis.from_url(url)
    while server.info("persistence")["aof_rewrite_in_progress"]:
        sleep(0.1)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategy", default="default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=300_000, help="rows of backlog per round")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "broker") as url:
        settings = SETTINGS.format(strategy=options.strategy, stream=STREAM, memory=MEMORY)
        daemon = RunningDaemon(Path(folder) / "state", url, settings)
        daemon.start()
        daemon.wait(lambda v: v["state"] == "idle")
        producer = Producer(url, max_unread=100_000)
        producer.add_task(name="digits", modality="image", holdout=0.0)
        for number in range(options.rounds):
            bare = bare_steps_per_s(4.0)
            steps, checkpoints = daemon_steps_per_s(daemon, producer, options.rows, number)
            bare = (bare + bare_steps_per_s(4.0)) / 2
            rounds.append(
                {"bare": bare, "daemon": steps, "ratio": steps / bare, "checkpoints": checkpoints}
            )
            print({key: round(value, 3) for key, value in rounds[-1].items()})
        stage_ms = daemon.vitals()["checkpoint"]["stage_ms"]
        daemon.stop()
    ratios = [one["ratio"] for one in rounds]
    figures = {
        "strategy": options.strategy, "rows_per_event": EVENT_ROWS, "rows_per_step": [STREAM, MEMORY],
        "ratio_median": round(median(ratios), 3), "ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3),
        "daemon_rows_per_s": round(median(one["daemon"] for one in rounds) * STREAM),
        "bare_rows_per_s": round(median(one["bare"] for one in rounds) * STREAM),
        "checkpoints": sum(int(one["checkpoints"]) for one in rounds), "stage_ms_last": stage_ms,
        "rounds": options.rounds,
    }  # fmt: skip
    which = "" if options.strategy == "default" else f"_{options.strategy}"
    finish(f"daemon_throughput{which}", figures, options.save)


if __name__ == "__main__":
    main()
