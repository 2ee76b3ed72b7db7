"""The page in a real Chromium: it shows what the sidecar says, at every width, in both themes, from the keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser import example
from tests.browser.conftest import photograph

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.browser.standin import StandIn

pytestmark = pytest.mark.browser
THEMES = ["light", "dark"]
WIDTHS = [1280, 400]
CONTRAST = 4.5  # WCAG 2.2, 1.4.3, of text

DRAWN = """(selector) => [...document.querySelectorAll(selector + " canvas")].map((canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Set();
  for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200) colours.add(data.slice(at, at + 3).join());
  return colours.size;
})"""
HAS_COLOUR = """async ([selector, colour]) => {
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  const canvas = document.querySelector(selector + " canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const wanted = colour.match(/[0-9]+/g).slice(0, 3).join();
  for (let at = 0; at < data.length; at += 4) if (data.slice(at, at + 3).join() === wanted) return true;
  return false;
}"""
LOWEST_CONTRAST = """(selector) => {
  const paper = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (css) => {
    paper.fillStyle = css;
    paper.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...paper.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const found = getComputedStyle(node).backgroundColor;
    return found === "rgba(0, 0, 0, 0)" ? behind(node.parentElement) : found;
  };
  return Math.min(...[...document.querySelectorAll(selector)].map((node) => {
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
}"""


def field(page: Page, name: str) -> str:
    """The text of a figure or of a part of the accounting, without its unit."""
    return page.locator(f"[data-field={name}]").locator("dd, td").first.inner_text().split("\n")[0]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_figures_and_the_accounting_are_those_of_the_status(calm: Page) -> None:
    page = calm
    told = example.status()
    assert page.locator("#state").inner_text() == told["state"]
    assert page.locator("#advice").inner_text() == told["advice"].replace("`", "")
    for name in ("step", "lag_events", "pending_rows"):
        assert number(field(page, name)) == told[name]
    assert field(page, "rows_per_s") in {"1,284", "1,285"}
    for name in ("sent", "trained", "held_out", "duplicate", "dead", "pending"):
        assert number(field(page, name)) == told["accounting"][name]
    for name in ("average", "forgetting", "min_acc", "wc_acc"):
        assert field(page, name) == f"{told['evaluation'][name]:.3f}"
    assert page.locator("[data-field=average] small").inner_text() in {"31 s ago", "32 s ago"}
    assert field(page, "checkpoint") == "000084"
    assert field(page, "snapshot") == "v000007"


def test_the_heat_map_has_every_score_of_the_matrix_in_its_place(calm: Page) -> None:
    page = calm
    told = example.matrix()
    parts = [heading.replace("\n", "/") for heading in page.locator("#matrix .heatmap thead th").all_inner_texts()[1:]]  # fmt: skip
    assert parts == list(told["rows"][-1]["parts"])
    for shown, row in zip(
        page.locator("#matrix .heatmap tbody tr").all(), told["rows"], strict=True
    ):
        expected = [f"{row['parts'][part]:.3f}" if part in row["parts"] else "not seen yet" for part in parts]  # fmt: skip
        assert shown.locator("td").all_text_contents() == expected
    lowest = page.locator("#matrix .heatmap tfoot td").all_text_contents()
    assert lowest == [f"{told['min_acc'][part]:.3f}" for part in parts]


def test_tasks_snapshots_dead_letters_and_journal_are_listed(calm: Page) -> None:
    page = calm
    for task in example.tasks():
        row = page.locator(f"#tasks tr[data-task={task['name']}]").inner_text()
        assert f"{task['replay_rows']:,}" in row
        found = example.evaluation()["tasks"][task["name"]]
        for told in (found["score"], found["macro_recall"], found["worst"]["recall"]):
            assert f"{told:.3f}" in row
        assert f"{found['rows']:,}" in row
        assert found["worst"]["class"] in row
        assert "s ago" in row
    versions = page.locator("#snapshots tbody th").all_inner_texts()
    assert versions == ["v000007", "v000006", "v000005", "v000004"]
    assert "champion" in page.locator("#snapshots tr[data-version='6']").inner_text()
    refused = page.locator("#snapshots tr[data-version='7']").inner_text()
    assert "refused" in refused
    assert "intents 0.8420, best 0.9130, tolerance 0.02" in refused
    assert "against v000006" in refused
    page.locator("#snapshots tr[data-version='7'] summary").press("Enter")
    expect(page.locator("#snapshots .fell")).to_have_text(
        "intents 0.842, best 0.913, tolerance 0.02, 412 rows (31 worse, 2 better)"
    )
    reasons = page.locator("#dead .reason").all_inner_texts()
    assert reasons == ["bad_json", "unknown_task", "shape_mismatch"]
    journal = page.locator("#journal code").all_inner_texts()
    assert journal == [*(["snapshot_published", "task_switched"] * 3), "task_added"]


def test_what_fell_and_what_collapsed_is_red_and_comes_first(visit: Any, sidecar: StandIn) -> None:
    sidecar.answers["/api/status"] = lambda: example.status(**example.wrong())
    page = visit().open(sidecar.url)
    assert page.locator("#now").get_attribute("data-level") == "bad"
    assert (
        page.locator("#problems strong").all_inner_texts()
        == example.status(**example.wrong())["problems"]
    )
    rows = page.locator("#tasks tbody tr")
    assert [row.get_attribute("data-task") for row in rows.all()] == [
        "digits",
        "tumours",
        "intents",
    ]
    assert "fell from 0.951 to 0.504 on 412 rows (8-9)" in rows.nth(0).inner_text()
    assert "class benign is never answered" in rows.nth(1).inner_text()
    red = page.locator("#now .dot").evaluate("(one) => getComputedStyle(one).backgroundColor")
    colour = "(one) => getComputedStyle(one).color"
    for place in ("[data-field=average] dd", "[data-task=digits] b", "[data-task=tumours] .fell"):
        assert page.locator(place).first.evaluate(colour) == red
    assert page.locator("[data-task=intents] b").first.evaluate(colour) != red


def test_sources_are_listed_by_task_the_lowest_score_first(visit: Any, sidecar: StandIn) -> None:
    sidecar.answers["/api/status"] = lambda: example.status(**example.wrong())
    page = visit().open(sidecar.url)
    rows = [row.inner_text().split() for row in page.locator("#senders tbody tr").all()]
    assert rows == [
        ["camera-7/5b1c", "digits", "0.112", "850", "labels", "look", "wrong"],
        ["camera-8/91d0", "digits", "0.948", "39,870"],
        ["desk/0c44", "intents", "0.903", "12,310"],
    ]


def test_what_a_producer_wrote_is_text_and_never_markup(visit: Any, sidecar: StandIn) -> None:
    hostile = example.dead_letter(
        9, example.HOSTILE, "unknown_task", example.HOSTILE, source=example.HOSTILE
    )
    sidecar.answers["/api/status"] = lambda: example.status(events=[hostile])
    watched = visit()
    page = watched.open(sidecar.url)
    page.wait_for_selector("#dead li")
    assert example.HOSTILE in page.locator("#dead").inner_text().replace("\n", "")
    assert page.locator("#dead img, #dead script").count() == 0
    assert "taken" not in page.title()
    watched.assert_clean()


def test_the_page_asks_its_own_origin_only_reads_and_breaks_no_policy(
    visit: Any, sidecar: StandIn
) -> None:
    watched = visit()
    page = watched.open(sidecar.url)
    page.wait_for_selector("#score canvas")
    assert {method for method, _ in watched.asked} == {"GET"}
    assert [url for _, url in watched.asked if not url.startswith(sidecar.url)] == []
    watched.assert_clean()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_is_drawn_and_nothing_scrolls_sideways(
    visit: Any, sidecar: StandIn, tmp_path: Path, theme: str, width: int
) -> None:
    watched = visit(width, theme)
    page = watched.open(sidecar.url)
    page.wait_for_selector("#replay canvas")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    drawn = page.evaluate(DRAWN, "main")
    assert len(drawn) == 6
    assert min(drawn) > 2, "a chart is blank"
    page.wait_for_selector("#link[data-link=live]")
    photograph(page, tmp_path / f"page-{theme}-{width}.png")
    sidecar.answers["/api/status"] = lambda: example.status(**example.wrong())
    expect(page.locator("#tasks .fell")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.screenshot(path=tmp_path / f"wrong-{theme}-{width}.png", full_page=True)
    watched.assert_clean()


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_readable_in_both_themes_on_every_colour_of_the_heat_map(
    visit: Any, sidecar: StandIn, theme: str
) -> None:
    one_each = {f"digits/{score}": score / 100 for score in range(101)}
    row = {"step": 1, "task": "digits", "phase": "all", "parts": one_each}
    sidecar.answers["/api/status"] = lambda: example.status(matrix={"rows": [row], "min_acc": {}})
    page = visit(theme=theme).open(sidecar.url)
    page.wait_for_selector("#snapshots tr[data-version]")
    for selector in (
        "td.heat", "dt", "dd", ".hint", "small", ".chip", ".when", "code", ".legend button", ".legend .value",
        "#advice", "#link", "#theme", "th", "td", ".of-task", ".of-phase", ".facts p",
    ):  # fmt: skip
        assert page.evaluate(LOWEST_CONTRAST, selector) >= CONTRAST, selector


def test_task_switches_are_named_in_the_score_chart_and_every_value_axis_has_its_unit(
    calm: Page,
) -> None:
    written = set(calm.evaluate("window.written"))
    assert {f"{task} / {phase}" for task, phase in example.PHASES} <= written
    assert {"score", "rows/s", "events", "loss", "rows"} <= written
    assert {
        "fell: digits",
        "rollback",
        "recovered",
        "server away",
        "started",
        "v6 champion",
    } <= written


def test_arrow_keys_move_through_time_in_all_charts_and_escape_returns_to_now(
    visit: Any, sidecar: StandIn
) -> None:
    page = visit().open(sidecar.url)
    page.wait_for_selector("#lag canvas")
    plot = page.locator("#lag .plot")
    now = plot.get_attribute("aria-label")
    plot.focus()
    for key in ("PageUp", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator("#lag .when")).not_to_have_text("now")
    when = page.locator("#lag .when").inner_text()
    point = example.history()["points"][-22]
    assert plot.get_attribute("aria-label") != now
    assert f"{point['lag_events']} events" in page.locator("#lag .legend").inner_text()
    expect(page.locator("#score .when")).to_have_text(when)
    page.keyboard.press("Escape")
    expect(page.locator("#lag .when")).to_have_text("now")


def test_the_tab_key_reaches_every_control_and_shows_where_it_is(
    visit: Any, sidecar: StandIn
) -> None:
    page = visit().open(sidecar.url)
    page.wait_for_selector("#snapshots tr[data-version]")
    seen: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        told = page.evaluate(
            """() => { const at = document.activeElement, style = getComputedStyle(at);
            return [at.id || at.className || at.tagName, at.closest("section")?.id ?? "", style.outlineStyle, style.outlineWidth]; }"""
        )
        name, section, outline, wide = told
        if name in {"BODY", ""}:
            break
        assert (outline, wide) == ("solid", "2px"), f"{name} shows no focus"
        seen.append(f"{section}:{name}")
    assert seen[0] == ":skip"
    assert {":span", ":theme"} <= set(seen)
    for chart in ("score", "forgetting", "rate", "lag", "loss", "replay"):
        assert f"{chart}:plot" in seen


def test_a_task_is_hidden_in_a_chart_by_its_button(visit: Any, sidecar: StandIn) -> None:
    page = visit().open(sidecar.url)
    button = page.locator("#score .legend button", has_text="intents")
    colour = button.locator(".swatch").evaluate("(one) => getComputedStyle(one).backgroundColor")
    assert page.evaluate(HAS_COLOUR, ["#score", colour])
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert not page.evaluate(HAS_COLOUR, ["#score", colour])
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate(HAS_COLOUR, ["#score", colour])


def test_every_control_has_a_name_and_headings_leave_out_no_level(calm: Page) -> None:
    page = calm
    snapshot = page.locator("body").aria_snapshot()
    assert 'combobox "Time shown"' in snapshot
    assert 'button "Theme: auto"' in snapshot
    for name in ("Score over time", "Accuracy matrix", "Snapshots", "Dead letters", "Journal"):
        assert f'heading "{name}' in snapshot
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, [tabindex=\"0\"], section')].filter((one) =>"
        " !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.labels?.length || one.textContent.trim())).length"
    )
    assert unnamed == 0


def test_less_motion_is_respected(visit: Any, sidecar: StandIn) -> None:
    moving = visit().open(sidecar.url)
    moving.wait_for_selector("#link[data-link=live]")
    name = "getComputedStyle(document.querySelector('#link .dot')).animationName"
    assert moving.evaluate(name) == "breathe"
    still = visit(reduced_motion="reduce").open(sidecar.url)
    still.wait_for_selector("#link[data-link=live]")
    assert still.evaluate(name) == "none"


def test_the_theme_follows_the_system_until_the_reader_chooses_and_the_choice_is_kept(
    visit: Any, sidecar: StandIn
) -> None:
    page = visit(theme="dark").open(sidecar.url)
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    button = page.locator("#theme")
    assert button.inner_text() == "Theme: auto"
    button.click()
    assert button.inner_text() == "Theme: light"
    light = page.evaluate(paper)
    assert light != dark
    page.reload()
    page.wait_for_selector("#score canvas")
    assert page.evaluate(paper) == light
    button.click()
    assert button.inner_text() == "Theme: dark"
    assert page.evaluate(paper) == dark
