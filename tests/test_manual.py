"""The manual page says what the verbs are now, and renders without a warning."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def manual(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "docs")
    module = import_module("manual")
    yield module
    for name in ("manual", "generate"):
        sys.modules.pop(name, None)


def test_the_page_is_what_the_code_says_now(manual: Any) -> None:
    assert manual.PAGE.read_text(encoding="utf-8") == manual.page(), "run `make docs`"


def test_every_verb_is_on_the_page(manual: Any) -> None:
    from daemon.commands import COMMANDS

    text = manual.PAGE.read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f".SS mtld {name}" not in text] == []


def test_text_cannot_become_a_request(manual: Any) -> None:
    assert manual.escaped(".jsonl and\n'x' \\ --y") == "\\&.jsonl and\n\\&'x' \\e \\-\\-y"


@pytest.mark.apt
def test_the_page_renders_without_a_warning(manual: Any) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is missing: apt install groff")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-rLL=80n", str(manual.PAGE)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "mtld dead export" in done.stdout
