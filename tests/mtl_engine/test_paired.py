"""How much was lost on the same rows, and how sure that is: against enumeration, the normal tail and the metrics themselves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_engine.paired import ONE_SIDED_95, Paired, RowBase, RowErrors, chance, compare, wilson

SOME = st.floats(-1, 1).map(lambda value: round(value, 3))


def exact(loss_H: np.ndarray) -> float:
    """P(sum of +-|d_i| >= sum d_i) over all ways in which the signs may fall."""
    size_N = np.abs(loss_H[loss_H != 0])
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(size_N))))
    return float(np.mean(signs @ size_N >= loss_H.sum() - 1e-12)) if len(size_N) else 1.0


def normal_tail(z: float) -> float:
    return 0.5 * math.erfc(z / 2**0.5)


def errors(*error: float, weight: list[float] | None = None) -> RowErrors:
    n = len(error)
    return RowErrors(np.array(error), np.ones(n), np.array(weight or [1.0] * n))


def lost(was: list[float], now: RowErrors) -> Paired:
    found = compare(np.array(was, float), now)
    assert found is not None
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(SOME, max_size=12))
def test_the_chance_is_never_told_smaller_than_that_of_the_exact_sign_test(d: list[float]) -> None:
    loss_H = np.array(d, float)
    assert chance(loss_H) >= exact(loss_H) * (1 - 1e-9)


@pytest.mark.parametrize("m", [1, 2, 7, 20, 500])
def test_rows_that_lost_the_same_have_the_chance_of_as_many_tosses(m: int) -> None:
    assert chance(np.full(m, 0.01)) == pytest.approx(0.5**m, rel=1e-9)
    assert chance(np.append(np.full(m, 0.01), np.zeros(90))) == pytest.approx(0.5**m, rel=1e-9)


def test_no_loss_and_a_gain_are_no_surprise() -> None:
    for loss_H in (np.zeros(0), np.zeros(5), np.array([0.5, -0.5]), np.array([-0.2, 0.1])):
        assert chance(loss_H) == 1.0


@pytest.mark.parametrize("z", [1.0, 2.0, 3.0, 3.7])
@pytest.mark.parametrize("rows", [400, 2500])
def test_where_many_rows_changed_the_chance_is_chernoff_s_bound_of_the_normal_tail(
    z: float, rows: int
) -> None:
    down = round((rows + z * rows**0.5) / 2)
    loss_H = np.where(np.arange(rows) < down, 1.0, -1.0)
    z = loss_H.sum() / rows**0.5
    assert normal_tail(z) < chance(loss_H)
    assert chance(loss_H) == pytest.approx(math.exp(-(z**2) / 2), rel=0.05)


def test_the_chance_has_no_floor_and_rests_on_rows_of_any_size() -> None:
    assert 0 < chance(np.full(1000, 0.001)) < 1e-300
    assert chance(np.full(2000, 1.0)) == 0.0  # below the smallest number there is
    assert chance(np.array([1e9, 1e9, 1e-9])) == pytest.approx(0.25)


def test_only_rows_that_changed_count() -> None:
    few, many = (np.concatenate([[0.1] * 6, [-0.1] * 2, np.zeros(n)]) for n in (0, 5000))
    assert chance(few) == chance(many)


def test_a_loss_is_told_with_what_it_is_made_of() -> None:
    found = lost([0, 0, 0, 1, 0], errors(1, 1, 0, 0, 0))
    assert (found.rows, found.was, found.score) == (5, 0.8, pytest.approx(0.6))
    assert found.loss == pytest.approx(0.2)
    d = np.array([0.2, 0.2, 0, -0.2, 0])
    assert found.low == pytest.approx(0.2 - ONE_SIDED_95 * np.sqrt(((d - d.mean()) ** 2).sum()))
    assert found.chance == chance(d)
    assert found.gain_chance == 1.0
    assert (found.worse, found.better) == (2, 1)
    assert found.low == pytest.approx(found.loss - ONE_SIDED_95 * found.to_dict()["spread"])
    assert (found.worse, found.better) == (2, 1)


def test_rows_that_came_since_are_compared_with_those_of_before_as_two_proportions() -> None:
    base = RowBase(np.arange(100), np.repeat([1.0, 0.0], [5, 95]))
    now = errors(*[0.0] * 100, *[1.0] * 40, *[0.0] * 60)
    found = base.since(np.arange(200), now, min_rows=20)
    assert found is not None
    assert (found.rows, found.was, found.score) == (100, 0.95, 0.6)
    z = 0.35 / math.sqrt(0.225 * 0.775 * (1 / 100 + 1 / 100))
    assert found.chance == pytest.approx(normal_tail(z))
    assert found.gain_chance == pytest.approx(1 - normal_tail(z))
    assert base.since(np.arange(119), now.take(np.arange(119)), min_rows=20) is None
    sized = RowErrors(now.error_H, np.full(200, 2.0), now.weight_H)
    assert base.since(np.arange(200), sized, min_rows=20) is None, "not right or wrong alone"


def test_rows_weigh_what_they_stand_for_and_those_without_a_label_nothing() -> None:
    found = lost([0, 0, 1], errors(1, 0, 0, weight=[0.9, 0.1, 0.0]))
    assert (found.rows, found.was) == (2, 1.0)
    assert found.score == pytest.approx(0.1)
    assert compare(np.zeros(2), errors(0, 0, weight=[0.0, 0.0])) is None


def test_one_row_that_changed_by_chance_leaves_the_interval_open() -> None:
    assert lost([0] * 50, errors(1, *[0] * 49)).low < 0
    assert lost([0] * 50, errors(*[1] * 9, *[0] * 41)).low > 0


def f1(rows: list[tuple[int, int, int]]) -> RowErrors:
    """Rows by their hits, wrong answers and labels of yes."""
    hits, wrong, yes = np.array(rows, float).T
    answered = 2 * hits + wrong - yes
    return RowErrors(wrong, yes + answered, np.ones(len(rows)), answered)


def paired_f1(was: list[tuple[int, int, int]], now: list[tuple[int, int, int]]) -> Paired:
    then = f1(was)
    found = compare(then.error_H, f1(now), then.answered_H)
    assert found is not None
    return found


def test_a_model_that_ceased_to_say_yes_is_down_though_no_more_labels_are_wrong() -> None:
    was = [(1, 1, 1)] * 30  # each row: its label, and a wrong one beside it
    found = paired_f1(was, [(0, 1, 1)] * 30)
    assert (found.was, found.score) == (pytest.approx(2 / 3), 0.0)
    assert found.low > 0
    assert found.chance < 1e-6


ROW = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)).map(
    lambda row: (row[0], row[1] + row[2], row[0] + row[1])
)  # hits, missed and false yeses


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ROW, ROW), min_size=1, max_size=12))
def test_the_loss_of_f1_is_that_of_the_two_f1s(
    pairs: list[tuple[tuple[int, int, int], ...]],
) -> None:
    was, now = ([pair[k] for pair in pairs] for k in (0, 1))
    was = [(min(h, y), max(w, y - h), y) for (h, w, _), (*_, y) in zip(was, now, strict=True)]
    then = f1(was)
    found = compare(then.error_H, f1(now), then.answered_H)
    if f1(now).score is None:
        assert found is None
        return
    assert found is not None
    assert found.score == f1(now).score
    assert found.was == pytest.approx(1.0 if then.score is None else then.score, abs=1e-9)


def test_rows_that_answer_as_before_add_nothing_to_a_loss_of_f1() -> None:
    same = [(1, 1, 2)] * 400
    found = paired_f1([(2, 0, 2), *same], [(1, 1, 2), *same])
    assert found.loss > 0
    assert found.chance == pytest.approx(0.5)


def test_only_rows_that_are_still_there_are_compared() -> None:
    base = RowBase.of(np.array([5, 3, 9]), errors(0, 1, 0))
    now = errors(1, 0, 1, 1)
    found = base.compare(np.array([9, 4, 3, 5]), now, 3)
    assert found is not None
    assert (found.rows, found.was, found.score) == (3, pytest.approx(2 / 3), pytest.approx(0.0))
    assert base.compare(np.array([9, 4, 3, 5]), now, 4) is None


@pytest.mark.parametrize("now", [errors(0, 1), f1([(1, 0, 1), (0, 1, 1)])])
def test_a_base_comes_back_from_its_arrays(now: RowErrors) -> None:
    id_H = np.array([7, -2])
    base = RowBase.of(id_H, now)
    again = RowBase.from_arrays({name: array.copy() for name, array in base.to_arrays().items()})
    assert base.compare(id_H, now, 1) == again.compare(id_H, now, 1)
    assert (again.answered_H is None) == (now.answered_H is None)


def test_an_interval_by_wilson_holds_the_score_and_stays_within_0_and_1() -> None:
    for score in (0.0, 0.3, 1.0):
        low, high = wilson(score, 25)
        assert 0.0 <= low <= score <= high <= 1.0
    assert wilson(0.5, 100) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
