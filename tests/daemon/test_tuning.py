"""Settings of the training process: they are made once, and what the operator set stays."""

from __future__ import annotations

import gc
import platform

import pytest

from daemon import tuning


def test_threads_spin_for_a_while_unless_the_operator_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spins(**given: str) -> str | None:
        monkeypatch.setattr(tuning.os, "environ", given)
        tuning.before_torch()
        return given.get("GOMP_SPINCOUNT")

    assert spins() == tuning.SPINS
    assert spins(GOMP_SPINCOUNT="7") == "7"
    assert spins(OMP_WAIT_POLICY="passive") is None


def test_freed_memory_is_kept_where_the_c_library_can() -> None:
    assert tuning.keep_freed_memory() is (platform.libc_ver()[0] == "glibc")


def test_the_collector_leaves_alone_what_was_there_at_the_start() -> None:
    before = gc.get_freeze_count()
    try:
        tuning.after_start()
        assert gc.get_freeze_count() > before + 1000
    finally:
        gc.unfreeze()
