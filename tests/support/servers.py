"""Real servers for tests: the Valkey that we embed, and Debian's Redis 7.0 where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from daemon.broker import EmbeddedBroker, find_binary
from daemon.sources.link import Link
from daemon.sources.redis_streams import RedisStreams

DEBIAN = Path("/usr/bin/redis-server")
NAMESPACE = "test"
SERVERS = [
    pytest.param("valkey", marks=pytest.mark.redis, id="valkey"),
    pytest.param("redis7", marks=[pytest.mark.redis, pytest.mark.apt], id="redis7"),
]


def binary(name: str) -> Path:
    """The server's program; the test is reported as not run where it is missing."""
    if name == "valkey":
        return find_binary()
    if not DEBIAN.exists():
        pytest.skip(f"{DEBIAN} is missing: apt install redis-server")
    version = subprocess.run([DEBIAN, "--version"], capture_output=True, text=True, check=True)
    if "v=7.0" not in version.stdout:
        pytest.skip(f"{DEBIAN} is not 7.0: {version.stdout.strip()}")
    return DEBIAN


class Server:
    """One server in a directory of its own, with what an operator or an accident may do to it."""

    def __init__(self, directory: Path, name: str, *options: str) -> None:
        self.broker = EmbeddedBroker(directory, binary=binary(name), options=options)
        self.broker.start()
        self.admin = Link.open(self.broker.url)

    @property
    def url(self) -> str:
        return self.broker.url

    def source(self, owner: str = "a", ttl_s: float = 10.0) -> RedisStreams:
        """A source of the daemon's kind, without the lease."""
        return RedisStreams.open(self.url, NAMESPACE, owner, ttl_s=ttl_s)

    def crash(self) -> None:
        """SIGKILL and start again on the same files, which hold every write."""
        self._flush()
        self.admin.drop()
        self.broker.kill()
        self.broker.ensure()

    def keep_files(self, where: Path) -> None:
        """A copy of the append-only files as they are now, every write flushed."""
        self._flush()
        shutil.copytree(self.broker.directory / "appendonlydir", where)

    def crash_to(self, older: Path) -> None:
        """SIGKILL and start again on older files, as after a restored backup or a lagging failover."""
        self.admin.drop()
        self.broker.kill()
        files = self.broker.directory / "appendonlydir"
        shutil.rmtree(files)
        shutil.copytree(older, files)
        self.broker.ensure()

    def _flush(self) -> None:
        for policy in (
            "always",
            "everysec",
        ):  # under everysec the server may hold back writes for 2 s
            self.admin.call("CONFIG", "SET", "appendfsync", policy)

    @property
    def has_waitaof(self) -> bool:
        return not isinstance(self.admin.exchange([("WAITAOF", 0, 0, 1)])[0], Exception)

    def close(self) -> None:
        self.admin.close()
        self.broker.stop()


def check_keys(server: Server) -> None:
    """The server holds the documented keys of the test's namespace and no others."""
    prefix = f"mtl:{{{NAMESPACE}}}:"
    allowed = {
        f"{prefix}{name}".encode() for name in ("events", "dead", "journal", "lease", "sent")
    }
    left = set(server.admin.call("KEYS", "*"))
    assert left <= allowed, f"keys that nobody documented: {sorted(left - allowed)}"
