"""`mtld config`: what is shown can be loaded again, and what does not fit exits 2."""

from __future__ import annotations

import tomllib
from pathlib import Path

from daemon.config import load
from tests.daemon.commands.conftest import Mtld

TEXT = """
redis_url = "redis://h:1"
[strategy]
name = "derpp"
alpha = 0.2
[stream]
batch_size = 8
[[task]]
name = "fashion"
classes = ["a \\"quoted\\" one", "é"]
input_shape = [28, 28]
"""


def test_what_is_shown_can_be_loaded_again(mtld: Mtld, tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(TEXT)
    shown = mtld("config", "show", "-c", tmp_path / "one.toml").out
    (tmp_path / "two.toml").write_text(shown)
    assert load(tmp_path / "two.toml") == load(tmp_path / "one.toml")
    assert tomllib.loads(shown)["engine"]["strategy"] == {"name": "derpp", "alpha": 0.2}


def test_every_setting_is_shown_as_json(mtld: Mtld, state: Path) -> None:
    found = mtld("config", "show", "-o", "json").json
    assert found["state_dir"] == str(state)
    assert found["stream"]["batch_size"] == 32
    assert found["password_file"] is None


def test_the_salt_of_the_hold_outs_is_never_shown(mtld: Mtld, tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('[holdout]\nsalt = "nobody knows"\n')
    assert load(tmp_path / "one.toml").holdout.salt == "nobody knows"
    text = mtld("config", "show", "-c", tmp_path / "one.toml").out
    assert "nobody knows" not in text
    assert "salt is set; it is a secret" in text
    assert "salt" not in tomllib.loads(text).get("holdout", {})  # or it would set another one
    shown = mtld("config", "show", "-c", tmp_path / "one.toml", "-o", "json")
    assert shown.json["holdout"] == {"salt": "set"}
    assert mtld("config", "show", "-o", "json").json["holdout"] == {"salt": None}


def test_infinity_which_json_has_not_is_shown_as_toml_spells_it(mtld: Mtld, tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("[engine]\nclip_norm = inf\n")
    shown = mtld("config", "show", "-c", tmp_path / "one.toml", "-o", "json")
    assert shown.json["engine"] == {"clip_norm": "inf"}
    assert "clip_norm = inf" in mtld("config", "show", "-c", tmp_path / "one.toml").out


def test_a_good_file_is_checked_and_a_bad_one_is_a_usage_error(mtld: Mtld, tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text(TEXT)
    assert mtld("config", "check", "-c", good).out.startswith(f"ok: {good}")
    good.write_text(TEXT.replace("batch_size", "batch_sise"))
    result = mtld("config", "check", "-c", good)
    assert (result.code, result.out) == (2, "")
    assert "did you mean 'batch_size'?" in result.err
