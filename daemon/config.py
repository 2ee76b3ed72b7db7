"""The settings of a daemon: one frozen dataclass per table of `mtld.toml`, loaded, checked and never changed.

Precedence: command-line flag, then environment, then file, then the defaults below.
"""

# ruff: noqa: RUF009 - setting() gives a field(), made once per class as it should be
from __future__ import annotations

import os
import re
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from daemon import finite
from daemon.errors import ConfigError
from daemon.keywords import ENGINE_KEYS, ENGINE_TABLES, TASK_KEYS
from daemon.places import check_url, password_file, state_directory
from daemon.strict import build, jsonable, refuse_unknown, setting
from daemon.types import Json, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Stream:
    """`[stream]`: how the log is read, batched and kept."""

    # rows a step takes from the log; part of what the run computes
    batch_size: int = setting(32, 1, 65_536)
    # batches in log order over all tasks, or gathered per task
    mix: str = setting("log", one_of=("log", "task"))
    # s that an incomplete batch waits before a flush is logged
    linger_s: float = setting(2.0, 0.01, 3600)
    # events; producers stop at this lag, checkpoints come every half of it
    max_unread: int = setting(10_000, 2)
    # entries a read returns; bounds what is prefetched
    read_count: int = setting(64, 1, 4096)
    # event keys remembered, 32 bytes each; an event repeated after so many others is learned again
    dedup_events: int = setting(65_536, 16, 16_777_216)
    # bytes of log kept for rolling back and replaying
    log_retain_bytes: int = setting(1 << 30, 1 << 20)
    # h of log kept, whichever bound is met first
    log_retain_hours: float = setting(168.0, 0.01)
    # steps between teachers on a stream that never switches tasks
    teacher_every: int = setting(2000, 1)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`[checkpoint]`: how much work a crash repeats, and how many states stay."""

    # s between checkpoints; a crash repeats at most this much
    every_s: float = setting(5.0, 0.05, 86_400)
    # newest checkpoints kept; one alone would leave nothing to fall back on
    keep: int = setting(5, 2, 1000)
    # and before them this many, an hour apart: how far back a rollback, a replay and the log reach
    keep_hourly: int = setting(6, 0, 1000)


@dataclass(frozen=True, slots=True)
class Publish:
    """`[publish]`: when users get a new snapshot."""

    # s between snapshots; 0 = only on a switch or when asked
    every_s: float = setting(600.0, 0)
    # whether a task switch publishes
    on_switch: bool = setting(True)
    # newest snapshots kept; one that an alias names always stays
    keep: int = setting(5, 1, 1000)


@dataclass(frozen=True, slots=True)
class Evaluate:
    """`[evaluate]`: when every hold-out is scored; the decision to do so stands in the log."""

    # s between evaluations; 0 = only at task switches
    every_s: float = setting(300.0, 0)


@dataclass(frozen=True, slots=True)
class Gate:
    """`[gate]`: which published snapshots become champion."""

    # auto = each that no task's hold-out speaks against; manual = only by `mtld snapshot promote`
    promote: str = setting("auto", one_of=("auto", "manual"))
    # held-out rows a task needs before its score counts; fewer say nothing
    min_rows: int = setting(20, 1, 500)


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """`[guard]`: what happens when a task falls by more than its tolerance after a task switch."""

    # alert = journal only; hold = no snapshot is promoted meanwhile; rollback = to before the switch, without what came since
    action: str = setting("alert", one_of=("alert", "hold", "rollback"))
    # held-out rows a task's phase needs before its score counts
    min_rows: int = setting(20, 1, 500)


@dataclass(frozen=True, slots=True)
class HoldoutSettings:
    """`[holdout]`: which rows are kept back; how many is each task's own."""

    # secret under which contents are drawn; none = made at the first start. Counts for a state that begins
    salt: str | None = setting(None)


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """`[drift]`: whether a change in a task's stream that no switch announced begins a phase."""

    # look for changes of inputs, of labels given the inputs, and of errors
    detect: bool = setting(False)
    # chance that a test may give a false alarm; smaller finds less, and later
    delta: float = setting(0.1, 1e-9, 0.9)


@dataclass(frozen=True, slots=True)
class Hook:
    """`[hook]`: who is told of a promotion, by `daemon/hooks.py`."""

    # program with its arguments; the event comes on stdin and in MTLD_VERSION, MTLD_PATH, MTLD_REASON
    exec: list[str] = field(default_factory=list[str])
    # http:// or https:// address that the event is POSTed to
    webhook: str | None = setting(None)
    # holds the key of the POST's signature, header X-Mtld-Signature
    secret_file: Path | None = setting(None)
    # s that one try may take
    timeout_s: float = setting(30.0, 0.1, 3600)
    # tries of one event, with growing waits between them
    tries: int = setting(5, 1, 100)


@dataclass(frozen=True, slots=True)
class Log:
    """`[log]`: the lines on stderr."""

    # least severe line written
    level: str = setting("info", one_of=("debug", "info", "warning", "error"))
    # auto = console on a terminal, else JSON
    format: str = setting("auto", one_of=("auto", "json", "console"))


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a daemon is started with; relative paths in a file are taken from the file's folder."""

    # checkpoints, snapshots, vitals, control socket; one daemon per directory
    state_dir: Path
    # redis:// rediss:// unix:// redis+sentinel://; None = embedded server
    redis_url: str | None = setting(None)
    # the stream is mtl:{namespace}:events; one daemon per stream
    namespace: str = setting("default")
    # holds the server's password; never a flag, never in the URL
    password_file: Path | None = setting(None)
    # the engine's keywords, as it documents them
    engine: Json = field(default_factory=dict[str, Any])
    # [[task]] tables, added when a stream is first joined
    tasks: list[Json] = field(default_factory=list[Json])
    stream: Stream = field(default_factory=Stream)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    publish: Publish = field(default_factory=Publish)
    evaluate: Evaluate = field(default_factory=Evaluate)
    gate: Gate = field(default_factory=Gate)
    guard: GuardSettings = field(default_factory=GuardSettings)
    holdout: HoldoutSettings = field(default_factory=HoldoutSettings)
    drift: DriftSettings = field(default_factory=DriftSettings)
    hook: Hook = field(default_factory=Hook)
    # what is refused before it is parsed
    limits: Limits = field(default_factory=Limits)
    # s after which another host may take a dead daemon's stream
    lease_ttl_s: float = setting(10.0, 0.5, 600)
    log: Log = field(default_factory=Log)

    def to_dict(self) -> Json:
        """All settings as JSON, for `config show` and manifests; holds no secret."""
        told = cast("Json", jsonable(asdict(self)))
        if self.holdout.salt is not None:
            told["holdout"]["salt"] = "set"
        return told


def load(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """The settings of `path` (None = defaults); `overrides` has dotted names such as `log.level`, None = not given."""
    table = _read(path) if path is not None else {}
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    configured = table.get("state_dir")
    for name, value in given.items():
        _override(table, name, value)
    top = {one.name for one in fields(Config)} - {"tasks"} | {"task", *ENGINE_TABLES}
    refuse_unknown(table, top, "")
    table["tasks"] = _tasks(table.pop("task", []))
    table["engine"] = _engine(table)
    table["state_dir"] = state_directory(given.get("state_dir"), configured)
    config = cast("Config", build(Config, table, ""))
    _check(config)
    return replace(config, password_file=password_file(config.password_file))


def _override(table: Json, name: str, value: object) -> None:
    section, _, key = name.rpartition(".")
    inner = table.setdefault(section, {}) if section else table
    if not isinstance(inner, dict):
        raise ConfigError(f"{section} is {inner!r}; write it as a [{section}] table")
    cast("Json", inner)[key] = value


def _read(path: Path) -> Json:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; name another with --config") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    _anchor(table, ("state_dir", "password_file"), path)
    if isinstance(table.get("hook"), dict):
        _anchor(table["hook"], ("secret_file",), path)
    if isinstance(table.get("engine"), dict):
        _anchor(table["engine"], ("buffer_dir",), path)
    return table


def _anchor(table: Json, names: tuple[str, ...], file: Path) -> None:
    """Relative paths in a file start at its folder."""
    for name in names:
        if isinstance(table.get(name), str):
            table[name] = str(file.absolute().parent / Path(table[name]).expanduser())


def _tasks(tables: object) -> list[Json]:
    if not isinstance(tables, list) or not all(
        isinstance(one, dict) for one in cast("list[Any]", tables)
    ):
        raise ConfigError(f"task is {tables!r}; write each task as a [[task]] table")
    specs = cast("list[Json]", tables)
    for number, spec in enumerate(specs):
        refuse_unknown(spec, TASK_KEYS, f"task[{number}]")
        if not isinstance(spec.get("name"), str) or not spec["name"]:
            raise ConfigError(f'task[{number}] has no name; every [[task]] needs name = "..."')
        try:
            finite.dumps(spec)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"task[{number}] goes into the log as JSON: {error}") from None
    return specs


def _engine(table: Json) -> Json:
    """`[engine]` and the tables beside it, such as `[strategy]`, as one set of the engine's keywords."""
    engine = table.get("engine", {})
    if not isinstance(engine, dict):
        raise ConfigError(f"engine is {engine!r}; write it as an [engine] table")
    merged = dict(cast("Json", engine))
    for name in ENGINE_TABLES:
        if name in table and name in merged:
            raise ConfigError(f"{name} is set both at the top and in [engine]; keep one of them")
        if name in table:
            merged[name] = table.pop(name)
    refuse_unknown(merged, ENGINE_KEYS, "engine")
    return merged


def _check(config: Config) -> None:
    if config.redis_url is not None:
        check_url(config.redis_url)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}", config.namespace):
        raise ConfigError(
            f"namespace is {config.namespace!r}; allowed are letters, digits, _ . : - (at most 64)"
        )
    _check_hook(config.hook)
    names = [spec["name"] for spec in config.tasks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"task {twice[0]!r} is declared twice; names are unique")
    root = config.limits.reference_root
    if root is not None and not Path(root).is_absolute():
        raise ConfigError(f"limits.reference_root is {root!r}; it must be an absolute path")


def _check_hook(hook: Hook) -> None:
    if not all(isinstance(word, str) and word for word in hook.exec):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(
            f'hook.exec is {hook.exec!r}; write a program and its arguments as ["program", "argument"]'
        )
    parts = urlsplit(hook.webhook or "http://none")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.password:
        raise ConfigError(
            f"hook.webhook is {hook.webhook!r}; allowed are http:// and https:// addresses without a password"
        )
    if hook.secret_file is not None and not os.access(hook.secret_file, os.R_OK):
        raise ConfigError(
            f"hook.secret_file {hook.secret_file} cannot be read; name a file that this user may read"
        )
