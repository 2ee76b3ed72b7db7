"""The page's files: complete in the package, nothing from elsewhere, nothing inline, nothing read as markup."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STATIC = ROOT / "daemon" / "web" / "static"
VENDORED = STATIC / "vendor" / "uplot"
FILES = sorted(path for path in STATIC.rglob("*") if path.is_file())
OURS = [path for path in FILES if "vendor" not in path.parts]
SCRIPTS = sorted(STATIC.glob("js/*.js"))
INDEX = (STATIC / "index.html").read_text(encoding="utf-8")


def test_the_vendored_library_is_as_it_was_fetched_with_its_licence_and_pinned_version() -> None:
    sums = dict(
        reversed(line.split(maxsplit=1))
        for line in (VENDORED / "SHA256SUMS").read_text().splitlines()
    )
    assert set(sums) == {path.name for path in VENDORED.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == digest, name
    assert "Permission is hereby granted, free of charge" in (VENDORED / "LICENSE").read_text()
    makefile = (ROOT / "Makefile").read_text()
    version, digest = re.findall(r"^UPLOT(?:_SHA512)? := (\S+)$", makefile, re.MULTILINE)
    assert (VENDORED / "VERSION").read_text() == f"uplot {version}\nsha512-{digest}\n"


def test_an_installed_package_contains_every_file_of_the_page() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["daemon.web"]
    packed = {path for pattern in patterns for path in (ROOT / "daemon" / "web").glob(pattern)}
    assert set(FILES) <= packed


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_a_file_of_the_page_names_no_other_host(path: Path) -> None:
    named = re.findall(r"https?://[^\s\"'<>]+", path.read_text(encoding="utf-8"))
    assert set(named) <= {"http://www.w3.org/2000/svg"}


def test_every_file_that_the_page_loads_exists_and_every_module_is_loaded() -> None:
    wanted = {
        STATIC / name.removeprefix("static/")
        for name in re.findall(r"(?:src|href)=\"(static/[^\"]+)\"", INDEX)
    }
    for module in SCRIPTS:
        for name in re.findall(r"^import .*from \"(.+)\";$", module.read_text(), re.MULTILINE):
            wanted.add((module.parent / name).resolve())
    assert [path for path in wanted if not path.is_file()] == []
    assert {path for path in OURS if path.suffix != ".html"} <= wanted


def test_the_page_has_nothing_inline_that_its_policy_would_stop() -> None:
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", INDEX) == []
    assert re.findall(r"<script(?![^>]*\ssrc=)", INDEX) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_never_reads_text_as_markup_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|setAttribute\(\"style"
    assert re.findall(banned, text) == []
    assert len(text.splitlines()[0].removeprefix("//").split()) >= 5


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_only_reads_from_the_sidecar(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"method:|XMLHttpRequest|sendBeacon|WebSocket|<form", text) == []
