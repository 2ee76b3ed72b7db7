"""Servers behind TCP with a password, Sentinel and TLS: the same source through every kind of URL."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.broker import EmbeddedBroker, find_binary
from daemon.errors import BrokerUnreachable, ConfigError, DaemonError
from daemon.sources.link import Link
from daemon.sources.redis_streams import RedisStreams
from tests.support.drivers import event
from tests.support.servers import NAMESPACE, binary
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def use(url: str, password_file: Path | None = None) -> None:
    """Write and read through a URL as the daemon does."""
    source = RedisStreams.open(url, NAMESPACE, "a", password_file=password_file)
    source.acquire(0, 0.0)
    entry_id = source.append(event())
    assert source.read(entry_id, 1)[0].id == entry_id
    assert source.wait("0-0", 0.1)
    source.close()


@pytest.mark.redis
def test_a_server_behind_tcp_with_a_password_in_a_file(tmp_path: Path) -> None:
    port, secret, wrong = free_port(), tmp_path / "password", tmp_path / "wrong"
    secret.write_text("correct horse\n", "utf-8")
    wrong.write_text("battery staple\n", "utf-8")
    broker = EmbeddedBroker(tmp_path / "b", options=("--port", str(port), "--bind", "127.0.0.1"))
    with broker:
        admin = Link.open(broker.url)
        admin.call("CONFIG", "SET", "requirepass", "correct horse")
        admin.close()
        use(f"redis://127.0.0.1:{port}/0", secret)
        with pytest.raises(ConfigError, match="refuses us"):
            use(f"redis://127.0.0.1:{port}/0", wrong)
        with pytest.raises(ConfigError, match=r"NOAUTH|refuses us"):
            use(f"redis://127.0.0.1:{port}/0")


@contextmanager
def sentinel_for(master_port: int, directory: Path) -> Iterator[int]:
    """A sentinel that watches one master under the name `m`; gives its port."""
    port = free_port()
    directory.mkdir()
    settings = directory / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor m 127.0.0.1 {master_port} 1\n",
        "utf-8",
    )
    with subprocess.Popen(
        [find_binary(), settings, "--sentinel"], stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield port
        finally:
            process.terminate()


def answers_through(url: str) -> bool:
    link = Link.open(url)
    try:
        return link.call("PING") == b"PONG"
    except DaemonError:
        return False
    finally:
        link.close()


@pytest.mark.redis
def test_a_master_that_sentinel_names(tmp_path: Path) -> None:
    port = free_port()
    options = ("--port", str(port), "--bind", "127.0.0.1")
    with (
        EmbeddedBroker(tmp_path / "b", options=options),
        sentinel_for(port, tmp_path / "s") as sentinel,
    ):
        url = f"redis+sentinel://127.0.0.1:{sentinel}/m/0"
        wait_until(lambda: answers_through(url), what="the sentinel to know its master")
        use(url)
        use(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel}/m")
        with pytest.raises(BrokerUnreachable, match="No master found"):
            use(f"redis+sentinel://127.0.0.1:{sentinel}/other")


@pytest.mark.redis
@pytest.mark.apt
def test_a_server_behind_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: apt install openssl")
    port, key, certificate = free_port(), tmp_path / "key.pem", tmp_path / "cert.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [
            *make.split(),
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    options = ("--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "no")
    files = (
        "--tls-cert-file",
        str(certificate),
        "--tls-key-file",
        str(key),
        "--tls-ca-cert-file",
        str(certificate),
    )
    with EmbeddedBroker(tmp_path / "b", binary=binary("redis7"), options=options + files):
        use(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}")
        with pytest.raises(BrokerUnreachable, match="certificate"):
            use(f"rediss://127.0.0.1:{port}/0")
