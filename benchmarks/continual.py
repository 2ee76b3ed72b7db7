"""What does a strategy keep of a stream, and what does a step cost? One JSON line; see --help.

Accuracy, forgetting and the other numbers are those of `scoring.py`; the time ratio is that of `bare_loop.py` and is
measured apart from training, so evaluations do not count. `--save` keeps the line in benchmarks/results/continual.json,
which has one entry for a workload and a strategy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

import bare_loop
import methods
import numpy as np
import results
from report import described
from scoring import Curve, Examiner, numbers, untrained
from training import turns
from workloads import WORKLOADS
from workloads.base import SPLITS, Workload

from mtl_engine.engine import Engine

MEANS = {
    "forgetting": "forgetting_mean",
    "bwt": "bwt",
    "fwt": "fwt",
    "min_acc": "min_acc",
    "wc_acc": "wc_acc",
    "new": "new_acc",
    "old": "old_acc",
}


def run(
    workload: Workload, settings: Mapping[str, Any], seed: int, *, joint: bool = False
) -> dict[str, Any]:
    """One pass: the numbers of `scoring.numbers`, the curve, and the size of the replay buffer."""
    settings = {**workload.engine, **settings, "seed": seed}
    engine, examiner = Engine(**settings), Examiner(workload)
    count = len(workload.phases)
    matrix, curve = np.full((count, count), np.nan), Curve()
    for step, turn in enumerate(turns(engine, workload, seed, joint=joint), start=1):
        turn.train()
        if step % workload.every == 0 or turn.ends:
            known = [examiner.part(engine, k) for k in range(turn.phase + 1)]
            curve.step.append(step)
            curve.accuracy.append([*known, *[None] * (count - len(known))])
        if turn.ends:
            curve.ends.append(step)
            for k in range(
                min(turn.phase + 2, count)
            ):  # the next phase's too, before its first row
                matrix[turn.phase, k] = examiner.whole(engine, k)
    baseline = [] if joint else untrained(workload, settings)
    described = engine.describe()
    return {
        **numbers(matrix, baseline, curve),
        "matrix": matrix,
        "curve": curve.to_json(),
        "replay_rows": described["replay_rows"],
        "replay_bytes": described["replay_bytes"],
        "skipped_steps": described["skipped_steps"],
    }


def measured(
    workload: Workload, settings: Mapping[str, Any], seeds: int, *, joint: bool
) -> dict[str, Any]:
    """Means over seeds, in percent, with every seed's own numbers beside them."""
    runs = [run(workload, settings, seed, joint=joint) for seed in range(seeds)]
    accuracy = [one["accuracy"] for one in runs]
    found: dict[str, Any] = {
        "accuracy_mean": round(float(np.mean(accuracy)), 2),
        "accuracy_std": round(float(np.std(accuracy, ddof=1 if seeds > 1 else 0)), 2),
        **{key: _mean([one[name] for one in runs]) for name, key in MEANS.items()},
        "per_seed": {
            name: [None if one[name] is None else round(one[name], 2) for one in runs]
            for name in ("accuracy", *MEANS)
        },
        "final": [round(float(a), 2) for a in np.mean([one["matrix"][-1] for one in runs], 0)],
        "replay_rows": max(one["replay_rows"] for one in runs),
        "replay_bytes": max(one["replay_bytes"] for one in runs),
        "skipped_steps": sum(one["skipped_steps"] for one in runs),
        "evaluated_every": workload.every,
        "curve": runs[0]["curve"],
    }
    return found


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 2) if known else None


def parsed(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="W1")
    parser.add_argument("--strategy", default="default", help=f"{', '.join(methods.METHODS)}, ...")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="a setting")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-time", action="store_true", help="leave the time ratio out")
    parser.add_argument("--json", action="store_true", help="one JSON line and nothing else")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    given = parser.parse_args()
    if given.save and given.split != "test":
        parser.error("--save keeps results on test rows: leave out --split validation, or --save")
    settings = {**methods.settings(given.workload, given.strategy), **dict(map(parsed, given.set))}
    workload = WORKLOADS[given.workload](given.split)
    joint = given.strategy == methods.JOINT
    found = measured(workload, settings, given.seeds, joint=joint)
    times = dict.fromkeys(
        ("time_ratio_median", "time_ratio_min", "time_ratio_max", "rows_per_step")
    )
    if workload.bare_net is not None and not given.no_time:
        times |= bare_loop.ratio(workload, {**workload.engine, **settings}, joint=joint)
    line = described(
        "continual",
        {
            "workload": given.workload, "strategy": given.strategy, "split": given.split, "seeds": given.seeds,
            **found, **times, "settings": settings, **({"data": workload.data} if workload.data else {}),
        },
    )  # fmt: skip
    if given.save:
        results.keep(line)
    if not given.json:
        print({key: line[key] for key in ("accuracy_mean", *MEANS.values(), *times)})
    print(json.dumps(line))


if __name__ == "__main__":
    main()
