"""A benchmark with the engine of another checkout: which one it is, and a clear word where it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import checkout
import pytest

BENCHMARKS = Path(checkout.__file__).parent
SCRIPT = """
import argparse, checkout
checkout.parsed(argparse.ArgumentParser(), seeds=5)
import mtl_engine
checkout.finish("none", {"engine": mtl_engine.__file__}, False)
"""


def told(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCHMARKS)


@pytest.mark.parametrize(
    ("words", "named"),
    [([], None), (["--from"], None), (["--seeds", "2", "--from", "/there"], "/there")],
)
def test_the_checkout_is_the_word_after_the_flag(words: list[str], named: str | None) -> None:
    assert checkout.given(words) == named


def test_the_engine_of_another_checkout_is_run_and_its_place_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "mtl_engine").mkdir()
    (tmp_path / "mtl_engine" / "__init__.py").touch()
    for words in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "c"]):  # fmt: skip
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    line = json.loads(told("--from", str(tmp_path)).stdout)
    assert Path(line["engine"]).parent.parent == tmp_path.resolve()
    assert line["command"].endswith("--from CHECKOUT")
    assert len(line["of"]) >= 7


def test_a_folder_without_an_engine_is_refused(tmp_path: Path) -> None:
    assert "a checkout with mtl_engine in it" in told("--from", str(tmp_path)).stderr


def test_one_word_is_refused_since_it_came_too_late() -> None:
    found = told("--from=elsewhere")
    assert found.returncode == 2
    assert "write it as two words: --from CHECKOUT" in found.stderr
