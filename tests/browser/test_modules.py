"""Single modules of the page, called inside the browser: gaps in the history, and how numbers and details are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture
def call(calm: Page) -> Callable[..., Any]:
    """Evaluates an expression over a module `m` and an argument `x`."""

    def evaluate(module: str, expression: str, argument: Any = None) -> Any:
        code = f"(x) => import('/static/js/{module}').then((m) => {expression})"
        return calm.evaluate(code, argument)

    return evaluate


def times(call: Any, points: list[float]) -> list[float | None]:
    """The time axis that the charts get, with None where a line is broken."""
    made = "((h) => (h.replace({points: x.map((t) => ({t, v: t})), switches: []}), h.columns(0).of((p) => p.v)))(new m.History())"
    found: list[float | None] = call("history.js", made, points)
    return found


def test_a_line_is_broken_where_the_daemon_did_not_run(call: Any) -> None:
    running, later = [*range(0, 50, 5)], [*range(200, 250, 5)]
    assert times(call, [*running, *later]) == [*running, None, *later]


def test_older_points_that_were_thinned_out_are_no_gap(call: Any) -> None:
    thinned = [*range(0, 400, 40), *range(400, 600, 20), *range(600, 700, 5)]
    assert times(call, thinned) == thinned


def test_a_score_counts_until_the_next_one_but_not_through_a_gap(call: Any) -> None:
    points = [{"t": 0, "s": 0.5}, {"t": 5}, {"t": 10, "s": 0.7}, {"t": 300}, {"t": 305}]
    held = "((h) => (h.replace({points: x, switches: []}), h.columns(0).held((p) => p.s)))(new m.History())"
    assert call("history.js", held, points) == [0.5, 0.5, 0.7, None, None, None]


def test_a_point_that_comes_twice_is_kept_once(call: Any) -> None:
    added = "((h) => (x.forEach((t) => h.add({t})), h.points.map((p) => p.t)))(new m.History())"
    assert call("history.js", added, [1, 2, 2, 1, 3]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        ("count", 1234567.4, "1,234,567"),
        ("count", None, "\u2013"),
        ("score", 0.97349, "0.973"),
        ("loss", 0.00001234, "1.23e-5"),
        ("loss", 0.21434, "0.214"),
        ("size", 3_251_200, "3.1 MiB"),
        ("size", 0, "0 B"),
        ("duration", 119, "119 s"),
        ("duration", 7300, "2 h"),
        ("metrics", {"r2": None, "mae": 0.5}, "r2 \u2013, mae 0.500"),
        ("details", {"task": "a", "scores": {"a": 0.81818, "b": None}, "error": ""}, "task a, scores (a 0.818, b \u2013)"),
        ("details", '{"detail": "no space"}', "no space"),
    ],
)  # fmt: skip
def test_values_are_written_as_the_command_line_writes_them(
    call: Any, function: str, value: Any, text: str
) -> None:
    assert call("format.js", f"m.{function}(x)", value) == text
