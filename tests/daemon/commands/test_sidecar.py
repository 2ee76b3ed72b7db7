"""`mtld sidecar`: what it is started with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon.commands.conftest import Mtld


def test_an_address_that_others_reach_is_a_usage_error(mtld: Mtld) -> None:
    result = mtld("sidecar", "--listen", "0.0.0.0:9464")
    assert result.code == 2
    assert "allowed are 127.0.0.1, [::1] and localhost" in result.err
    assert result.err.count("\n") == 1


def test_it_serves_the_state_directory_of_the_daemon(
    mtld: Mtld, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, str]] = []

    def serve(state_dir: Path, listen: str) -> int:
        seen.append((state_dir, listen))
        return 0

    monkeypatch.setattr("daemon.sidecar.serve", serve)
    assert mtld("sidecar").code == 0
    assert mtld("sidecar", "--listen", "[::1]:80").code == 0
    assert seen == [(state, "127.0.0.1:9464"), (state, "[::1]:80")]
