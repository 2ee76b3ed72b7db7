"""One pass over a small stream: replay keeps what fine-tuning forgets, and the results file keeps one entry a pair."""

from __future__ import annotations

from pathlib import Path

import bare_loop
import continual
import methods
import pytest
import results

from mtl_engine.strategies import STRATEGIES
from tests.support import small_workloads as small

EASY = {"optimizer": {"name": "sgd", "lr": 0.1}, "weights": "raw"}


def test_replay_keeps_what_fine_tuning_forgets_and_joint_is_the_ceiling() -> None:
    found = {
        name: continual.measured(small.split(), {"strategy": name, **EASY}, 1, joint=False)
        for name in ("finetune", "er")
    }
    joint = continual.measured(small.split(), {"strategy": "er", **EASY}, 1, joint=True)
    assert found["finetune"]["accuracy_mean"] < 40
    assert found["finetune"]["forgetting_mean"] > 50
    assert found["er"]["accuracy_mean"] > found["finetune"]["accuracy_mean"] + 20
    assert found["er"]["min_acc"] > found["finetune"]["min_acc"]
    assert joint["accuracy_mean"] >= found["er"]["accuracy_mean"]
    assert joint["forgetting_mean"] is None
    assert found["er"]["replay_bytes"] > 60 * 784 > found["finetune"]["replay_bytes"]


def test_the_curve_has_every_phase_that_has_begun() -> None:
    curve = continual.run(small.split(), EASY, 0)["curve"]
    assert len(curve["ends"]) == 5
    assert curve["step"] == sorted({*range(3, curve["ends"][-1] + 1, 3), *curve["ends"]})
    for step, row in zip(curve["step"], curve["accuracy"], strict=True):
        begun = 1 + sum(step > end for end in curve["ends"])
        assert [a is not None for a in row] == [k < begun for k in range(5)]


def test_the_same_seed_gives_the_same_numbers() -> None:
    one, other = (continual.measured(small.split(5), EASY, 1, joint=False) for _ in range(2))
    assert one == other


def test_the_time_ratio_is_of_as_many_rows_as_a_step_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare_loop, "STEPS", 10)
    found = bare_loop.ratio(small.split(), small.ENGINE, joint=False, pairs=3)
    assert found["rows_per_step"] == 64
    assert 0 < found["time_ratio_min"] <= found["time_ratio_median"] <= found["time_ratio_max"]


@pytest.mark.parametrize("method", [*methods.METHODS, *STRATEGIES])
@pytest.mark.parametrize("workload", ["W1", "W4", "W5"])
def test_every_method_is_a_setting_of_the_engine(method: str, workload: str) -> None:
    settings = {**small.ENGINE, **methods.settings(workload, method)}
    assert continual.Engine.from_config(settings).step_count == 0


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SystemExit, match="er_ace"):
        methods.settings("W1", "er_aec")


def test_an_entry_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "continual.json"
    for workload, strategy, accuracy in (
        ("W2", "er", 1),
        ("W1", "er", 2),
        ("W1", "default", 3),
        ("W1", "er", 4),
    ):
        results.keep({"workload": workload, "strategy": strategy, "accuracy_mean": accuracy}, path)
    found = [(one["workload"], one["strategy"], one["accuracy_mean"]) for one in results.read(path)]
    assert found == [("W1", "default", 3), ("W1", "er", 4), ("W2", "er", 1)]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 5
