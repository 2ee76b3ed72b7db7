"""The command line that all peers share, and the file that their figures go to."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median, pstdev
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from protocol import BATCH, BUFFER, LR, Learner, Stream, run, stream

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).resolve().parent.parent / "results" / "peers.json"
SAME = (
    "peer",
    "workload",
    "strategy",
    "steps",
    "split",
    "alpha",
    "beta",
)  # newer replaces older where equal


def main(
    peer: str,
    make: Callable[[Stream, str, float, float], Learner],
    strategies: list[str],
    weights: tuple[float, float],
    versions: Callable[[], dict[str, str]],
) -> None:
    """Measure one strategy of one peer; `weights` are the defaults of DER++'s alpha and beta."""
    given = _arguments(strategies, weights)
    torch.set_num_threads(given.threads)
    runs: list[dict[str, Any]] = []

    def chosen(phases: Stream) -> Learner:
        return make(phases, given.strategy, given.alpha, given.beta)

    for seed in range(given.seeds):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        runs.append(run(chosen, stream(given.workload, given.split, seed, given.steps)))
        if not given.json:
            print(f"seed {seed}: accuracy {runs[-1]['accuracy']:.2f}")
    line = {
        "peer": peer,
        "workload": given.workload,
        "strategy": given.strategy,
        "split": given.split,
        "seeds": given.seeds,
        **_accuracy(runs, given.strategy),
        **({} if given.untimed else _time(runs, given.strategy)),
        **({"steps": given.steps} if given.steps else {}),
        **({"alpha": given.alpha, "beta": given.beta} if given.strategy == "derpp" else {}),
        "batch": BATCH,
        "buffer": BUFFER,
        "lr": LR,
        "threads": given.threads,
        "command": f"python benchmarks/peers/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, **versions()},
        "cpus": os.cpu_count(),
    }
    print(json.dumps(line))
    if given.save:
        _save(line)


def _arguments(strategies: list[str], weights: tuple[float, float]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--workload", choices=("W1", "W1m", "W2", "W3"), default="W1")
    parser.add_argument("--strategy", choices=strategies, default="er")
    parser.add_argument("--steps", type=int, help="of a phase, which otherwise has all its rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--alpha", type=float, default=weights[0], help="of DER++'s stored logits")
    parser.add_argument("--beta", type=float, default=weights[1], help="of DER++'s stored labels")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--untimed", action="store_true", help="no time ratios: others compute too")
    parser.add_argument("--json", action="store_true", help="one JSON line and nothing else")
    parser.add_argument("--save", action="store_true", help=f"also into {RESULTS.name}")
    given = parser.parse_args()
    if given.steps is not None and given.steps < 1:
        parser.error(f"--steps is {given.steps}: allowed are whole numbers >= 1, or leave it out")
    return given


def _accuracy(runs: list[dict[str, Any]], strategy: str) -> dict[str, float]:
    """Means and deviations over seeds; what learns everything at the end has nothing to forget."""
    found: dict[str, float] = {}
    for name in ("accuracy",) if strategy == "joint" else ("accuracy", "forgetting"):
        values = [one[name] for one in runs]
        found |= {f"{name}_mean": round(mean(values), 2), f"{name}_std": round(pstdev(values), 2)}
    return found


def _time(runs: list[dict[str, Any]], strategy: str) -> dict[str, float]:
    """Ratios of the phases of all seeds; of whole seeds where everything is learned at the end."""
    pairs = [pair for one in runs for pair in one["seconds"]]
    if strategy == "joint":
        pairs = [tuple(map(sum, zip(*one["seconds"], strict=True))) for one in runs]
    ratios = [peer / bare for peer, bare in pairs]
    found = {"median": median(ratios), "min": min(ratios), "max": max(ratios)}
    steps = {"time_pairs": len(ratios), "rows_per_step": max(max(one["rows"]) for one in runs)}
    return {**{f"time_ratio_{name}": round(ratio, 2) for name, ratio in found.items()}, **steps}


def _save(line: dict[str, Any]) -> None:
    kept = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    kept = [old for old in kept if any(old.get(key) != line.get(key) for key in SAME)]
    runs = sorted([*kept, line], key=lambda one: [str(one.get(key)) for key in SAME])
    RESULTS.write_text(json.dumps({"benchmark": "peers", "runs": runs}, indent=1) + "\n")
