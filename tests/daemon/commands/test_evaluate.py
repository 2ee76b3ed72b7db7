"""`mtld evaluate`: the hold-outs' scores and the accuracy matrix as the running daemon has them now."""

from __future__ import annotations

import pytest

from tests.daemon.commands.conftest import Answering, Mtld

REPLY = {
    "step": 1200,
    "scores": {"fashion": {"accuracy": 0.8125}, "price": {"r2": None, "mae": 12.5}},
    "matrix": {
        "rows": [
            {"step": 400, "task": None, "phase": None, "parts": {"fashion/first": 0.9}},
            {"step": 800, "task": "fashion", "phase": "first", "parts": {"fashion/first": 0.7}},
            {"step": 1200, "task": "fashion", "phase": "second",
             "parts": {"fashion/first": 0.85, "fashion/second": 0.75}},
        ],
        "average_accuracy": 0.8, "forgetting": 0.05, "bwt": None,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _answers(daemon: Answering) -> None:  # pyright: ignore[reportUnusedFunction]
    daemon.answers["evaluate"] = REPLY


def test_scores_and_what_was_forgotten_are_shown(mtld: Mtld, daemon: Answering) -> None:
    lines = mtld("evaluate").out.splitlines()
    assert lines[0] == "step 1,200: average accuracy 0.800, forgetting 0.050, BWT -"
    assert [line.split() for line in lines if line.startswith("price")] == [
        ["price", "r2", "-", "mae", "12.500"]
    ]
    assert [line.split() for line in lines if line.startswith("fashion/")] == [
        ["fashion/first", "0.85", "0.9", "0.05"],
        ["fashion/second", "0.75", "-", "-"],
    ]
    assert daemon.asked[0].args.keys() == {"by"}


def test_json_is_the_daemons_answer(mtld: Mtld) -> None:
    assert mtld("evaluate", "-o", "json").json == REPLY


def test_some_tasks_are_chosen_by_name(mtld: Mtld) -> None:
    out = mtld("evaluate", "price").out
    assert "price" in out
    assert "fashion" not in out
    wrong = mtld("evaluate", "fashoin")
    assert (wrong.code, wrong.out) == (2, "")
    assert "did you mean 'fashion'?" in wrong.err


def test_before_any_hold_out_there_is_nothing_to_score(mtld: Mtld, daemon: Answering) -> None:
    empty = {"rows": [], "average_accuracy": None, "forgetting": None, "bwt": None}
    daemon.answers["evaluate"] = {"step": 0, "scores": {}, "matrix": empty}
    assert mtld("evaluate").out.endswith("no rows are held out yet\n")
