"""The gate over histories of every sort: what is worse never becomes champion, what is better does, and nothing locks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from daemon.config import Gate
from daemon.gate import Candidate, judge
from tests.support.gatekeeping import KEPT, TOLERANCE, World

if TYPE_CHECKING:
    from daemon.types import Json
    from mtl_engine.paired import Paired

MIN_ROWS = Gate().min_rows
HISTORIES = 10_000
EVENTS = 12  # of one history
Z = 1.6449


def everything(candidate: Candidate, settings: Gate) -> Json:
    """A gate that promotes whatever comes."""
    return {**judge(candidate, settings), "decision": "promoted"}


def nothing(candidate: Candidate, settings: Gate) -> Json:
    """A gate that promotes nothing after the first."""
    told = judge(candidate, settings)
    return told if candidate.champion is None else {**told, "decision": "refused"}


def is_worse(paired: Paired) -> bool:
    """Beyond the tolerance by the paired interval, whose lower end is computed here once more."""
    return paired.loss > TOLERANCE and paired.loss - Z * paired.spread > TOLERANCE


def faults_of(verdict: Json, world: World, accepted: set[str]) -> list[str]:
    """What no verdict may do."""
    met: dict[str, Paired] = {
        name: paired
        for name, paired in verdict["met"].items()
        if paired.rows >= MIN_ROWS and name in world.quality and name not in accepted
    }
    promoted = verdict["decision"] == "promoted"
    bests = [task["best"] for task in verdict["tasks"].values() if task["best"] is not None]
    told = [f"a best of {best} is above the highest score" for best in bests if best > 1.0 + 1e-9]
    if promoted and any(is_worse(paired) for paired in met.values()):
        told.append("a worse one became champion")
    better = [name for name, paired in met.items() if paired.loss < 0]
    below = [name for name, paired in met.items() if paired.loss > 0]
    # Below its best on the rows of that one, as the verdict says, though not below the champion: it may be refused.
    if not promoted and better and not below and world.measures.lacks == {}:
        told.append("a better one did not become champion")
    return told


def play(seed: int, decide: object = judge) -> list[str]:
    """One random history; what went wrong in it."""
    world = World(seed, decide)  # pyright: ignore[reportArgumentType]
    draw = world.draw
    names = [f"t{number}" for number in range(int(draw.integers(1, 4)))]
    for name in names:
        world.add_task(name, float(draw.uniform(0.3, 0.97)))
        world.stream(name, int(draw.integers(1, 400)))
    found: list[str] = []
    accepted: set[str] = set()
    for event in range(EVENTS):
        act = int(draw.integers(10))
        name = str(draw.choice(list(world.quality)))
        if act == 0:
            world.quality[name] *= float(draw.uniform(0.3, 0.95))
        elif act == 1:
            world.quality[name] = min(0.99, world.quality[name] * float(draw.uniform(1.0, 1.3)))
        elif act == 2:
            world.quality[name] -= float(draw.uniform(0.0, 0.01))
        elif act == 3:
            world.stream(name, int(draw.integers(1, 100)))
        elif act == 4:
            world.stream(name, 100 * max(KEPT, len(world.held[name])))
        elif act == 5 and world.version:
            world.force()
        elif act == 6 and len(world.quality) < 5:
            world.add_task(f"n{event}", float(draw.uniform(0.3, 0.97)))
            world.stream(f"n{event}", int(draw.integers(1, 300)))
        elif act == 7 and len(world.quality) > 1:
            world.retire(name)
        elif act == 8 and world.version:
            world.accept(name)
            accepted.add(name)
        before = world.champions[-1:]
        found += faults_of(world.publish(), world, accepted)
        if world.champions[-1:] != before:
            accepted.clear()
    return found


def test_no_history_of_ten_thousand_makes_a_worse_snapshot_champion_or_a_best_above_the_highest() -> None:
    found = {seed: faults for seed in range(HISTORIES) if (faults := play(seed))}
    assert not found


@pytest.mark.parametrize(("decide", "fault"), [(everything, "worse"), (nothing, "better")])
def test_a_gate_that_promotes_everything_or_nothing_is_found_out(decide: object, fault: str) -> None:
    faults = [told for seed in range(300) for told in play(seed, decide)]
    assert any(fault in told for told in faults)
