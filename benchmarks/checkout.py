"""`--from CHECKOUT`: a benchmark of this checkout with the engine of another one, kept as `<name>_before.json`.

Importing this puts the other checkout first on the path, so a benchmark imports it before whatever imports the engine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

FLAG = "--from"
HIDDEN = "CHECKOUT"  # where it lies on this machine is nobody's business


def given(words: list[str]) -> str | None:
    """The checkout that a command line names."""
    return words[words.index(FLAG) + 1] if FLAG in words[:-1] else None


OTHER = given(sys.argv)
if OTHER is not None:
    sys.path.insert(0, str(Path(OTHER).resolve()))


def parsed(parser: argparse.ArgumentParser, *, seeds: int) -> argparse.Namespace:
    """The command line, with the options that all such benchmarks have."""
    parser.add_argument("--seeds", type=int, default=seeds, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument(FLAG, dest="checkout", help="another checkout, whose engine is run")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the benchmark where the engine is not the one that was asked for."""
    import mtl_engine

    if options.checkout is None:
        return
    if OTHER is None:
        parser.error(f"write it as two words: {FLAG} CHECKOUT")
    if not Path(mtl_engine.__file__).is_relative_to(Path(options.checkout).resolve()):
        parser.error(
            f"the engine is that of {mtl_engine.__file__}: allowed is a checkout with mtl_engine in it"
        )


def commit() -> str:
    """Whose engine it is."""
    words = ["git", "-C", OTHER or ".", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def finish(name: str, figures: dict[str, Any], save: bool) -> None:
    """`report.finish`, with the commit that the engine is of and without the path of its checkout."""
    import report

    figures = {"of": commit(), **figures}
    if OTHER is not None:
        sys.argv[sys.argv.index(FLAG) + 1] = HIDDEN
    report.finish(name if OTHER is None else f"{name}_before", figures, save)
