"""What `mtld doctor` looks at on the server of the log: read-only, and INFO only, which managed servers allow too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.commands.checks import Finding, numbers
from daemon.commands.words import several, size
from daemon.errors import DaemonError, NotRunning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.commands.shared import Call
    from daemon.sources.link import Link

SKEW_WARN_S = 2.0  # stream ids are the server's clock; ages of events are told by ours
OLDEST_SERVER = (7, 0)  # XINFO's entries-added and lag, XGROUP SETID ENTRIESREAD


def server(call: Call) -> Iterator[Finding]:
    """That the server answers and is set up to keep a log."""
    try:
        url, namespace = call.log()
    except NotRunning as error:
        yield Finding("broker", "warn", "no server known", str(error).rpartition("; ")[2])
        return
    from daemon.sources.link import (  # imports redis, which the other verbs do without
        Keys,
        Link,
        server_info,
    )

    link = Link.open(url, password_file=call.secret(), timeout_s=3.0)
    try:
        info = server_info(link)
        yield from _server(info)
        yield from _stream(link, Keys.of(namespace).events)
        yield _skew(link)
    except DaemonError as error:
        yield Finding(
            "broker", "fail", str(error), "start it, or correct --redis-url and --password-file"
        )
    finally:
        link.close()


def _server(info: dict[str, str]) -> Iterator[Finding]:
    name = info.get("server_name", "redis")
    version = info.get(f"{name}_version", info.get("redis_version", "0"))
    speaks = info.get("redis_version", "0")  # Valkey says here which Redis it is compatible with
    new = numbers(speaks) >= OLDEST_SERVER
    yield Finding(
        "broker",
        "ok" if new else "fail",
        f"{name} {version}",
        "" if new else "upgrade to Redis 7.0 or Valkey",
    )
    role = info.get("role", "master")
    if role != "master":
        yield Finding("role", "fail", role, "connect to the master: a replica takes no writes")
    aof = info.get("aof_enabled") == "1"
    fix = "" if aof else "set appendonly yes: a restart of the server would lose what it holds"
    yield Finding("appendonly", "ok" if aof else "warn", "yes" if aof else "no", fix)
    policy = info.get("maxmemory_policy", "noeviction")
    kept = policy == "noeviction"
    fix = (
        ""
        if kept
        else "set maxmemory-policy noeviction: this one deletes the log when memory runs out"
    )
    yield Finding("eviction", "ok" if kept else "fail", policy, fix)
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    tight = limit > 0 and used > 0.9 * limit
    said = f"{size(used)} of {size(limit) if limit else 'no limit'}"
    yield Finding(
        "memory",
        "warn" if tight else "ok",
        said,
        "raise maxmemory, or lower log_retain_bytes" if tight else "",
    )


def _stream(link: Link, events: str) -> Iterator[Finding]:
    from daemon.sources.lag import unread
    from daemon.sources.link import checked, is_error, pairs

    groups = link.exchange([("XINFO", "GROUPS", events)])[0]
    if is_error(groups, "no such key"):
        yield Finding(
            "stream", "warn", f"{events} does not exist", "`mtld run` makes it; check --namespace"
        )
        return
    names = [bytes(row[b"name"]).decode() for row in map(pairs, checked(groups))]
    ours = "mtld" in names
    fix = "" if ours else "`mtld run` makes it; if one runs, it says what happened: `mtld status`"
    yield Finding(
        "group", "ok" if ours else "warn", f"{', '.join(names) or 'none'} on {events}", fix
    )
    yield Finding("lag", "ok", several(unread(link, events), "event"))


def _skew(link: Link) -> Finding:
    before = datetime.now(UTC).timestamp()
    seconds, micros = link.call("TIME")
    ours = (before + datetime.now(UTC).timestamp()) / 2  # the server looked half-way
    skew = int(seconds) + int(micros) / 1e6 - ours
    bad = abs(skew) > SKEW_WARN_S
    return Finding(
        "clock", "warn" if bad else "ok", f"server {skew:+.3f} s", "run NTP on both" if bad else ""
    )
