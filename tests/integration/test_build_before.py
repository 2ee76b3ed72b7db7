"""A build goes on from what the build before it left: its checkpoint, its log and its published snapshot.

What these files are and how they were made is told in tests/fixtures/README.md.
"""

from __future__ import annotations

import json
import shutil
from base64 import b64decode
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from daemon.checkpoint_store import Store
from daemon.config import load
from daemon.cut import position_of
from daemon.sources.memory import MemoryLog
from mtl_engine import snapshot
from mtl_engine.heldout import KINDS
from tests.support.core import eager, loop, play

if TYPE_CHECKING:
    from daemon.config import Config
    from daemon.loop import Loop

BEFORE = Path(__file__).resolve().parent.parent / "fixtures" / "build_4b44902"
TASKS = ["digits", "words", "flow"]


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    """The old settings over a copy of the old state."""
    state = tmp_path / "state"
    for part in ("checkpoints", "models"):
        shutil.copytree(BEFORE / part, state / part)
    return load(BEFORE / "mtld.toml", {"state_dir": str(state)})


@pytest.fixture
def log() -> MemoryLog:
    """The log as the server still had it: from the last applied entry on."""
    made = MemoryLog()
    for line in (BEFORE / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        made.add({name: b64decode(value) for name, value in entry["fields"].items()}, entry["id"])
    cuts = Store(BEFORE / "checkpoints")
    applied = position_of(cuts.manifest(cuts.lineage()[0])).n
    made.entries_added += applied - 1  # the entries before the first of these were trimmed
    return made


def _then() -> dict[str, Any]:
    """Where the old build stood when it stopped, at the checkpoint."""
    cuts = Store(BEFORE / "checkpoints")
    return cuts.load(cuts.lineage()[0]).meta


def _rows_of(log: MemoryLog) -> int:
    """The data rows that the log still has to give."""
    return sum(int(entry.fields.get(b"mtlrows", b"0")) for _, entry in log.rows[1:])


def _held_out(one: Loop) -> dict[str, Counter[bytes]]:
    """The inputs of every task's hold-outs, each with how often it is there."""
    held = one.machine.engine.judge.held_out
    found: dict[str, Counter[bytes]] = {}
    for name, kind in ((name, kind) for name in one.machine.engine.tasks for kind in KINDS):
        if held.count(name, kind):
            rows = held.sample(name, kind).rows
            found.setdefault(name, Counter()).update(row.tobytes() for row in rows.x)
    return found


def _entered(one: Loop) -> int:
    """Rows that were accepted: trained, held out, or waiting for their batch."""
    counters = one.machine.counters
    return counters.trained_rows + counters.held_out_rows + len(one.machine.batcher)


def test_the_state_is_what_the_old_build_left(settings: Config, log: MemoryLog) -> None:
    one, then = loop(settings, log), _then()
    counters = one.machine.counters
    assert one.machine.engine.step_count == then["engine"]["step_count"]
    assert counters.trained_rows == then["machine"]["counters"]["trained_rows"]
    assert counters.held_out_rows == then["machine"]["counters"]["held_out_rows"]
    assert len(one.machine.batcher) > 0
    assert one.machine.last_switch == then["machine"]["last_switch"]
    assert [row["parts"] for row in one.machine.engine.matrix_rows] == [
        row["parts"] for row in then["engine"]["matrix"]
    ]
    assert one.machine.guard.since == then["machine"]["guard"]["since"]
    assert one.process.next_version == 2


def test_the_old_settings_are_in_force(settings: Config, log: MemoryLog) -> None:
    one = loop(settings, log)
    engine = one.machine.engine
    assert list(engine.tasks) == TASKS
    assert {task.holdout for task in engine.tasks.values()} == {0.2}
    assert engine.tasks["words"].max_bytes == 24
    assert (engine.choice.weights, engine.seed, engine.focus) == ("ema", 5, ("words", "p5"))
    assert one.machine.batcher.batch_size == 32
    assert engine.state_dict().meta["defaults"] == 1, (
        "what its settings leave open stays what it was"
    )
    told = engine.describe()
    assert sum(table["capacity"] for table in told["replay"].values()) == 96
    assert {task["name"]: task["classes"] for task in told["tasks"]} == {
        "digits": [0, 10, 20, 30],
        "words": ["sky", "food"],
        "flow": [],
    }


def test_it_goes_on_over_the_log_and_accounts_for_every_row(
    settings: Config, log: MemoryLog
) -> None:
    old = json.loads((BEFORE / "after.json").read_text(encoding="utf-8"))
    one = loop(settings, log)
    entered, rows = _entered(one), _rows_of(log)
    play(one)
    counters = one.machine.counters
    assert _entered(one) == entered + rows
    assert one.reader.position.id == old["watermark"]
    assert (counters.dead_events, counters.duplicate_events, counters.lost_events) == (0, 0, 0)
    for name in ("accepted_events", "control_events"):
        assert getattr(counters, name) == old["counters"][name]
    assert one.machine.engine.focus == ("flow", "p6")
    assert len(one.machine.engine.matrix_rows) == old["matrix_rows"]
    assert (
        abs(one.machine.engine.step_count - old["step"]) <= 12
    )  # other rows are held out, and so are copies of those that were
    assert one.machine.engine.weights_finite()


def test_it_goes_on_by_the_same_steps_after_another_restart(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)
    play(one)
    again = loop(settings, log)
    assert again.machine.engine.step_count == one.machine.engine.step_count
    assert again.machine.counters == one.machine.counters


def test_the_hold_outs_it_had_stay_and_new_ones_join_them(settings: Config, log: MemoryLog) -> None:
    one = loop(settings, log)
    had = _held_out(one)
    assert all(rows.total() >= 24 for rows in had.values())
    play(one)
    has = _held_out(one)
    assert list(has) == list(had)
    for name, rows in had.items():
        assert not rows - has[name], f"hold-outs of {name} were dropped"
        assert has[name].total() > rows.total()


def test_the_published_snapshot_answers_as_it_did() -> None:
    model = snapshot.load(BEFORE / "models" / "v000001")
    told = np.load(BEFORE / "answers.npz")
    assert model.tasks == TASKS
    for task in TASKS:
        x = told[f"{task}.x"]
        given = x.tolist() if x.dtype.kind == "U" else x
        said, expected = model.predict(task, given), told[f"{task}.predict"]
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(said, expected, rtol=1e-6, atol=1e-6)
        else:
            assert said.tolist() == expected.tolist()
        if task != "flow":
            expected = told[f"{task}.predict_proba"]
            np.testing.assert_allclose(model.predict_proba(task, given), expected, atol=1e-6)
