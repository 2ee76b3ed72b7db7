"""A real Chromium, a page that remembers everything that went wrong in it, and a stand-in for the sidecar."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.browser import example
from tests.browser.standin import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
COLOURS = 224  # of a kept picture
SPY = """
window.violations = [];
window.written = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
const draw = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  window.written.push(text);
  return draw.call(this, text, ...place);
};
"""


@dataclass
class Watched:
    """A page, and all that a careful reader of the developer tools would have seen."""

    page: Page
    wrong: list[str] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.add_init_script(SPY)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)
        self.page.on("request", lambda request: self.asked.append((request.method, request.url)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(f"console {message.type}: {message.text}")

    def _failed(self, request: Request) -> None:
        self.wrong.append(f"failed: {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")

    def open(self, url: str) -> Page:
        """Go there and wait until the first status is shown."""
        self.page.goto(url)
        self.page.wait_for_selector("#figures [data-field]")
        return self.page

    def assert_clean(self) -> None:
        """No error, no warning, no failed request, nothing that the content security policy stopped."""
        assert self.wrong == []
        assert self.page.evaluate("window.violations") == []


def photograph(page: Page, file: Path) -> None:
    """Write the whole page as a picture; MTLD_SCREENSHOTS names a folder that keeps it, in few colours and small."""
    page.screenshot(path=file, full_page=True)
    folder = os.environ.get("MTLD_SCREENSHOTS")
    if folder:
        with Image.open(file) as picture:
            few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            few.save(Path(folder) / file.name, optimize=True)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests; they are reported as not run where it is missing."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: apt install chromium fonts-inter")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def visiting(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens pages; each has a browser profile of its own."""
    contexts: list[Any] = []

    def new(width: int = 1280, theme: str = "light", **settings: Any) -> Watched:
        viewport = {"width": width, "height": 900}
        contexts.append(chromium.new_context(viewport=viewport, color_scheme=theme, **settings))
        return Watched(contexts[-1].new_page())

    yield new
    for context in contexts:
        context.close()


@contextmanager
def training() -> Iterator[StandIn]:
    """A sidecar beside a daemon that trains."""
    standin = StandIn(
        {
            "/api/status": example.status,
            "/api/history": example.history,
            "/api/releases": example.releases,
            "/api/scorecard": partial(example.scorecard, "digits"),
            **{
                f"/api/scorecard?task={one}": partial(example.scorecard, one)
                for one in example.CARDS
            },
        }
    )
    yield standin
    standin.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """Pages of this test."""
    with visiting(chromium) as new:
        yield new


@pytest.fixture
def sidecar() -> Iterator[StandIn]:
    """A sidecar whose answers this test may change."""
    with training() as standin:
        yield standin


@pytest.fixture(scope="module")
def calm(chromium: Browser) -> Iterator[Page]:
    """One page of a daemon that trains, for all tests of a module that only look at it."""
    with training() as standin, visiting(chromium) as new:
        page = new().open(standin.url)
        page.wait_for_selector("#replay canvas")
        page.wait_for_selector("#snapshots tr[data-version]")
        page.wait_for_selector("#classes .curve")
        yield page
