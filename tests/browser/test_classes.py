"""One task of the newest snapshot class by class: bars, a heat map, a curve; from the keyboard, at every width."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser import example
from tests.browser.test_page import CONTRAST, LOWEST_CONTRAST, THEMES, WIDTHS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.browser.standin import StandIn

pytestmark = pytest.mark.browser
DRAWN_MS = 100  # after an answer has come


def opened(visit: Any, sidecar: StandIn, width: int = 1280, theme: str = "light") -> Page:
    page = visit(width, theme).open(sidecar.url)
    page.wait_for_selector("#classes .curve")
    return page


def publish(sidecar: StandIn) -> None:
    """The status tells of a snapshot: with the next point of the history the page asks for the list."""
    newest = {"version": 8, "at": example.stamp(0), "path": "", "scores": {}}
    sidecar.answers["/api/status"] = lambda: example.status(snapshot=newest)
    sidecar.point = example.history()["points"][-1]


def test_every_class_is_shown_with_recall_and_rows_the_lowest_first(calm: Page) -> None:
    page = calm
    told = sorted(example.scorecard("digits")["card"]["classes"], key=lambda one: one["recall"])
    recalls = page.locator("#classes .recalls li")
    expect(recalls.locator(".name")).to_have_text([str(one["class"]) for one in told])
    expect(recalls.locator("b")).to_have_text([f"{one['recall']:.3f}" for one in told])
    expect(recalls.locator(".hint")).to_have_text([f"{one['rows']} rows" for one in told])
    assert "of v000007" in page.locator("#classes-of").inner_text()


def test_the_heat_map_counts_what_was_answered_and_the_curve_has_every_bin(calm: Page) -> None:
    page = calm
    card = example.scorecard("digits")["card"]
    rows = page.locator("#classes .confusion tbody tr").all()
    counts = [[int(cell or 0) for cell in row.locator("td").all_text_contents()] for row in rows]
    assert counts == card["confusion"]["counts"]
    bins = card["calibration"]["bins"]
    assert page.locator("#classes .curve circle").count() == len(bins)
    said = page.locator("#classes .curve").get_attribute("aria-label")
    assert f"{bins[3]['p']:.3f} was right {bins[3]['rate']:.3f}" in said
    below = page.locator("#classes .of-calibration p").inner_text()
    assert (
        below.replace("\u2013", "-")
        == "ECE 0.021 (0.014-0.032) with temperature 1.310, before it 0.071"
    )


def test_another_task_is_chosen_from_the_keyboard(visit: Any, sidecar: StandIn) -> None:
    page = opened(visit, sidecar)
    chooser = page.locator("#class-task")
    assert chooser.locator("option").all_inner_texts() == list(example.CARDS)
    chooser.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#classes .of-confusion li").first).to_have_text(
        "intent number 23 answered as intent number 22: 115 rows"
    )  # of 24 classes: in words
    assert page.locator("#classes .confusion").count() == 0
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#classes .empty")).to_contain_text("no classes")
    assert chooser.input_value() == "price"


def test_before_a_snapshot_there_is_no_such_card(visit: Any, sidecar: StandIn) -> None:
    sidecar.answers["/api/releases"] = list
    watched = visit()
    page = watched.open(sidecar.url)
    expect(page.locator("#snapshots .empty")).to_be_visible()
    assert page.locator("#classes-card").is_hidden()
    watched.assert_clean()


def test_a_new_snapshot_is_shown_and_the_task_stays_chosen(visit: Any, sidecar: StandIn) -> None:
    page = opened(visit, sidecar)
    page.locator("#class-task").select_option("tumours")
    expect(page.locator("#classes .recalls li")).to_have_count(2)
    newer = {**example.releases()[0], "version": 8}
    sidecar.answers["/api/scorecard?task=tumours"] = lambda: {**example.scorecard("tumours"), "version": 8}  # fmt: skip
    sidecar.answers["/api/releases"] = lambda: [newer, *example.releases()]
    publish(sidecar)
    expect(page.locator("#classes-of")).to_contain_text("v000008")
    assert page.locator("#class-task").input_value() == "tumours"


def answered(page: Page, task: str, act: Callable[[], object]) -> None:
    """Do something, and wait until the page has drawn the card that it then asks for."""
    with page.expect_response(f"**/api/scorecard?task={task}") as answer:
        act()
    answer.value.finished()
    page.wait_for_timeout(DRAWN_MS)


def test_what_is_shown_is_left_alone_where_nothing_is_new(visit: Any, sidecar: StandIn) -> None:
    card = example.scorecard("digits")
    sidecar.answers["/api/scorecard"] = lambda: card
    sidecar.answers["/api/scorecard?task=digits"] = lambda: card
    page = opened(visit, sidecar)
    first = page.locator("#classes .recalls li").first.element_handle()
    answered(page, "digits", lambda: page.locator("#class-task").select_option("digits"))
    assert first.evaluate("(one) => one.isConnected")
    answered(page, "intents", lambda: page.locator("#class-task").select_option("intents"))
    assert not first.evaluate("(one) => one.isConnected")


def test_a_card_that_did_not_come_is_asked_for_again(visit: Any, sidecar: StandIn) -> None:
    page = opened(visit, sidecar)
    answer = sidecar.answers.pop("/api/scorecard?task=tumours")
    answered(page, "tumours", lambda: page.locator("#class-task").select_option("tumours"))
    sidecar.answers["/api/scorecard?task=tumours"] = answer
    publish(sidecar)
    expect(page.locator("#classes .recalls .name")).to_have_text(["malignant", "benign"])


def test_a_slow_answer_never_undoes_a_later_choice(visit: Any, sidecar: StandIn) -> None:
    page = opened(visit, sidecar)
    slow = threading.Event()
    sidecar.answers["/api/scorecard?task=intents"] = lambda: slow.wait(10.0) and example.scorecard("intents")  # fmt: skip
    page.locator("#class-task").select_option("intents")
    page.locator("#class-task").select_option("tumours")
    expect(page.locator("#classes .recalls .name")).to_have_text(["malignant", "benign"])
    answered(page, "intents", slow.set)
    assert page.locator("#class-task").input_value() == "tumours"
    expect(page.locator("#classes .recalls .name")).to_have_text(["malignant", "benign"])


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_can_be_read_in_both_themes(
    visit: Any, sidecar: StandIn, tmp_path: Path, theme: str, width: int
) -> None:
    page = opened(visit, sidecar, width, theme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for selector in ("#classes td", "#classes th", "#classes h3", "#classes .hint", "#classes .why", "#classes b"):  # fmt: skip
        assert page.evaluate(LOWEST_CONTRAST, selector) >= CONTRAST, selector
    page.locator("#classes-card").screenshot(path=tmp_path / f"classes-{theme}-{width}.png")
    page.locator("#class-task").select_option("intents")
    expect(page.locator("#classes .recalls li")).to_have_count(24)
    assert page.evaluate("document.documentElement.scrollWidth") == width
