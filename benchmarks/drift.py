"""How many true changes of a stream are found within 2,000 rows, and how many false alarms are raised? One JSON line; see --help.

Each stream goes through the engine in batches of 32 rows; an alarm marks a phase at once, as the daemon does when it
reads its own decision back. The control is the same rows shuffled: nothing changes in it, so every alarm is false.

- sea: Street and Kim 2001, 60,000 rows, x uniform in [0, 10]^3, y = x1 + x2 > theta with 10% flipped, theta 8, 9, 7, 9.5.
- sea-short: the same in 12 concepts of 4,000 to 8,000 rows in random order.
- stagger: Schlimmer and Granger 1986, three attributes of three values, three concepts, 12 of them in random order.
- fashion-labels: Fashion-MNIST, labels permuted anew every 4,000 to 8,000 rows.
- fashion-pixels: Fashion-MNIST, pixels permuted anew every 4,000 to 8,000 rows: the inputs change.
- fashion-classes: Fashion-MNIST, two classes after the other, nobody says when: new classes are not counted as drift,
  so every alarm is one too many.
- fashion: Fashion-MNIST in its own order, shuffled: a model that learns, and nothing to be found.

`delta` was chosen with --first 100; figures are of the seeds from 0 on.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from report import finish
from workloads.sources import fashion

from mtl_engine.drift import Drift
from mtl_engine.engine import Engine
from mtl_engine.types import Array, TaskSpec

BATCH = 32
WITHIN = 2000  # rows after a change in which an alarm finds it
Stream = tuple[Array, Array, list[int]]  # inputs, labels, rows at which something changes


def sea_rows(draw: np.random.Generator, num: int, concept: int) -> tuple[Array, Array]:
    x = draw.uniform(0, 10, (num, 3)).astype(np.float32)
    y = x[:, 0] + x[:, 1] > (8.0, 9.0, 7.0, 9.5)[concept]
    return x, (y ^ (draw.random(num) < 0.1)).astype(np.int64)


def stagger_rows(draw: np.random.Generator, num: int, concept: int) -> tuple[Array, Array]:
    values = draw.integers(0, 3, (num, 3))
    size, colour, shape = values.T  # small medium large, red green blue, square circle triangle
    y = ((size == 0) & (colour == 0), (colour == 1) | (shape == 1), size >= 1)[concept]
    return np.eye(3, dtype=np.float32)[values].reshape(num, 9), y.astype(np.int64)


def lengths(draw: np.random.Generator, rows: int) -> list[int]:
    """Rows of each concept, about `rows` together."""
    found: list[int] = []
    while sum(found) < rows - 4000:
        found.append(int(draw.integers(4000, 8000)))
    return found


def concepts(
    draw: np.random.Generator, make: Callable[..., tuple[Array, Array]], num: int
) -> Stream:
    """Concepts in random order, never the same twice running."""
    parts: list[tuple[Array, Array]] = []
    counts, concept = lengths(draw, 70_000), int(draw.integers(num))
    for count in counts:
        parts.append(make(draw, count, concept))
        concept = (concept + int(draw.integers(1, num))) % num
    return _joined(parts)


def _joined(parts: list[tuple[Array, Array]]) -> Stream:
    at = np.cumsum([len(y) for _, y in parts])[:-1].tolist()
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]), at


def images(draw: np.random.Generator, what: str) -> Stream:
    x, y, _, _ = fashion()
    order = draw.permutation(len(y))
    x, y = x[order], y[order]
    if what == "classes":
        order = np.argsort(y // 2, kind="stable")
        return x[order], y[order], []
    if not what:
        return x, y, []
    at = [c for c in np.cumsum(lengths(draw, len(y))).tolist() if c < len(y) - WITHIN]
    for change, end in zip(at, [*at[1:], len(y)], strict=True):
        if what == "labels":
            y[change:end] = draw.permutation(10)[y[change:end]]
        else:
            flat = x[change:end].reshape(-1, 784)
            x[change:end] = flat[:, draw.permutation(784)].reshape(-1, 28, 28)
    return x, y, at


STREAMS: dict[str, Callable[[np.random.Generator], Stream]] = {
    "sea": lambda draw: _joined([sea_rows(draw, 15_000, concept) for concept in range(4)]),
    "sea-short": lambda draw: concepts(draw, sea_rows, 4),
    "stagger": lambda draw: concepts(draw, stagger_rows, 3),
    "fashion-labels": lambda draw: images(draw, "labels"),
    "fashion-pixels": lambda draw: images(draw, "pixels"),
    "fashion-classes": lambda draw: images(draw, "classes"),
    "fashion": lambda draw: images(draw, ""),
}


def alarms(x: Array, y: Array, seed: int, delta: float) -> list[tuple[int, str]]:
    """(rows read, what had changed) of every alarm."""
    engine, drift = Engine(seed=seed, num_threads=1), Drift(delta, seed)
    engine.add_task(TaskSpec("t", modality="image" if x.ndim == 3 else "table"))
    engine.watch(drift)
    found: list[tuple[int, str]] = []
    for start in range(0, len(y), BATCH):
        engine.observe("t", x[start : start + BATCH], y[start : start + BATCH])
        if drift.alarms:
            found.append((start + BATCH, str(drift.alarms["t"]["signal"])))
            engine.switch_task("t", f"drift-{engine.step_count}")
            drift.reset("t")
    return found


def measured(name: str, seeds: range, delta: float) -> dict[str, Any]:
    changes = rows = elsewhere = control_rows = 0
    delays: list[int] = []
    false: Counter[str] = Counter()
    signals: Counter[str] = Counter()
    for seed in seeds:
        draw = np.random.default_rng(seed)
        x, y, at = STREAMS[name](draw)
        found = alarms(x, y, seed, delta)
        first = [next((a for a in found if c < a[0] <= c + WITHIN), None) for c in at]
        changes, rows = changes + len(at), rows + len(y)
        delays += [a[0] - c for a, c in zip(first, at, strict=True) if a is not None]
        signals += Counter(a[1] for a in first if a is not None)
        elsewhere += sum(not any(c < a[0] <= c + WITHIN for c in at) for a in found)
        order = draw.permutation(len(y))
        false += Counter(signal for _, signal in alarms(x[order], y[order], seed, delta))
        control_rows += len(y)
    return {
        "stream": name,
        "seeds": [seeds.start, seeds.stop - 1],
        "changes": changes,
        "found_within_2000": len(delays),
        "found_share": round(len(delays) / changes, 3) if changes else None,
        "delay_median_rows": int(np.median(delays)) if delays else None,
        "delay_p90_rows": int(np.quantile(delays, 0.9)) if delays else None,
        "found_by": dict(signals),
        "other_alarms_per_50k": round(5e4 * elsewhere / rows, 2),
        "control_rows": control_rows,
        "control_alarms": dict(false),
        "control_false_per_50k": round(5e4 * sum(false.values()) / control_rows, 2),
    }


class Timed(Drift):
    """A detector that knows how long it took."""

    seconds = 0.0

    def see(self, *given: Any) -> None:
        begin = time.perf_counter()
        super().see(*given)
        self.seconds += time.perf_counter() - begin


def cost(pairs: int) -> dict[str, float]:
    """Steps with the detector against steps without, and the part of the former that is spent in it."""
    x, y, _, _ = fashion()
    engines, drift = [Engine(num_threads=1), Engine(num_threads=1)], Timed()
    engines[1].watch(drift)
    for engine in engines:
        engine.add_task(TaskSpec("t"))
    seconds: list[list[float]] = [[], []]
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            begin = time.perf_counter()
            for step in range(300):
                start = (pair * 300 + step) * BATCH % (len(y) - BATCH)
                engines[which].observe("t", x[start : start + BATCH], y[start : start + BATCH])
                if drift.alarms:  # else it would rest from here on
                    drift.reset("t")
            seconds[which].append(time.perf_counter() - begin)
    off, on = np.array(seconds)
    return {
        "cost_ratio_median": round(float(np.median(on / off)), 4),
        "cost_ratio_min": round(float((on / off).min()), 4),
        "cost_ratio_max": round(float((on / off).max()), 4),
        "detector_share": round(drift.seconds / float(on.sum()), 4),
        "detector_us_a_step": round(drift.seconds / (300 * pairs) * 1e6, 1),
        "step_us_median": round(float(np.median(off)) / 300 * 1e6, 1),
        "cost_pairs": pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--stream", action="append", choices=sorted(STREAMS), help="some streams only"
    )
    parser.add_argument("--seeds", type=int, default=10, help="0 = timings only, saved apart")
    parser.add_argument(
        "--first", type=int, default=0, help="the first seed; choose settings on 100 and on"
    )
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--pairs", type=int, default=15, help="of timings; 0 = none")
    parser.add_argument("--json", action="store_true", help="one JSON line and nothing else")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    given = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for name in (given.stream or STREAMS) if given.seeds else ():
        runs.append(measured(name, range(given.first, given.first + given.seeds), given.delta))
        if not given.json:
            print(runs[-1], flush=True)
    told = cost(given.pairs) if given.pairs else {}
    finish(
        "drift" if given.seeds else "drift_cost",
        {"delta": given.delta, "streams": runs, **told},
        given.save,
    )


if __name__ == "__main__":
    main()
