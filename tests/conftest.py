"""Settings of the whole test run: fixed seeds, two threads, the device under test, and honest skips."""

from __future__ import annotations

import gc
import os
import random
import sys

import numpy as np
import pytest

# Tests share the cores with servers and daemons: threads must not wait by spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
_SEED = 20_240_229  # any number; the same in every run, so that a failure can be looked at again
_not_run: dict[str, list[str]] = {}  # reason -> tests


@pytest.fixture(scope="session")
def test_device() -> str:
    """The torch device the engine is tested on: `TEST_DEVICE`, by default the CPU."""
    return os.environ.get("TEST_DEVICE", "cpu")


@pytest.fixture(autouse=True)
def _repeatable() -> None:  # pyright: ignore[reportUnusedFunction]
    """Same random numbers in every run and order; two threads, for which bit-equality is promised.

    Torch is set up only where a test's module loaded it: most of the daemon's tests start without.
    """
    random.seed(_SEED)
    np.random.seed(_SEED)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.manual_seed(_SEED)  # a tenth of what torch.manual_seed takes
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(_SEED)
        torch.set_num_threads(2)
        torch.use_deterministic_algorithms(os.environ.get("TEST_DEVICE", "cpu") == "cpu")


def pytest_collection_finish() -> None:
    """What the tests import stays: no collection has to look through all of torch again."""
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what was skipped and why."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _not_run.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Tests left out by a marker are not run either, and the summary says which marker runs them."""
    for item in items:
        marks = [m for m in ("apt", "browser", "chaos", "long") if item.get_closest_marker(m)]
        if marks:
            _not_run.setdefault(f"marked {marks[0]}; .ci/run runs them", []).append(item.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason: a skip never looks like a pass."""
    for reason, tests in sorted(_not_run.items()):
        names = ", ".join(sorted({name.split("::")[0] for name in tests}))
        terminalreporter.write_line(f"NOT RUN: {reason} ({len(tests)} tests in {names})")
