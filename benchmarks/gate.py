"""Does the gate ever make a worse snapshot champion, or leave a better one out, in random histories of every sort?

Histories are those of tests/support/histories.py: falls, gains, few rows, forced promotions, tasks that come, go or are
accepted, streams that grow to a hundred times their length. "Promote everything" and "promote nothing" are played too, to
see that the check finds them out. Then: how much a thousand small losses in a row add up to, and how many of the
snapshots of a model that stays as good are served.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import finish

from daemon.config import Gate
from daemon.gate import Candidate, judge
from tests.support.gatekeeping import TOLERANCE, World
from tests.support.histories import play


def everything(candidate: Candidate, settings: Gate) -> dict[str, Any]:
    return {**judge(candidate, settings), "decision": "promoted"}


def nothing(candidate: Candidate, settings: Gate) -> dict[str, Any]:
    told = judge(candidate, settings)
    return told if candidate.champion is None else {**told, "decision": "refused"}


def crept(seed: int, loss: float, promotions: int) -> float:
    """How much worse than the first the last champion is, if every snapshot is a little worse than the one before."""
    world = World(seed)
    world.add_task("t", 0.95)
    world.stream("t", 2000)
    for _ in range(promotions):
        world.move("t", world.quality["t"] - loss)
        world.stream("t", 20)
        world.publish()
    return 0.95 - world.truth[world.champions[-1]]["t"]


def served(seed: int, tasks: int) -> float:
    """The part of 200 snapshots of an equally good model that become champion."""
    world = World(seed)
    for number in range(tasks):
        world.add_task(f"t{number}", 0.95)
        world.stream(f"t{number}", 2000)
    for _ in range(200):
        for name in world.quality:
            world.stream(name, 20)
        world.publish()
    return len(world.champions) / 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    begin = perf_counter()
    seeds = range(options.seed, options.seed + options.histories)
    faults = {seed: told for seed in seeds if (told := play(seed))}
    some = list(seeds)[:200]
    figures = {
        "histories": options.histories,
        "with_faults": len(faults),
        "first_faults": dict(list(faults.items())[:3]),
        "promote_everything_found_out": sum(bool(play(seed, everything)) for seed in some)
        / len(some),
        "promote_nothing_found_out": sum(bool(play(seed, nothing)) for seed in some) / len(some),
        "tolerance": TOLERANCE,
        "lost_after_1000_snapshots_each_0.0005_worse": [
            round(crept(s, 0.0005, 1000), 4) for s in range(5)
        ],
        "served_of_equally_good": {str(n): round(served(options.seed, n), 3) for n in (1, 5, 20)},
        "seed": options.seed,
        "seconds": round(perf_counter() - begin, 1),
    }
    finish("gate", figures, options.save)


if __name__ == "__main__":
    main()
