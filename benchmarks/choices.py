"""Your stream: what to set? Settings beside the default on streams of long and of short phases, and of texts; see --help.

Long phases are Split-Fashion-MNIST's (375 steps), short ones MNIST 5k's (25 steps) and letters' (39 steps), the texts W6's. A
setting is one change to the default. Accuracy in the end, right after each phase (`new`), of the newest phase (`newest`),
forgetting, rows and bytes of the buffer, on test rows.
"""

from __future__ import annotations

import argparse
from statistics import mean
from typing import Any

import continual
from report import finish
from workloads import WORKLOADS

STREAMS = {
    "long": WORKLOADS["W1"],
    "short": WORKLOADS["mnist5k"],
    "letters": WORKLOADS["letters"],
    "texts": WORKLOADS["W6"],
}
CHOICES: dict[str, dict[str, Any]] = {
    "default": {},
    "buffer_rows = 100": {"buffer_rows": 100},
    "buffer_rows = 2000": {"buffer_rows": 2000},
    "buffer_rows = 10000": {"buffer_rows": 10_000},
    "replay_batch = 64": {"replay_batch": 64},
    "early = 0.5": {"strategy": {"name": "default", "early": 0.5}},
    "early = 1.4": {"strategy": {"name": "default", "early": 1.4}},
    "adjust = 2": {"strategy": {"name": "default", "adjust": 2.0}},
    "lr = 0.002": {"optimizer": {"name": "adamw", "lr": 0.002, "betas": [0.5, 0.95]}},
    'weights = "raw"': {"weights": "raw"},
    'strategy "er"': {
        "strategy": "er",
        "weights": "ema",
        "optimizer": {"name": "adamw", "lr": 0.001, "betas": [0.5, 0.95]},
    },
}
NUMBERS = ("accuracy", "new", "forgetting", "replay_rows", "replay_bytes")


def chosen(stream: str, settings: dict[str, Any], seeds: range) -> dict[str, float]:
    """Means over the seeds."""
    workload = STREAMS[stream]("test")
    said = {"strategy": "default", "num_threads": 1, **settings}
    runs = [continual.run(workload, said, seed) for seed in seeds]
    newest = mean(float(one["matrix"][-1][-1]) for one in runs)
    found = {name: mean(float(one[name]) for one in runs) for name in NUMBERS}
    return {name: round(value, 2) for name, value in {**found, "newest": newest}.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS))
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.seeds)
    figures: dict[str, Any] = {"seeds": list(seeds)}
    for stream in options.streams:
        figures[stream] = {}
        for name, settings in CHOICES.items():
            figures[stream][name] = chosen(stream, settings, seeds)
            print(stream, name, figures[stream][name], flush=True)
    finish("choices", figures, options.save)


if __name__ == "__main__":
    main()
