"""The table of reasons is the whole truth: what the page says, and no code that nobody gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemon.events.reasons import REASONS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SOURCE = "".join(
    path.read_text(encoding="utf-8")
    for folder in ("daemon", "mtl_engine")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "reasons.py"
)


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_a_word_with_one_sentence(reason: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{2,31}", reason)
    assert REASONS[reason].endswith(".")
    assert REASONS[reason].count(". ") == 0


@pytest.mark.parametrize("reason", REASONS)
def test_the_page_explains_a_reason_in_the_same_words(reason: str) -> None:
    assert f"| `{reason}` | {REASONS[reason]} |" in PAGE


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_given_somewhere(reason: str) -> None:
    assert f'"{reason}"' in SOURCE
