"""What is fitted is the minimum, a few rows change little, and an error is what a reader would work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtl_engine.calibration import (
    AS_TRAINED,
    MIN_ROWS,
    Bins,
    Calibration,
    effective,
    fit_sigmoid,
    fit_softmax,
)

SHARE = np.array([0.9, 0.08, 0.02])


def softmax(a: np.ndarray) -> np.ndarray:
    e = np.exp(a - a.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def rows(n: int, temperature: float, lacking: float) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that are `temperature` times as wide as those of a true model, and lack so much of the log-shares."""
    draw = np.random.default_rng(0)
    true = draw.normal(0, 2.0, (n, 3)) + np.log(SHARE)
    y = (softmax(true).cumsum(1) < draw.random((n, 1))).sum(1)
    return (true - lacking * np.log(SHARE)) * temperature, y


def moved(found: Calibration, z: np.ndarray) -> np.ndarray:
    return found.moved(torch.from_numpy(z)).numpy().astype(np.float64)


@pytest.mark.parametrize(
    ("temperature", "lacking"), [(0.5, 1.0), (2.0, 1.0), (1.0, 0.0), (1.0, 0.5)]
)
def test_what_was_done_to_a_true_model_is_undone(temperature: float, lacking: float) -> None:
    z, y = rows(5000, temperature, lacking)
    found = fit_softmax(z, y, np.ones(len(y)), np.log(SHARE), 0.5)
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.rows == 5000
    p = softmax(moved(found, z))
    assert p.mean(0) == pytest.approx(np.bincount(y) / len(y), abs=0.002)


def test_what_is_fitted_is_the_minimum_that_the_file_names() -> None:
    z, y = rows(200, 0.6, 1.0)
    lacks = 0.5
    found = fit_softmax(z, y, np.ones(200), np.log(SHARE), lacks)

    late = np.linspace(-0.5, 0.5, 3)

    def loss(log_t: float, s: float, r: float, b: np.ndarray) -> float:
        p = softmax(z / np.exp(log_t) + s * np.log(SHARE) + r * late + b)
        of_rows = -np.log(p[np.arange(200), y]).sum()
        return of_rows + 4 * log_t**2 + 2 * ((s - lacks) ** 2 + b @ b) + r**2 / 4

    assert found.shift_C is not None
    # the shift is s log share + r late + b for the s and r that cost least
    common = np.stack([np.log(SHARE), late], 1)
    held = np.diag([4.0, 0.5])
    s, r = np.linalg.solve(
        4 * common.T @ common + held, 4 * common.T @ found.shift_C + held @ [lacks, 0.0]
    )
    at = (float(np.log(found.temperature)), s, r, found.shift_C - common @ [s, r])
    least = loss(*at)
    for step in np.random.default_rng(1).normal(0, 0.01, (50, 6)):
        assert loss(at[0] + step[0], at[1] + step[1], at[2] + step[2], at[3] + step[3:]) > least


def test_yes_or_no_columns_that_are_all_off_are_set_right_together() -> None:
    draw = np.random.default_rng(4)
    z = draw.normal(0, 1, (60, 20))
    y = draw.random(z.shape) < 1 / (1 + np.exp(2 * z - 3))
    found = fit_sigmoid(-z, y, np.ones(z.shape))
    assert found.shift_C is not None
    assert found.temperature == pytest.approx(0.5, rel=0.1)
    assert found.shift_C == pytest.approx(3, abs=1)
    assert found.shift_C.mean() == pytest.approx(3, abs=0.3)


def test_columns_of_yes_or_no_are_fitted_to_the_minimum_too() -> None:
    draw = np.random.default_rng(5)
    z = draw.normal(0, 2, (100, 3))
    y = draw.random(z.shape) < 1 / (1 + np.exp(1 - z))
    found = fit_sigmoid(z, y, np.ones(z.shape))

    def loss(log_t: float, r: float, b: np.ndarray) -> float:
        a = z / np.exp(log_t) + r + b
        return (np.logaddexp(0, a) - y * a).sum() + 4 * log_t**2 + r**2 / 4 + b @ b

    assert found.shift_C is not None
    r = found.shift_C.sum() / (3 + 0.25)  # costs least
    at = (float(np.log(found.temperature)), r, found.shift_C - r)
    for step in draw.normal(0, 0.01, (50, 5)):
        assert loss(at[0] + step[0], at[1] + step[1], at[2] + step[2:]) > loss(*at)


def test_too_few_rows_leave_the_temperature_alone_but_not_the_shares() -> None:
    z, y = rows(MIN_ROWS - 1, 0.5, 1.0)
    found = fit_softmax(z, y, np.ones(len(y)), np.log(SHARE), 1.0)
    assert (found.temperature, found.rows) == (1.0, 0)
    assert found.shift_C == pytest.approx(np.log(SHARE))
    assert fit_sigmoid(z, y[:, None] == np.arange(3), np.ones(z.shape)) is AS_TRAINED


def test_rows_are_counted_by_their_weight() -> None:
    weight = np.ones(2 * MIN_ROWS)
    weight[2:] = 1e-6
    assert effective(weight).sum() == pytest.approx(2, rel=0.01)
    z, y = rows(len(weight), 0.5, 1.0)
    assert fit_softmax(z, y, weight, np.log(SHARE), 1.0).rows == 0


def test_a_class_without_rows_has_no_offset_of_its_own_and_a_strange_row_no_say() -> None:
    z, y = rows(300, 0.6, 1.0)
    share = np.append(SHARE, 1e-3)
    wide = np.concatenate([z, np.zeros((300, 1))], 1)
    wide[0] = np.nan
    y[1], y[2] = -1, 9  # never seen; seen, but the head has no column for it yet
    found = fit_softmax(wide, y, np.ones(300), np.log(share), 1.0)
    assert found.rows == 297
    assert found.shift_C is not None
    assert np.isfinite(found.shift_C).all()
    alone = fit_softmax(wide[3:], y[3:], np.ones(297), np.log(share), 1.0)
    assert found.to_dict() == alone.to_dict()


@pytest.mark.parametrize("size", [1e-30, 1e3, 1e30])
def test_outputs_of_any_size_give_a_temperature_within_its_bounds(size: float) -> None:
    z, y = rows(100, 1.0, 1.0)
    for found in (
        fit_softmax(z * size, y, np.ones(100), np.log(SHARE), 1.0),
        fit_sigmoid(z * size, y[:, None] == np.arange(3), np.ones(z.shape)),
    ):
        assert 1 / 8 <= found.temperature <= 8
        assert found.shift_C is not None
        assert np.isfinite(found.shift_C).all()


def test_columns_share_a_temperature_and_have_offsets_of_their_own() -> None:
    draw = np.random.default_rng(0)
    offsets = np.array([-1.0, 0.5])
    true = draw.normal(0, 2, (3000, 2)) + offsets
    y = draw.random(true.shape) < 1 / (1 + np.exp(-true))
    found = fit_sigmoid(0.5 * (true - offsets), y, np.ones(true.shape))
    assert found.temperature == pytest.approx(0.5, rel=0.1)
    assert found.shift_C == pytest.approx(offsets, abs=0.15)


def test_a_calibration_goes_through_json_unchanged() -> None:
    z, y = rows(100, 0.5, 1.0)
    for found in (AS_TRAINED, fit_softmax(z, y, np.ones(100), np.log(SHARE), 1.0)):
        back = Calibration.from_dict(found.to_dict())
        assert back.to_dict() == found.to_dict()
        assert (moved(back, z) == moved(found, z)).all()


# -- how far off ---------------------------------------------------------------------------------------------


def column(values: object) -> np.ndarray:
    return np.asarray(values, np.float64)[:, None]


def test_the_error_is_the_mean_distance_of_probability_and_rate_over_ten_bins_of_equal_mass() -> (
    None
):
    p = np.repeat(np.linspace(0.05, 0.95, 10), 20)
    hit = np.tile(np.arange(20) < 10, 10)  # in every bin one half
    bins = Bins.of(column(p), column(hit), np.ones((200, 1)))
    assert bins.error() == pytest.approx(np.abs(np.linspace(0.05, 0.95, 10) - 0.5).mean())
    weight = column(np.where(hit, 1.0, 3.0))  # in every bin one quarter
    assert Bins.of(column(p), column(hit), weight).error() == pytest.approx(
        np.abs(np.linspace(0.05, 0.95, 10) - 0.25).mean()
    )


def test_the_interval_is_drawn_by_rows_and_always_the_same() -> None:
    draw = np.random.default_rng(0)
    p = draw.random((500, 2))
    bins = Bins.of(p, draw.random(p.shape) < p * 0.8, np.ones(p.shape))
    low, high = bins.interval(0, "a") or (1, 0)
    assert low < (bins.error() or 0) < high < 0.2
    assert bins.interval(0, "a") == [low, high]


@pytest.mark.parametrize(("p", "weight"), [(0.5, 0.0), (np.nan, 1.0)])
def test_without_rows_or_numbers_there_is_no_error(p: float, weight: float) -> None:
    bins = Bins.of(np.full((4, 1), p), np.ones((4, 1)), np.full((4, 1), weight))
    assert (bins.error(), bins.interval(0, "")) == (None, None)
    none = Bins.of(*np.zeros((3, 0, 2)))
    assert (none.error(), none.interval(0, "")) == (None, None)
