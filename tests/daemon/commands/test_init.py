"""`mtld init`: the file it writes is accepted as it is, and every default in it is the real one."""

from __future__ import annotations

import inspect
import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

from daemon.commands.init import EXAMPLES, template
from daemon.config import Config, load
from tests.daemon.commands.conftest import Mtld


def set_free() -> str:
    """The file with every setting taken out of its comment."""
    text = "\n".join(template())
    return re.sub(r"^#(?=\w+ = |\[\[)", "", text, flags=re.MULTILINE)


def test_the_file_passes_the_check_and_sets_nothing(mtld: Mtld, tmp_path: Path) -> None:
    file = tmp_path / "mtld.toml"
    made = mtld("init", file)
    assert (made.code, made.out.splitlines()[0]) == (0, f"wrote {file}")
    assert mtld("config", "check", "-c", file).code == 0
    assert load(file).to_dict() == load().to_dict()


def test_nothing_is_overwritten(mtld: Mtld, tmp_path: Path) -> None:
    file = tmp_path / "mtld.toml"
    file.write_text("mine")
    result = mtld("init", file)
    assert (result.code, "exists" in result.err) == (7, True)
    assert file.read_text() == "mine"
    assert mtld("init", tmp_path / "none" / "mtld.toml").code == 1


def test_a_dry_run_prints_the_file_and_writes_none(mtld: Mtld, tmp_path: Path) -> None:
    file = tmp_path / "mtld.toml"
    assert "#batch_size = 32" in mtld("init", file, "--dry-run").out.splitlines()
    assert not file.exists()


def test_every_setting_is_there_with_its_default_and_its_meaning() -> None:
    table = tomllib.loads(set_free())
    for one in fields(Config):
        if isinstance(one.default_factory, type) and is_dataclass(one.default_factory):
            plain = one.default_factory()
            for inner in fields(one.default_factory):
                wanted = getattr(plain, inner.name)
                found = table[one.name][inner.name]
                assert found == (EXAMPLES[inner.name] if wanted is None else wanted)
        elif one.name not in {"engine", "tasks"}:
            assert one.name in table
    lines = "\n".join(template()).splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#\w+ = ", line) and not line.startswith(("#name", "#modality", "#kind")):
            assert lines[number - 1].startswith("# "), f"no meaning above {line}"


def test_the_engines_defaults_are_those_of_the_engine() -> None:
    from mtl_engine.engine import Engine
    from mtl_engine.strategies import RECOMMENDED

    given = tomllib.loads(set_free())["engine"]
    real = {
        name: one.default
        for name, one in inspect.signature(Engine.__init__).parameters.items()
        if name in given
    }
    advised = RECOMMENDED[given["strategy"]]
    assert given == {
        name: advised[name] if value is None else value for name, value in real.items()
    }


def test_with_every_example_uncommented_a_daemon_would_still_start(tmp_path: Path) -> None:
    file = tmp_path / "mtld.toml"
    password = tmp_path / "password"
    password.write_text("secret")
    text = set_free()
    for name in ("password_file", "secret_file"):
        text = text.replace(EXAMPLES[name], str(password))
    file.write_text(text)
    assert load(file).tasks == [{"name": "mood", "modality": "text", "kind": "classification"}]
