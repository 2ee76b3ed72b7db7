"""`mtld evaluate`: the hold-outs' scores, class by class and row by row, as the running daemon has them now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.commands.scorecard import mistakes
from tests.support.scorecards import appraisal, card

if TYPE_CHECKING:
    from daemon.types import Json
    from tests.daemon.commands.conftest import Answering, Mtld


@pytest.fixture(autouse=True)
def reply(daemon: Answering) -> Json:
    """What the daemon answers; a test may change it."""
    daemon.answers["evaluate"] = appraisal()
    return daemon.answers["evaluate"]


def words(text: str, start: str) -> list[list[str]]:
    """The lines that begin so, in words."""
    return [line.split() for line in text.splitlines() if line.startswith(start)]


def test_scores_the_worst_class_and_what_was_forgotten_are_shown(
    mtld: Mtld, daemon: Answering
) -> None:
    out = mtld("evaluate").out
    assert out.splitlines()[0] == "step 1,200: average accuracy 0.800, forgetting 0.050, BWT -"
    assert words(out, "fashion ") == [
        ["fashion", "288", "accuracy", "0.812", "0.854", "0.656", "shirt"]
    ]
    assert words(out, "price") == [["price", "140", "r2", "-", "-", "-"]]
    assert words(out, "fashion/") == [
        ["fashion/first", "0.850", "0.900", "0.050", "7", "worse,", "2", "better"],
        ["fashion/second", "0.750", "-", "-", "-"],
    ]
    assert daemon.asked[0].args.keys() == {"by"}


def test_it_says_that_nothing_changed_and_what_is_shown_elsewhere(mtld: Mtld, reply: Json) -> None:
    told = " ".join(mtld("evaluate").out.split())
    assert (
        "nothing was changed; status and page show the last evaluation of the log: step 1,100"
        in told
    )
    reply["logged"] = {"at": "", "step": 0}
    assert "status and page have no evaluation of the log yet" in mtld("evaluate").out


def test_json_is_the_daemons_answer(mtld: Mtld, reply: Json) -> None:
    assert mtld("evaluate", "-o", "json").json == reply


def test_a_task_that_is_named_is_told_class_by_class(mtld: Mtld, daemon: Answering) -> None:
    out = mtld("evaluate", "fashion").out
    assert daemon.asked[0].args["tasks"] == ["fashion"]
    assert "price" not in out
    assert words(out, "shirt") == [["shirt", "96", "0.656", "0.900", "5000"]]
    told = " ".join(out.split())
    for part in (
        "mistakes shirt answered as top: 30 rows top answered as shirt: 6 rows",
        "calibration ECE 0.021 (0.014 to 0.032), temperature 1.310",
        "0.950 0.895 75",  # the last of ten bins
        "sources camera-7/4f 0.113 of its newest 850 rows",
        "flipped fashion/first: of the 140 rows that were there at step 800, 7 answered worse now and 2 better",
    ):
        assert part in told


def test_a_task_without_classes_has_its_metrics_alone(mtld: Mtld) -> None:
    out = mtld("evaluate", "price").out
    assert "price       r2 -, mae 12.500" in out
    assert "CLASS " not in out.replace("WORST CLASS", "")
    assert "fashion" not in out


def test_of_many_classes_the_worst_are_shown_and_long_names_are_cut(
    mtld: Mtld, reply: Json
) -> None:
    labels = [f"class {number} {'of a long name ' * 9}" for number in range(40)]
    counts = [
        [20 - row if row == column else row if column == 0 else 0 for column in range(40)]
        for row in range(20)
    ]
    reply["scorecards"]["fashion"] = card(labels, counts + [[0] * 40] * 20)
    out = mtld("evaluate", "fashion").out
    shown = words(out, "class ")
    assert [line[1] for line in shown[:2]] == ["19", "18"]  # the lowest recall first
    assert len(shown) == 16
    assert "and 24 more: `-o json`" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_task_nobody_named_wrongly_is_refused(mtld: Mtld) -> None:
    wrong = mtld("evaluate", "fashoin")
    assert (wrong.code, wrong.out) == (2, "")
    assert "did you mean 'fashion'?" in wrong.err


def test_before_any_hold_out_there_is_nothing_to_score(mtld: Mtld, daemon: Answering) -> None:
    empty = {"rows": [], "average_accuracy": None, "forgetting": None, "bwt": None}
    daemon.answers["evaluate"] = {"step": 0, "scores": {}, "matrix": empty}
    assert mtld("evaluate").out.endswith("no rows are held out yet\n")


def test_mistakes_are_the_same_whether_told_as_counts_or_as_pairs() -> None:
    counts = {"labels": [3, 8], "counts": [[9, 1], [7, 2]]}
    pairs = {"pairs": [{"class": 8, "answered": 3, "rows": 7}, {"class": 3, "answered": 8, "rows": 1}]}  # fmt: skip
    assert mistakes(counts) == mistakes(pairs) == [(7, "8", "3"), (1, "3", "8")]
    assert mistakes({}) == []
