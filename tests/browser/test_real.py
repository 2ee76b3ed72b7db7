"""The page of a real sidecar beside a real daemon: it shows what `mtld status -o json` prints, also of one that died."""

from __future__ import annotations

import signal
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import photograph
from tests.support.site import Site
from tests.support.stream import SETTINGS, TASKS, Feed, send
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from daemon.types import Json

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.timeout(180)]
CHUNKS = 10  # of the stream: switches, growing heads, bad events, a repeated one
WAIT_MS = 30_000  # for what a process has yet to write


class Learning(Site):
    """A daemon that learns a stream with everything in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SETTINGS.replace("every_s = 0\n", "every_s = 0\non_switch = true\n") + TASKS)  # fmt: skip
        self.feed = Feed(11)

    def learn(self, num_chunks: int) -> None:
        """Send some chunks and the end of a phase, and wait until all of it is trained and told."""
        for number in range(num_chunks):
            send(self.server.admin, self.feed.chunk(number))
        send(self.server.admin, self.feed.last())
        self.wait_caught_up()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Learning]:
    with Learning(tmp_path) as made:
        yield made


def shown(page: Page) -> dict[str, str]:
    """Every figure of the page by its name, as text."""
    found: dict[str, str] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("[data-field]")].map((one) =>
            [one.dataset.field, (one.querySelector("dd, td") ?? one).firstChild.textContent]))"""
    )
    return found


def score(value: float | None) -> str:
    """As the page writes it: three digits, halves of the last upwards, a dash where there is none."""
    if value is None:
        return "\u2013"
    return str(Decimal(value).quantize(Decimal("0.001"), ROUND_HALF_UP))


def expected(told: Json) -> dict[str, str]:
    """The same from the JSON of `mtld status`."""
    rows, scored = told["accounting"], told["evaluation"]
    learned = ("average", "forgetting", "min_acc", "wc_acc")
    parts = ("sent", "trained", "held_out", "duplicate", "dead", "pending", "dead_events", "lost_events")  # fmt: skip
    return {
        **{name: f"{rows[name]:,}" for name in parts},
        **{name: f"{told[name]:,}" for name in ("step", "lag_events", "pending_rows")},
        "rows_per_s": f"{told['rows_per_s']:,.0f}",
        **{name: score(scored.get(name)) for name in learned},
        "checkpoint": f"{told['checkpoint']['seq']:06d}",
        "snapshot": f"v{told['snapshot']['version']:06d}",
    }


def scores(page: Page) -> list[Json]:
    """The heat map's scores, row by row."""
    parts = [
        name.replace("\n", "/")
        for name in page.locator("#matrix .heatmap thead th").all_inner_texts()
    ]
    found: list[Json] = []
    for row in page.locator("#matrix .heatmap tbody tr").all():
        cells = zip(parts[1:], row.locator("td").all_text_contents(), strict=True)
        found.append({part: text for part, text in cells if text != "not seen yet"})
    return found


def assert_lists_equal(page: Page, told: Json) -> None:
    """Tasks, matrix, dead letters and journal, each against the JSON."""
    rows = told["matrix"]["rows"]
    assert len(rows) > CHUNKS
    phases = [
        {
            (part if "/" in part else f"{part}/all rows"): score(known)
            for part, known in row["parts"].items()
        }
        for row in rows
    ]
    assert scores(page) == phases
    names = page.locator("#tasks tbody th").all_inner_texts()
    assert [name.split()[0] for name in names] == [task["name"] for task in told["tasks"]]
    dead = [event for event in told["events"] if event["kind"] == "dead_letter"]
    assert len(dead) > 2
    reasons = page.locator("#dead .reason").all_inner_texts()
    assert reasons == [event["reason"] for event in reversed(dead)]
    lines = page.locator("#journal code").all_inner_texts()
    assert lines == [event["kind"] for event in reversed(told["events"]) if event not in dead]


def assert_classes_equal(page: Page, site: Learning) -> None:
    """The classes of every task, against the snapshot's manifest; and what is true now, where nothing was learned since."""
    manifest, now = site.told("snapshot", "show"), site.told("evaluate")
    assert page.locator("#class-task option").all_inner_texts() == list(manifest["scorecards"])
    assert now["scorecards"] == manifest["scorecards"]
    for task, card in manifest["scorecards"].items():
        page.locator("#class-task").select_option(task)
        recalls = page.locator("#classes .recalls li")
        told = sorted(
            card["classes"], key=lambda one: 2 if one["recall"] is None else one["recall"]
        )
        expect(recalls.locator(".name")).to_have_text([str(one["class"]) for one in told])
        expect(recalls.locator("b")).to_have_text([score(one["recall"]) for one in told])
        expect(recalls.locator(".hint")).to_have_text([f"{one['rows']:,} rows" for one in told])


def test_what_the_page_of_a_real_daemon_shows_equals_the_status_of_the_command_line(
    visit: Any, site: Learning, tmp_path: Path
) -> None:
    watched = visit()
    page = watched.page
    site.start()
    page.goto(site.sidecar.url)
    expect(page.locator("#state")).to_have_text("idle", timeout=WAIT_MS)
    expect(page.locator("#snapshots")).to_contain_text("No snapshot yet")
    site.learn(CHUNKS)
    version = site.daemon.ask("publish")["snapshot"]["version"]
    row = page.locator(f"#snapshots tr[data-version='{version}']")
    expect(row).to_contain_text("latest", timeout=WAIT_MS)
    wait_until(lambda: shown(page) == expected(site.status()), what="the page to be up to date")
    told = site.status()
    assert page.locator("#advice").inner_text() == told["advice"].replace("`", "")
    assert_lists_equal(page, told)
    assert_classes_equal(page, site)
    expect(page.locator("#replay canvas")).to_be_visible(timeout=WAIT_MS)
    photograph(page, tmp_path / "page-real.png")
    watched.assert_clean()


def test_the_page_answers_before_the_first_start_while_the_daemon_hangs_and_after_its_death(
    visit: Any, site: Learning
) -> None:
    watched = visit()
    page = watched.page
    page.goto(site.sidecar.url)
    expect(page.locator("#state")).to_have_text("no daemon yet", timeout=WAIT_MS)
    site.start()
    site.learn(2)
    told = site.status()
    step, trained = (f"{number:,}" for number in (told["step"], told["accounting"]["trained"]))
    expect(page.locator("[data-field=step] dd")).to_contain_text(step, timeout=WAIT_MS)
    site.daemon.signal(signal.SIGSTOP)
    expect(page.locator("#link")).to_have_attribute("data-link", "stale", timeout=WAIT_MS)
    assert shown(page)["step"] == step
    site.daemon.kill()
    expect(page.locator("#state")).to_contain_text("not running", timeout=WAIT_MS)
    assert "mtld run" in page.locator("#advice").inner_text()
    site.daemon.start()
    expect(page.locator("#state")).to_have_text("idle", timeout=WAIT_MS)
    expect(page.locator("#link")).to_have_attribute("data-link", "live", timeout=WAIT_MS)
    assert shown(page)["trained"] == trained
    watched.assert_clean()
