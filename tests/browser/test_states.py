"""The page when things are not well: no data yet, problems, an old trainer, a sidecar that breaks and comes back."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser import example

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.standin import StandIn

pytestmark = pytest.mark.browser


def link(page: Page, how: str) -> str:
    """Wait until the indicator says so; returns its text."""
    page.wait_for_selector(f"#link[data-link={how}]", timeout=20_000)
    return page.locator("#link-text").inner_text()


def test_a_fresh_daemon_is_shown_with_what_to_do_first(visit: Any, sidecar: StandIn) -> None:
    sidecar.answers = {
        "/api/status": lambda: example.status(
            state="idle", task=None, phase=None, tasks=[], step=0, rows_per_s=0.0, checkpoint={}, snapshot={},
            counters={}, events=[], replay_rows=0, replay_bytes=0, recovery_s=None, lag_events=None,
            pending_rows=0, matrix=example.matrix(0), losses={}, evaluation={}, senders={}, guard={},
        ),
        "/api/history": lambda: {"points": [], "switches": []},
        "/api/releases": list,
    }  # fmt: skip
    watched = visit()
    page = watched.open(sidecar.url)
    page.wait_for_selector("#snapshots .empty")
    text = page.locator("main").inner_text()
    for told in ("No snapshot yet", "No task yet", "No score yet", "No row yet", "No history yet", "every event so far was accepted"):  # fmt: skip
        assert told in text
    assert page.locator("canvas").count() == 0
    assert page.locator("[data-field=average] dd").inner_text() == "\u2013\nnot scored yet"
    assert page.locator("#senders-card").is_hidden()
    watched.assert_clean()


def test_dead_letters_of_an_earlier_process_are_counted_though_they_cannot_be_shown(
    visit: Any, sidecar: StandIn
) -> None:
    sidecar.answers["/api/status"] = lambda: example.status(events=[], counters={"dead_events": 13})
    page = visit().open(sidecar.url)
    assert page.locator("#dead").inner_text() == "None since this process started."
    assert page.locator("#dead-count").inner_text() == "13 in all: mtld dead list"


def test_problems_are_told_with_their_last_time_and_detail(visit: Any, sidecar: StandIn) -> None:
    fault = {"count": 12, "last": example.stamp(5), "detail": "Connection refused."}
    sidecar.answers["/api/status"] = lambda: example.status(
        state="broker_down", reason="refused", faults={"broker_down": fault, "snapshot_failed": fault},
        counters={"lost_events": 17, "lost_is_lower_bound": True},
    )  # fmt: skip
    page = visit().open(sidecar.url)
    assert page.locator("#now").get_attribute("data-level") == "warn"
    assert page.locator("#problems li").count() == 2
    assert "snapshot_failed \u00d712" in page.locator("#problems").inner_text()
    assert page.locator("[data-field=lost_events]").inner_text() == "at least 17"


@pytest.mark.parametrize("width", [1280, 400])
def test_long_names_and_many_tasks_stay_inside_the_page(
    visit: Any, sidecar: StandIn, width: int
) -> None:
    names = [f"a-task-with-a-rather-long-name-{number:02d}" for number in range(40)]
    parts = [f"{name}/{'phase' * 20}" for name in names]
    rows = [{"step": 1, "task": name, "phase": "p" * 200, "parts": dict.fromkeys(parts, 0.5)} for name in names[:32]]  # fmt: skip
    fault = {"count": 1, "last": example.stamp(9000), "detail": "d" * 300}
    sidecar.answers["/api/status"] = lambda: example.status(
        namespace="n" * 64, state="paused", reason="r" * 200, task=names[0], phase="p" * 200, faults={"snapshot_failed": fault},
        tasks=[{"name": name, "modality": "image", "kind": "classification", "columns": 9, "replay_rows": 1} for name in names],
        matrix={"rows": rows, "average_accuracy": 0.5, "forgetting": None, "bwt": None, "min_acc": {}},
    )  # fmt: skip
    point = dict.fromkeys(names, 0.5)
    points = [
        {"t": 1e9 + at, "step": at, "rows_per_s": 1.0, "lag_events": 0, "average_accuracy": 0.5, "forgetting": None,
         "loss": point, "score": point, "replay_rows": point}
        for at in range(0, 100, 5)
    ]  # fmt: skip
    switches = [{"t": 1e9 + 9 * at, "task": name, "phase": "p" * 200} for at, name in enumerate(names[:9])]  # fmt: skip
    sidecar.answers["/api/history"] = lambda: {"points": points, "switches": switches}
    watched = visit(width)
    page = watched.open(sidecar.url)
    page.wait_for_selector("#replay canvas")
    assert page.locator("#tasks tbody tr").count() == len(names)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    watched.assert_clean()


def test_a_daemon_that_has_ended_is_not_shown_as_running(visit: Any, sidecar: StandIn) -> None:
    sidecar.answers["/api/status"] = lambda: example.status(pid=0, written_at=example.stamp(600))
    page = visit().open(sidecar.url)
    assert page.locator("#state").inner_text() == "not running (was training)"
    assert page.locator("#now").get_attribute("data-level") == "bad"
    assert "the trainer writes nothing" in link(page, "stale")
    assert page.title().startswith("not running")


def test_no_vitals_at_all_say_how_to_start(visit: Any, sidecar: StandIn) -> None:
    told = "no daemon has written /state/vitals.json; start one with `mtld run`"
    sidecar.answers = {
        "/api/status": lambda: {"running": False, "error": told},
        "/api/history": lambda: {"points": [], "switches": []},
        "/api/releases": list,
    }
    watched = visit()
    page = watched.page
    page.goto(sidecar.url)
    expect(page.locator("#state")).to_have_text("no daemon yet")
    assert page.locator("#advice").inner_text() == told.replace("`", "")
    assert "live" in link(page, "live")
    watched.assert_clean()


def test_the_page_polls_while_the_event_stream_is_broken_and_goes_live_again(
    visit: Any, sidecar: StandIn
) -> None:
    page = visit().open(sidecar.url)
    link(page, "live")
    sidecar.events = False
    assert "polling" in link(page, "polling")
    sidecar.answers["/api/status"] = lambda: example.status(step=4999)
    expect(page.locator("[data-field=step] dd")).to_contain_text("4,999")
    sidecar.events = True
    link(page, "live")


def test_a_sidecar_that_is_gone_leaves_the_last_data_and_says_since_when(
    visit: Any, sidecar: StandIn
) -> None:
    page = visit().open(sidecar.url)
    link(page, "live")
    sidecar.up = False
    told = link(page, "broken")
    assert told.startswith("stale since ")
    assert page.locator("[data-field=step] dd").inner_text().startswith("4,012")
    sidecar.up = True
    link(page, "live")


def test_tasks_have_their_colours_by_declaration_also_where_the_history_comes_first(
    visit: Any, sidecar: StandIn
) -> None:
    seen = threading.Event()

    def history() -> Any:
        seen.set()
        return example.history()

    def late() -> Any:
        seen.wait(10.0)
        time.sleep(0.5)  # for the page to draw what it has
        sidecar.answers["/api/status"] = example.status
        return example.status()

    sidecar.answers |= {"/api/history": history, "/api/status": late}
    page = visit().open(sidecar.url)
    page.wait_for_selector("#score canvas")
    swatches = page.locator("#tasks tbody tr .swatch").all()
    colours = [one.evaluate("(one) => one.style.getPropertyValue('--c')") for one in swatches]
    names = page.locator("#tasks tbody tr").evaluate_all(
        "(all) => all.map((one) => one.dataset.task)"
    )
    order = [task["name"] for task in example.tasks()]
    assert dict(zip(names, colours, strict=True)) == {
        name: f"var(--c{place})" for place, name in enumerate(order)
    }


def test_an_alias_that_moves_without_an_event_is_shown_within_seconds(
    visit: Any, sidecar: StandIn
) -> None:
    watched = visit()
    watched.page.clock.install()
    page = watched.open(sidecar.url)
    newest = page.locator("#snapshots tr[data-version='7']")
    expect(newest).not_to_contain_text("champion")
    first, *others = example.releases()
    moved = [{**first, "aliases": ["latest", "champion"]}, *others]
    sidecar.answers["/api/releases"] = lambda: moved
    for _ in range(4):  # three seconds at a time, so that no silence of the event stream is felt
        page.clock.fast_forward(3000)
        page.wait_for_timeout(500)
    expect(newest).to_contain_text("champion")
    assert [url for _, url in watched.asked if url.endswith("/events")] == [f"{sidecar.url}events"]


def test_a_new_point_appears_without_reloading(visit: Any, sidecar: StandIn) -> None:
    page = visit().open(sidecar.url)
    page.wait_for_selector("#rate canvas")
    last = sidecar.answers["/api/history"]()["points"][-1]
    sidecar.point = {**last, "t": last["t"] + 5, "rows_per_s": 777.0}
    expect(page.locator("#rate .legend")).to_have_text("777 rows/s")


def test_a_task_that_appears_gets_its_line_and_a_colour_of_its_own(
    visit: Any, sidecar: StandIn
) -> None:
    page = visit().open(sidecar.url)
    page.wait_for_selector("#loss canvas")
    last = sidecar.answers["/api/history"]()["points"][-1]
    sidecar.point = {**last, "t": last["t"] + 5, "loss": {**last["loss"], "late": 0.5}}
    expect(page.locator("#loss .legend")).to_contain_text("late")
    colours = page.locator("#loss .swatch").evaluate_all(
        "(all) => all.map((one) => getComputedStyle(one).backgroundColor)"
    )
    assert len(set(colours)) == 4


def test_the_time_shown_can_be_cut_to_the_last_minutes(visit: Any, sidecar: StandIn) -> None:
    page = visit().open(sidecar.url)
    page.wait_for_selector("#lag canvas")
    page.select_option("#span", "900")
    page.locator("#lag .plot").press("Home")
    expect(page.locator("#lag .when")).not_to_have_text("now")
    first = page.locator("#lag .when").inner_text()
    page.select_option("#span", "0")
    page.locator("#lag .plot").press("Home")
    expect(page.locator("#lag .when")).not_to_have_text(first)
