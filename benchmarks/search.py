"""Which strategy, with which settings, should be the default? One JSON line for a candidate; see --help.

Everything is measured on the validation split (the last sixth of the training rows, trained on the rest); test rows
are never read. `benchmarks/results/search.json` has every score, also of what did not help, and the frontier between
new and old: candidates of W1 that no other one beats both in the accuracy on the last phase and on the earlier ones.
Candidates that are in the file already are not run again, so a search that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import continual
import numpy as np
from report import RESULTS, described
from workloads import WORKLOADS
from workloads.base import Workload

FILE = RESULTS / "search.json"
LAYER = {"width": 256, "depth": 2, "norm": "layer"}  # the engine's own trunk
Entry = tuple[str, str, dict[str, Any]]  # workload, what it is, settings


def _engine(strategy: Any, lr: float, **settings: Any) -> dict[str, Any]:
    weights, optimizer = settings.pop("weights", "ema"), {"name": "sgd", "lr": lr}
    return {"strategy": strategy, "weights": weights, "optimizer": optimizer, **settings}


def _candidate(lr: float, /, engine: dict[str, Any] | None = None, **terms: Any) -> dict[str, Any]:
    return _engine({"name": "candidates:Candidate", **terms}, lr, **(engine or {}))


def _both(workloads: tuple[str, ...], what: str, settings: dict[str, Any]) -> Iterator[Entry]:
    """On the plain trunk and on the engine's own."""
    for workload in workloads:
        yield workload, what, settings
        yield workload, f"{what}, LayerNorm", {**settings, "trunk": LAYER}


def grid() -> Iterator[Entry]:
    """Every candidate, in the order of the questions asked."""
    for part in (_known, _dark, _distances, _shifts, _weights, _training, _mixed, _short):
        yield from part()


def _known() -> Iterator[Entry]:
    """Strategies of the table, with raw and with averaged weights."""
    yield "W1", "er, raw weights", _engine({"name": "er", "adjust": 0.0}, 0.03, weights="raw")
    yield "W1", "er", _engine({"name": "er", "adjust": 0.0}, 0.2)
    yield "W1", "er_ace", _engine("er_ace", 0.2)
    yield from _both(("W1", "mnist5k"), "er, adjusted", _engine({"name": "er", "adjust": 1.0}, 0.15))  # fmt: skip
    yield "W1", "derpp", _engine({"name": "derpp", "alpha": 0.2, "beta": 1.0}, 0.1)


def _dark_er(
    lr: float, clip: float, alpha: float, adjust: float = 1.0
) -> tuple[str, dict[str, Any]]:
    """What it is called, and its settings."""
    strategy = {"name": "dark_er", "alpha": alpha, "adjust": adjust}
    what = f"dark_er, step {lr}, clip {clip}, alpha {alpha}, adjust {adjust}"
    return what, _engine(strategy, lr, clip_norm=clip)


def _dark() -> Iterator[Entry]:
    """Step size, longest gradient, pull of the stored outputs and strength of the adjustment."""
    steps = (0.1, 10.0), (0.15, 10.0), (0.2, 10.0), (0.2, 2.0), (0.2, 1.0), (0.3, 1.0), (0.3, 0.5), (0.4, 1.0), (0.4, 0.7)  # fmt: skip
    for lr, clip in steps:
        yield from _both(("W1", "mnist5k"), *_dark_er(lr, clip, 0.1))
    for alpha, adjust in ((0.1, 1.1), (0.2, 1.0), (0.2, 1.1), (0.0, 1.0)):
        yield from _both(("W1", "mnist5k"), *_dark_er(0.3, 1.0, alpha, adjust))
    yield from _both(("mnist5k",), *_dark_er(0.4, 1.0, 0.2, 1.1))
    yield "mnist5k", *_dark_er(0.5, 1.0, 0.1)
    for lr, clip in ((0.1, 10.0), (0.15, 10.0), (0.2, 10.0), (0.2, 1.0), (0.2, 0.5), (0.25, 1.0), (0.3, 1.0)):  # fmt: skip
        yield "W2", *_dark_er(lr, clip, 0.1)
    for workload in ("W1s", "W2", "W3"):
        for adjust in (1.0, 1.1):
            yield workload, *_dark_er(0.3, 1.0, 0.2, adjust)
        yield workload, "er, adjusted", _engine({"name": "er", "adjust": 1.0}, 0.15)
    yield "W1s", *_dark_er(0.2, 10.0, 0.1)


def _distances() -> Iterator[Entry]:
    """How far replayed rows are from their stored outputs."""
    for lr in (0.1, 0.15, 0.2):
        settings = _engine({"name": "derpp", "alpha": 0.2, "beta": 1.0, "adjust": 1.0}, lr)
        yield from _both(("W1", "mnist5k"), f"derpp, adjusted, step {lr}", settings)
    for distance, alpha in (("huber", 0.5), ("huber_sum", 0.5), ("sum", 0.2), ("centred", 0.2), ("kl", 0.5), ("kl", 1.0)):  # fmt: skip
        what = f"distance {distance}, alpha {alpha}"
        yield from _both(("W1", "mnist5k"), what, _candidate(0.1, alpha=alpha, distance=distance))


def _shifts() -> Iterator[Entry]:
    """Which logits are shifted, and by which shares."""
    for s, m in ((1.0, 0.5), (1.0, 0.0), (0.5, 1.0), (0.8, 0.8), (1.2, 1.2), (1.5, 1.5)):
        what, terms = f"derpp, adjust {s} stream, {m} memory", {"stream_adjust": s, "memory_adjust": m}  # fmt: skip
        yield "W1", what, _candidate(0.1, alpha=0.2, **terms)
    for rate in (0.9, 0.99):
        yield "W1", f"derpp, running shares {rate}", _candidate(0.1, alpha=0.2, rate=rate)
    for close, adjust in ((1.0, 0.0), (2.0, 0.0), (1e9, 0.0), (1.0, 0.5), (2.0, 0.5)):
        what, terms = f"derpp, close {close:g}, adjust {adjust}", {"stream_adjust": adjust, "memory_adjust": adjust}  # fmt: skip
        yield "W1", what, _candidate(0.1, alpha=0.2, close=close, **terms)


def _weights() -> Iterator[Entry]:
    """What rows weigh, and what an averaged teacher adds."""
    for memory in (0.5, 2.0):
        yield "W1", f"derpp, memory {memory}", _candidate(0.1, alpha=0.2, memory=memory)
    for balance in (0.5, 0.7):
        yield "W1", f"derpp, balance {balance}", _candidate(0.1, alpha=0.2, balance=balance)
    for rows in ("all", "memory"):
        for kd, old in ((0.5, False), (1.0, False), (1.0, True)):
            what = f"er + teacher {kd} on {rows}{', old classes' if old else ''}"
            terms = {"kd": kd, "kd_rows": rows, "kd_old": old}
            yield "W1", what, _candidate(0.1, {"teacher_every": 8}, **terms)


def _training() -> Iterator[Entry]:
    """Averaging, the optimizer, a larger buffer."""
    what, settings = _dark_er(0.3, 1.0, 0.2, 1.1)
    for decay in (0.99, 0.98):
        yield "W1", f"{what}, average {decay}", {**settings, "ema_decay": decay}
    for lr in (3e-4, 7e-4):
        optimizer = {"optimizer": {"name": "adamw", "lr": lr}}
        yield from _both(("W1",), f"dark_er, adamw {lr}", {**settings, **optimizer})
    for rows in (1000, 2000, 10000):
        yield "W1", f"{what}, buffer {rows}", {**settings, "buffer_rows": rows}


def _mixed() -> Iterator[Entry]:
    """W5: width and norm of the trunk, the average, and how far logits are adjusted."""
    for width, norm, decay, adjust in (
        (256, "layer", 0.99, 1.8), (256, "layer", 0.99, 2.2), (256, "layer", 0.995, 1.8), (256, "none", 0.995, 1.8),
        (512, "layer", 0.995, 1.8), (512, "layer", 0.995, 2.0), (512, "layer", 0.998, 1.8), (512, "none", 0.99, 1.5),
        (512, "none", 0.99, 1.8), (512, "none", 0.995, 1.8), (512, "none", 0.997, 1.8),
    ):  # fmt: skip
        strategy = {"name": "dark_er", "adjust": adjust}
        settings = {
            "strategy": strategy,
            "weights": "ema",
            "ema_decay": decay,
            "optimizer": {"name": "adamw", "lr": 0.002},
            "warm_steps": 0,
        }
        trunk = {"width": width, "depth": 2, "norm": norm}
        what = f"dark_er, trunk {width} {norm}, average {decay}, adjust {adjust}"
        yield "W5", what, {**settings, "trunk": trunk}


def _short() -> Iterator[Entry]:
    """AdamW's memory, and how class shares count while something is new, on long and on short phases; nothing set by stream."""
    shorter = (0.5, 0.95)
    found = [
        (betas, 1.0, 1.0) for betas in ((0.9, 0.999), (0.9, 0.99), (0.9, 0.95), (0.8, 0.95), (0.0, 0.95), shorter)
    ] + [(shorter, early, late) for early, late in ((0.9, 0.9), (0.7, 1.2), (0.7, 1.4), (0.75, 1.4), (0.85, 1.4))]  # fmt: skip
    for betas, early, late in found:
        strategy = {"name": "dark_er", "alpha": 0.3, "adjust": late, "early": early}
        optimizer = {"name": "adamw", "lr": 0.001, "betas": list(betas)}
        settings = {
            "strategy": strategy,
            "weights": "ema",
            "optimizer": optimizer,
            "clip_norm": 1.0,
        }
        for workload in ("W1", "mnist5k", "letters", "satimage", "regressions"):
            yield workload, f"adamw {betas}, adjust {early} to {late}", settings


def score(workload: Workload, settings: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Every seed's scores; `new` is the last phase's accuracy at the end, `old` the mean of the others."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        one = continual.run(workload, {**settings, "num_threads": 1}, seed)
        last = one["matrix"][-1]
        scores = {name: one[name] for name in ("accuracy", "forgetting", "min_acc")}
        for name, value in {**scores, "new": last[-1], "old": last[:-1].mean()}.items():
            found.setdefault(name, []).append(round(float(value), 2))
    return {name: {"mean": round(float(np.mean(v)), 2), "seeds": v} for name, v in found.items()}


def frontier(entries: list[dict[str, Any]], workload: str = "W1") -> list[dict[str, Any]]:
    """Candidates with the buffer of 500 that no other one beats in both, from the oldest-minded to the newest-minded."""
    points = [(e["new"]["mean"], e["old"]["mean"], e["candidate"]) for e in entries
              if e["workload"] == workload and "buffer" not in e["candidate"]]  # fmt: skip
    kept = [p for p in points if not any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)]
    return [{"candidate": name, "new": new, "old": old} for new, old, name in sorted(kept)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), help="only this one's candidates")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, default=1000, help="candidates to run in this call")
    given = parser.parse_args()
    line = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    entries: list[dict[str, Any]] = line.get("candidates", [])
    known = {(e["workload"], e["candidate"]) for e in entries}
    left = [e for e in grid() if e[:2] not in known and given.workload in (None, e[0])]
    for name, what, settings in left[: given.most]:
        found = score(WORKLOADS[name]("validation"), settings, given.seeds)
        entry = {"workload": name, "candidate": what, "settings": settings, **found}
        entry["git"] = described("search", {})["git"]
        print(json.dumps(entry), flush=True)
        entries.append(entry)
        line = described("search", {"split": "validation", "frontier": frontier(entries)})
        rows = ",\n".join(json.dumps(entry) for entry in entries)
        head = json.dumps(line, indent=1).removesuffix("\n}")
        FILE.write_text(f'{head},\n "candidates": [\n{rows}\n ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
