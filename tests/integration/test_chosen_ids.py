"""A producer that chooses the ids of its events cannot choose which of its rows are held out: ids do not enter."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from mtl_engine.rng import uniform
from tests.support.core import (
    add_task,
    differences,
    entries,
    feed,
    fields,
    machine,
    recovered,
    state_of,
)

if TYPE_CHECKING:
    from daemon.machine import LogMachine
    from tests.support.core import Fields

SEED, TASK, SOURCE, HOLDOUT = 0, "a", "test/1", 0.1
GOOD_ROWS, WRONG_ROWS = 1000, 400
SCORE = fields("mtl.control.v1", id="score", source="mtld", data={"kind": "evaluate"})


def was_held_out(event_id: str) -> bool:
    """The rule of old for an event of one row, which anybody can compute: a hash of seed, task, source and id."""
    parts = (str(SEED).encode(), TASK.encode(), SOURCE.encode(), event_id.encode())
    told = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    key = int.from_bytes(hashlib.sha256(told).digest()[:8], "little")
    return bool(uniform(key, "hold_out", 0, 1)[0] < HOLDOUT)


def events(rows: int, shift: int, seed: int, ids: list[str]) -> list[Fields]:
    """Events of one row of two classes each; with `shift` the labels are wrong."""
    draw = np.random.Generator(np.random.PCG64(seed))
    y_B = draw.integers(0, 2, rows)
    x_BD = draw.standard_normal((rows, 3)) + 3 * y_B[:, None]
    return [
        fields("mtl.data.v1", TASK, id=event_id, source=SOURCE, data=json.dumps({"x": [x], "y": [y]}))
        for event_id, x, y in zip(ids, x_BD.tolist(), ((y_B + shift) % 2).tolist(), strict=True)
    ]  # fmt: skip


def learned(ids: list[str]) -> LogMachine:
    """What good rows, and then wrong ones under these ids, make of a machine."""
    good = events(GOOD_ROWS, 0, 1, [f"good {number}" for number in range(GOOD_ROWS)])
    wrong = events(WRONG_ROWS, 1, 2, ids)
    one = machine(seed=SEED)
    feed(one, entries([add_task(TASK, holdout=HOLDOUT), *good, *wrong]))
    return one


def chosen(*, held_out: bool) -> list[str]:
    """Ids for the wrong rows, all of them on one side by the rule of old."""
    found: list[str] = []
    number = 0
    while len(found) < WRONG_ROWS:
        number += 1
        if was_held_out(f"wrong {number}") == held_out:
            found.append(f"wrong {number}")
    return found


def test_wrong_rows_under_chosen_ids_move_nothing_more_than_under_drawn_ones() -> None:
    drawn = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(WRONG_ROWS)]
    plain, *others = map(learned, (drawn, chosen(held_out=True), chosen(held_out=False)))
    held = plain.counters.held_out_rows
    assert abs(held - HOLDOUT * (GOOD_ROWS + WRONG_ROWS)) < 50, "as many as drawn, not all 400"
    for one in others:
        found = differences(recovered(state_of(one)), recovered(state_of(plain)))
        assert found == ["keys"], "of the ring: what events are known by"
    scores = [scored(one) for one in (plain, *others)]
    assert scores[0] == scores[1] == scores[2] < 1.0


def scored(one: LogMachine) -> float:
    feed(one, entries([SCORE | {"id": "again"}], start=9000))
    return one.evaluation.tasks[TASK]["score"]
