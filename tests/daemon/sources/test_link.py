"""The link: what server errors mean to us, what a URL may be, and that no reply is ever taken for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis import exceptions

from daemon.errors import (
    BrokerFull,
    BrokerUnreachable,
    ConfigError,
    DaemonError,
    IntegrityError,
    StreamExhausted,
)
from daemon.sources.link import (
    Keys,
    Link,
    checked,
    connect_options,
    raise_meaning,
    without_password,
)
from tests.support.drivers import fake_driver

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (exceptions.ConnectionError("refused"), BrokerUnreachable),
        (exceptions.TimeoutError("slow"), BrokerUnreachable),
        (exceptions.BusyLoadingError("loading"), BrokerUnreachable),
        (OSError("reset"), BrokerUnreachable),
        (
            exceptions.ReadOnlyError("You can't write against a read only replica."),
            BrokerUnreachable,
        ),
        (exceptions.ResponseError("MASTERDOWN Link with MASTER is down"), BrokerUnreachable),
        (exceptions.AuthenticationError("invalid username-password pair"), ConfigError),
        (exceptions.NoPermissionError("NOPERM no permissions"), ConfigError),
        (
            exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
            BrokerFull,
        ),
        (
            exceptions.ResponseError(
                "MISCONF Errors writing to the AOF file: No space left on device"
            ),
            BrokerFull,
        ),
        (
            exceptions.ResponseError("The stream has exhausted the last possible ID"),
            StreamExhausted,
        ),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), IntegrityError),
        (exceptions.ResponseError("ERR something new"), DaemonError),
    ],
)
def test_a_server_error_is_raised_as_what_it_means(
    error: Exception, meaning: type[DaemonError]
) -> None:
    assert isinstance(error, (exceptions.RedisError, OSError))
    with pytest.raises(DaemonError) as caught:
        raise_meaning(error, "unix:///s")
    assert type(caught.value) is meaning


def test_an_error_inside_a_transaction_is_raised_too() -> None:
    assert checked([b"OK", 1]) == [b"OK", 1]
    with pytest.raises(IntegrityError):
        checked([b"OK", exceptions.ResponseError("WRONGTYPE of key")])


def test_error_replies_of_one_packet_come_back_beside_the_others() -> None:
    link = fake_driver().admin
    replies = link.exchange([("SET", "a", "1"), ("XADD", "a", "*", "b", "c"), ("GET", "a")])
    assert replies[0] == b"OK"
    assert isinstance(replies[1], exceptions.ResponseError)
    assert replies[2] == b"1"


def test_a_half_read_exchange_leaves_no_reply_to_the_next() -> None:
    link = fake_driver().admin
    link.call("SET", "a", "1")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        link.exchange([("GET", "a")], interrupt)
    assert link.call("PING") == b"PONG"
    assert link.breaks == 1


def test_a_demoted_master_is_left_so_that_the_next_command_looks_for_the_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = fake_driver().admin
    readonly = exceptions.ReadOnlyError("You can't write against a read only replica.")
    wire = vars(link)["_wire"]
    monkeypatch.setattr(wire, "read_response", lambda: readonly)
    with pytest.raises(BrokerUnreachable, match="read only"):
        link.call("SET", "a", "1")
    assert not wire.is_connected
    monkeypatch.undo()
    assert link.call("PING") == b"PONG"


def test_connections_never_retry_on_their_own() -> None:
    options = connect_options(7.0)
    assert options["retry"].get_retries() == 0
    assert options["socket_timeout"] == 7.0


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "h:6379",
        "",
        "redis+sentinel://h:26379",
        "redis+sentinel://h:x/name",
        "redis://h:notaport",
    ],
)
def test_a_url_that_cannot_be_used_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        Link.open(url)


@pytest.mark.parametrize(
    "url", ["redis://h:1/0", "rediss://h", "unix:///s", "redis+sentinel://u:p@h,k:26380/name/0"]
)
def test_every_kind_of_server_has_a_url(url: str) -> None:
    Link.open(url).close()


def test_a_password_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n", "utf-8")
    link = Link.open("redis://user:inline@h:1/0", password_file=secret)
    settings: dict[str, Any] = vars(link)["_pool"].connection_kwargs
    assert settings["password"] == secret.read_text().strip()
    assert link.shown == "redis://user@h:1/0"
    with pytest.raises(ConfigError, match="cannot be read"):
        Link.open("redis://h", password_file=tmp_path / "missing")


def test_urls_are_shown_without_their_password() -> None:
    assert without_password("redis://:pw@h:1/0?password=pw") == "redis://h:1/0"
    assert without_password("unix:///run/s.sock?password=pw") == "unix:///run/s.sock"


def test_what_is_needed_to_use_a_url_again_is_shown() -> None:
    url = "rediss://daemon@h:6379/0?ssl_ca_certs=/etc/mtld/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/c.key"
    assert without_password(url) == url
    assert without_password(f"{url}&ssl_password=pw") == url


def test_all_keys_of_a_namespace_share_one_hash_slot() -> None:
    keys = Keys.of("shop")
    assert {keys.events, keys.dead, keys.journal, keys.lease, keys.sent} == {
        f"mtl:{{shop}}:{name}" for name in ("events", "dead", "journal", "lease", "sent")
    }


@pytest.mark.parametrize("namespace", ["", "a}b", "{", "a b", "a\n"])
def test_a_namespace_that_would_leave_the_slot_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigError, match="namespace"):
        Keys.of(namespace)
