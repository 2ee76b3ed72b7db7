"""The runbook knows every state and fault, its commands can be typed as they stand, and its links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from daemon.commands import COMMANDS
from daemon.condition import _ADVICE, HEALTHY, TRANSIENT
from tests.support.daemon_process import ROOT

PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
PAGES = [ROOT / "docs/operations.md", *sorted((ROOT / "docs/recipes").glob("*.md"))]


def rows(heading: str) -> set[str]:
    """First column of the table in a section."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_every_state_that_status_can_show_is_explained() -> None:
    assert rows("States") >= {*HEALTHY, *TRANSIENT, *_ADVICE}


def test_every_fault_that_the_daemon_counts_is_explained() -> None:
    named: set[str] = set()
    for path in (ROOT / "daemon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
                is_fault = node.func.attr in {"fault", "_wait_out"}
                if is_fault and isinstance(first, ast.Constant):
                    named.add(str(first.value))
    assert named
    assert rows("Faults") >= named


def typed() -> list[Any]:
    """Every command line of `mtld` on the pages, in blocks and in running text."""
    found: list[Any] = []
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        lines = re.findall(r"^mtld [^#\n]+", blocks.replace("\\\n", " "), re.MULTILINE)
        lines += re.findall(r"`(mtld [a-z][^`]*)`", text)
        found += [pytest.param(line.strip(), id=f"{page.stem}: {line.strip()}") for line in lines]
    return found


@pytest.mark.parametrize("line", typed())
def test_every_command_can_be_typed_as_it_stands(line: str) -> None:
    words = shlex.split(re.split(r" [|>&]", line)[0].removesuffix("..."))[1:]
    assert words[0] in COMMANDS, f"{words[0]} is no verb"
    module, _, name = COMMANDS[words[0]].partition(":")
    verb = vars(import_module(module))[name]
    if isinstance(verb, typer.Typer):
        group: Any = typer.main.get_command(verb)
        if len(words) == 1:
            return
        assert words[1] in group.commands, f"{words[0]} {words[1]} is no verb"
        options = {one for parameter in group.commands[words[1]].params for one in parameter.opts}
    else:
        app = typer.Typer()
        app.command()(verb)
        command: Any = typer.main.get_command(app)
        options = {one for parameter in command.params for one in parameter.opts}
    used = {word.split("=")[0] for word in words if word.startswith("-")}
    assert used <= options, f"{used - options} is no option of it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_inside_a_page_has_its_heading(page: Path) -> None:
    text = page.read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= slugs
