"""The documentation says what the code is: tables, file tree, verbs, settings, reasons, links, and code that runs."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("benchmarks/*.md")])
MODULES = sorted(
    path for folder in ("mtld", "mtl_engine", "daemon") for path in (ROOT / folder).rglob("*.py")
)
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _generator()
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", generate.PAGES)
def test_generated_parts_are_what_the_code_says_now(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert generate.filled(text) == text, f"{page} is out of date: run `make docs`"


def test_every_table_of_the_generator_is_on_a_page() -> None:
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in generate.PAGES)
    missing = [name for name in generate.PARTS if f"<!-- generated: {name} -->" not in pages]
    assert not missing


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_begins_with_a_sentence_that_says_what_it_is_for(path: Path) -> None:
    assert len(generate.sentence(path).split()) >= 3


def test_the_file_tree_names_every_module() -> None:
    tree = README.split("<!-- generated: tree -->")[1].split("<!-- end -->")[0]
    for path in MODULES:
        name = path.relative_to(ROOT).as_posix().removesuffix("__init__.py")
        assert name in tree or path.name in tree, f"{name} is missing in the README"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_verb_that_a_page_mentions_exists(page: Path) -> None:
    from daemon.commands import COMMANDS

    words = re.findall(r"`mtld ([a-z]+)", page.read_text(encoding="utf-8"))
    assert set(words) <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_make_target_that_a_page_mentions_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", page.read_text(encoding="utf-8"))) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_verb_says_in_its_help_what_it_does() -> None:
    assert [name for name, told in generate.verb_help().items() if len(told.split()) < 3] == []


def test_every_setting_is_documented_with_its_meaning() -> None:
    from daemon.config import Config

    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    tables = [one.default_factory for one in fields(Config) if is_dataclass(one.default_factory)]
    for kind in (Config, *tables):
        for one in fields(kind):
            if is_dataclass(one.default_factory) or one.name in {"engine", "tasks"}:
                continue
            row = re.search(rf"^\| `{one.name}` \|.*\| (.+) \|$", page, re.MULTILINE)
            assert row is not None, f"{kind.__name__}.{one.name} has no row"
            assert len(row[1].split()) >= 2, (
                f"{kind.__name__}.{one.name} has no comment in its source"
            )


def test_every_reason_for_a_dead_letter_is_documented() -> None:
    from daemon.events.reasons import REASONS

    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert [reason for reason in REASONS if f"`{reason}`" not in page] == []


def test_every_reason_that_the_code_gives_is_in_the_table_of_reasons() -> None:
    from daemon.events.reasons import REASONS

    given = {
        node.args[0].value
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"BadEvent", "BadRows"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert given, "no reason found: has the way they are raised changed?"
    assert given - set(REASONS) == set()


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs/adr").glob("0*.md")), ids=lambda path: path.stem
)
def test_every_decision_says_how_it_is_enforced_and_is_listed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for part in ("**Context.**", "**Decision.**", "**Consequences.**", "**Enforced by**"):
        assert part in text
    assert page.name in (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")


def _blocks() -> list[Any]:
    return [
        pytest.param(code, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, code in enumerate(CODE.findall(page.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize("code", _blocks())
def test_every_python_block_runs(code: str) -> None:
    exec(compile(code, "block", "exec"), {"__name__": "block"})  # noqa: S102 - our own pages


@pytest.mark.redis
def test_the_producer_of_the_readme_sends_two_events(tmp_path: Path) -> None:
    from daemon.broker import EmbeddedBroker

    code = next(code for code in CODE.findall(README) if "Producer" in code)
    namespace: dict[str, Any] = {"__name__": "block"}
    exec(compile(code, "block", "exec"), namespace)  # noqa: S102 - our own page
    with EmbeddedBroker(tmp_path) as broker:
        assert namespace["send"](broker.url) >= 2


def test_the_strategy_of_the_readme_passes_the_test_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, test = (code for code in CODE.findall(README) if "rehearsal" in code.split("\n")[0])
    (tmp_path / "rehearsal.py").write_text(strategy, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, Any] = {"__name__": "block"}
    exec(compile(test, "block", "exec"), namespace)  # noqa: S102 - our own page
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_the_output_of_the_demo_in_the_readme_is_that_of_a_committed_run() -> None:
    told = README.split("```text\nAccuracy (%)")[1].split("```")[0]
    run = (ROOT / "docs" / "demo.txt").read_text(encoding="utf-8")
    assert f"Accuracy (%){told}".strip() in run
