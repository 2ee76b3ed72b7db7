"""Settings: precedence, and a refusal that helps for everything that does not fit."""

from __future__ import annotations

import ast
import json
from dataclasses import fields
from pathlib import Path

import pytest

from daemon.config import Config, load, state_directory
from daemon.errors import ConfigError
from daemon.keywords import ENGINE_KEYS, TASK_KEYS

ENGINE = Path(__file__).parents[2] / "mtl_engine" / "engine.py"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MTLD_STATE", "STATE_DIRECTORY", "XDG_STATE_HOME", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def from_text(tmp_path: Path, text: str, **overrides: object) -> Config:
    path = tmp_path / "mtld.toml"
    path.write_text(text)
    return load(path, overrides)


def test_a_daemon_needs_no_file() -> None:
    config = load(None)
    assert config.redis_url is None
    assert config.stream.batch_size == 32
    assert config.state_dir == Path("~/.local/state/mtld").expanduser()


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'state_dir = "/from/file"\n[log]\nlevel = "error"\n'
    assert from_text(tmp_path, text).state_dir == Path("/from/file")
    monkeypatch.setenv("MTLD_STATE", "/from/environment")
    assert from_text(tmp_path, text).state_dir == Path("/from/environment")
    found = from_text(tmp_path, text, **{"state_dir": Path("/from/flag"), "log.level": "debug"})
    assert (found.state_dir, found.log.level) == (Path("/from/flag"), "debug")


def test_a_service_manager_names_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/mtld:/var/lib/other")
    assert state_directory() == Path("/var/lib/mtld")


def test_a_hook_is_a_program_a_web_hook_or_both(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    text = (
        '[hook]\nexec = ["notify", "-v"]\nwebhook = "https://a.example/b"\nsecret_file = "secret"\n'
    )
    found = from_text(tmp_path, text).hook
    assert (found.exec, found.webhook) == (["notify", "-v"], "https://a.example/b")
    assert found.secret_file == tmp_path / "secret"
    with pytest.raises(ConfigError, match=r"hook\.secret_file .*/none cannot be read"):
        from_text(tmp_path, '[hook]\nsecret_file = "none"')


def test_an_override_that_was_not_given_changes_nothing(tmp_path: Path) -> None:
    assert from_text(tmp_path, 'namespace = "a"', namespace=None).namespace == "a"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('namespase = "a"', "unknown setting 'namespase': did you mean 'namespace'?"),
        ("[steam]\nbatch_size = 2", "unknown setting 'steam': did you mean 'stream'?"),
        (
            "[stream]\nbatchsize = 2",
            "unknown setting 'stream.batchsize': did you mean 'batch_size'?",
        ),
        (
            "[engine]\nbuffer_row = 2",
            "unknown setting 'engine.buffer_row': did you mean 'buffer_rows'?",
        ),
        (
            '[[task]]\nname = "a"\nmodalty = "text"',
            "unknown setting 'task[0].modalty': did you mean 'modality'?",
        ),
        ("[stream]\nzzz = 2", "unknown setting 'stream.zzz': known are batch_size"),
        ('[stream]\nbatch_size = "8"', "stream.batch_size is '8' (str); it must be int"),
        ("[stream]\nbatch_size = 1.5", "stream.batch_size is 1.5 (float); it must be int"),
        ("[stream]\nbatch_size = true", "stream.batch_size is True (bool); it must be int"),
        ("[publish]\non_switch = 1", "publish.on_switch is 1 (int); it must be bool"),
        ('[hook]\nexec = "notify"', "hook.exec is 'notify' (str); it must be list"),
        ('[hook]\nexec = ["notify", 3]', "hook.exec is ['notify', 3]; write a program"),
        ('[hook]\nwebhook = "ftp://a/b"', "hook.webhook is 'ftp://a/b'; allowed are http:// and"),
        ('[hook]\nwebhook = "https://me:key@a/b"', "addresses without a password"),
        ("[stream]\nbatch_size = 0", "stream.batch_size is 0; allowed is 1 to 65536"),
        ("lease_ttl_s = nan", "lease_ttl_s is nan; allowed is 0.5 to 600"),
        ("[limits]\nmax_rows = 0", "limits.max_rows is 0; allowed is 1 to any"),
        (
            '[stream]\nmix = "logs"',
            "stream.mix is 'logs'; did you mean 'log'? (allowed: log, task)",
        ),
        ("log = 3", "log is 3; write it as a [log] table"),
        ("engine = 3", "engine is 3; write it as an [engine] table"),
        ("task = 3", "task is 3; write each task as a [[task]] table"),
        ("[[task]]\nkind = 'regression'", "task[0] has no name"),
        ("[[task]]\nname = 'a'\n[[task]]\nname = 'a'", "task 'a' is declared twice"),
        ("[[task]]\nname = 'a'\nshare = nan", "task[0] goes into the log as JSON: Out of range"),
        ('namespace = "a{b}"', "allowed are letters, digits"),
        (
            'redis_url = "http://x"',
            "scheme 'http'; allowed are redis, rediss, unix, redis+sentinel",
        ),
        ('redis_url = "redis://me:secret@x"', "holds a password; put it in a file"),
        ('[limits]\nreference_root = "data"', "must be an absolute path"),
        (
            '[engine]\nstrategy = "er"\n[strategy]\nname = "er"',
            "set both at the top and in [engine]",
        ),
        ("password_file = 3", "password_file is 3 (int); it must be Path"),
        ("not toml", "is not TOML"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(tmp_path, text)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read.*--config"):
        load(tmp_path / "none.toml")


def test_an_override_in_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"write it as a \[log\] table"):
        from_text(tmp_path, "log = 3", **{"log.level": "debug"})


def test_the_tables_of_the_engines_parts_stand_beside_or_inside_the_engine(tmp_path: Path) -> None:
    text = '[engine]\nbuffer_rows = 9\n[engine.trunk]\nwidth = 8\n[strategy]\nname = "derpp"\nalpha = 0.2\n'
    assert from_text(tmp_path, text).engine == {
        "buffer_rows": 9,
        "trunk": {"width": 8},
        "strategy": {"name": "derpp", "alpha": 0.2},
    }


def test_a_whole_number_is_accepted_where_a_fraction_is_allowed(tmp_path: Path) -> None:
    found = from_text(tmp_path, "lease_ttl_s = 5").lease_ttl_s
    assert found == 5.0
    assert isinstance(found, float)


def test_relative_paths_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    found = from_text(tmp_path, 'state_dir = "state"\npassword_file = "secret"')
    assert (found.state_dir, found.password_file) == (tmp_path / "state", tmp_path / "secret")


def test_the_password_file_comes_from_the_service_managers_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load(None).password_file is None
    (tmp_path / "redis-password").write_text("hush")
    assert load(None).password_file == tmp_path / "redis-password"
    assert "hush" not in json.dumps(load(None).to_dict())


def test_a_named_password_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name a file that this user may read"):
        load(None, {"password_file": tmp_path / "none"})


def test_the_names_of_settings_are_those_the_engine_takes() -> None:
    tree = ast.parse(ENGINE.read_text())  # read, not imported: this side never loads torch
    engine = next(
        one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "Engine"
    )
    init = next(
        one for one in engine.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"
    )
    taken = {one.arg for one in (*init.args.args, *init.args.kwonlyargs)} - {"self"}
    elsewhere = {"teacher_every", "salt"}  # which [stream] and [holdout] set
    assert set(ENGINE_KEYS) | elsewhere == taken


def test_the_names_of_task_settings_are_those_of_the_specification() -> None:
    types = pytest.importorskip("mtl_engine.types")
    assert set(TASK_KEYS) == {one.name for one in fields(types.TaskSpec)}
