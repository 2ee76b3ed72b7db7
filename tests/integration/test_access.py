"""The users of deploy/valkey/users.acl on real servers, over TLS where the server has it: each does its work and no more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon.broker import EmbeddedBroker
from daemon.commands.shared import Call
from daemon.errors import BrokerUnreachable, ConfigError
from daemon.producer import Producer
from daemon.sources.link import Link
from tests.integration.test_addresses import free_port
from tests.support.daemon_process import ROOT, DaemonProcess
from tests.support.servers import SERVERS, binary
from tests.support.stream import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)
EVENTS, DEAD, LEASE = "mtl:{test}:events", "mtl:{test}:dead", "mtl:{test}:lease"
NOBODY = [
    "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1", "EVAL return(1) 0", "KEYS *", "ACL LIST", "SCAN 0",
    "CLIENT LIST", "CLIENT KILL TYPE normal", "SHUTDOWN NOSAVE", "SAVE", "MONITOR", "FUNCTION LIST",
    "SUBSCRIBE x", "GET other", "SET other 1", "XADD other * a b", "XRANGE other - +", f"DEL {EVENTS}", f"RENAME {EVENTS} x",
    "XADD mtl:{test}:new * a b", "REPLICAOF 127.0.0.1 1", "MODULE LIST", f"RESTORE {EVENTS} 0 x",
]  # fmt: skip
WRITES = [f"XADD {EVENTS} * a b", f"XADD {DEAD} * a b", f"XTRIM {EVENTS} MAXLEN 0", f"XDEL {EVENTS} 1-1",
          f"SET {LEASE} 9::", f"PEXPIRE {LEASE} 1", f"XGROUP SETID {EVENTS} mtld 0"]  # fmt: skip
READS = [f"XRANGE {EVENTS} - +", f"XREVRANGE {EVENTS} + -", f"XREAD COUNT 1 STREAMS {EVENTS} 0", f"XINFO STREAM {EVENTS}",
         f"XRANGE {DEAD} - +", f"GET {LEASE}", "INFO all"]  # fmt: skip
DENIED = {
    "default": [*NOBODY, *READS, *WRITES],
    "producer": [*NOBODY, *READS, *WRITES[1:]],
    "daemon": NOBODY,
    "viewer": [*NOBODY, *WRITES],
}


@dataclass(frozen=True, slots=True)
class Place:
    """A server with our users: the URL of one, and where the passwords are."""

    before_user: str
    after_user: str
    secrets: Path

    def url(self, user: str) -> str:
        name = "" if user == "default" else f"{user}@"
        return f"{self.before_user}{name}{self.after_user}"

    def password(self, user: str) -> Path | None:
        return None if user == "default" else self.secrets / f"{user}-password"

    def link(self, user: str) -> Link:
        return Link.open(self.url(user), password_file=self.password(user))


def certificate(folder: Path, name: str, issuer: str | None = None) -> None:
    """`name.pem` and `name.key`: a CA of its own, or a certificate for 127.0.0.1 from another CA."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: apt install openssl")
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]  # fmt: skip
    if issuer is not None:
        words += ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"]
        words += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)


@contextmanager
def tls(folder: Path, secrets: Path) -> Iterator[Place]:
    """Debian's Redis, which takes only clients that show a certificate of our CA."""
    for name, issuer in (("ca", None), ("other", None), ("server", "ca"), ("client", "ca")):
        certificate(folder, name, issuer)
    port = free_port()
    words = (
        f"--tls-port {port} --bind 127.0.0.1 --tls-auth-clients yes --aclfile {secrets}/users.acl"
    )
    words += f" --tls-cert-file {folder}/server.pem --tls-key-file {folder}/server.key --tls-ca-cert-file {folder}/ca.pem"
    with EmbeddedBroker(folder / "b", binary=binary("redis7"), options=tuple(words.split())):
        files = f"ssl_ca_certs={folder}/ca.pem&ssl_certfile={folder}/client.pem&ssl_keyfile={folder}/client.key"
        yield Place("rediss://", f"127.0.0.1:{port}/0?{files}", secrets)


@contextmanager
def plain(folder: Path, secrets: Path) -> Iterator[Place]:
    """The embedded Valkey on its unix socket."""
    options = ("--aclfile", f"{secrets}/users.acl")
    with EmbeddedBroker(folder / "b", binary=binary("valkey"), options=options) as broker:
        yield Place("unix://", str(broker.socket_path), secrets)


@pytest.fixture(scope="module", params=SERVERS)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    make_users(folder / "secrets")
    with (plain if request.param == "valkey" else tls)(folder, folder / "secrets") as place:
        yield place


def make_users(secrets: Path) -> None:
    subprocess.run([ROOT / "deploy/valkey/make-users", secrets], check=True, capture_output=True)


def mtld(place: Place, user: str, state: Path, *words: str) -> Any:
    """A verb as this user types it beside this state directory; its JSON."""
    password = place.password(user)
    assert password is not None
    common = [
        "--redis-url",
        place.url(user),
        "--namespace",
        "test",
        "--password-file",
        str(password),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "daemon", *words, *common, "--state", state, "-o", "json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if words[0] != "doctor":  # which may find this machine's disk too slow
        assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_producer_daemon_and_viewer_do_their_work_with_their_own_rights(
    place: Place, tmp_path: Path
) -> None:
    producer = Producer(
        place.url("producer"), "test", max_unread=1, timeout_s=0.05, password_file=place.password("producer")
    )  # fmt: skip
    producer.add_task("mood", modality="text")
    with pytest.raises(BrokerUnreachable, match="start the daemon"):
        producer.push("mood", ["before there is a daemon"], ["good"])
    with DaemonProcess(tmp_path / "state", place.url("daemon"), SETTINGS) as daemon:
        daemon.start("", "--password-file", str(place.password("daemon")))
        told = daemon.wait_started()
        assert "password" not in told.broker
        patient = Producer(
            place.url("producer"), "test", timeout_s=30, password_file=place.password("producer")
        )
        patient.push("mood", ["a fine day", "dreadful"] * 8, ["good", "bad"] * 8)
        patient.push("nobody_declared", [[1.0]], [1])
        viewer = place.link("viewer")
        daemon.wait_caught_up(viewer)
        daemon.ask("checkpoint")
        daemon.wait(lambda _: viewer.call("XLEN", DEAD) == 1, what="the dead letter outside")
        assert [one["reason"] for one in mtld(place, "viewer", daemon.state, "dead", "list")] == [
            "unknown_task"
        ]
        assert any(
            line["kind"] == "task_added" for line in mtld(place, "viewer", daemon.state, "tail")
        )
        (group,) = [
            one for one in mtld(place, "viewer", daemon.state, "doctor") if one["check"] == "group"
        ]
        assert group["level"] == "ok"
        assert len(mtld(place, "daemon", daemon.state, "dead", "replay", "--all")) == 1
        rows = tmp_path / "rows.jsonl"
        rows.write_text('{"text": "a fine day", "label": "good"}\n', "utf-8")
        mtld(place, "producer", daemon.state, "push", str(rows), "--task", "mood")
        found = Call(state=daemon.state).log()  # where verbs look that are given no URL
        assert found == (place.url("daemon"), "test")
        assert daemon.drain() == 0


@pytest.mark.parametrize("user", DENIED)
def test_nothing_else_is_allowed(place: Place, user: str) -> None:
    link = place.link(user)
    assert link.call("PING") == b"PONG"
    for words in DENIED[user]:
        with pytest.raises(ConfigError, match="does not allow this to our user"):
            link.call(*words.split())
    link.close()


def test_a_wrong_password_and_a_user_without_one_are_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("battery staple", "utf-8")
    link = Link.open(place.url("daemon"), password_file=tmp_path / "wrong")
    with pytest.raises(ConfigError, match="refuses us"):
        link.call("PING")
    template = (ROOT / "deploy/valkey/users.acl").read_text("utf-8")
    assert not {"nopass", ">"} & set(template.replace("user default on nopass", "").split())


def test_made_users_are_secret_and_keep_their_passwords(tmp_path: Path) -> None:
    make_users(tmp_path / "s")
    passwords = {path.name: path.read_text("utf-8") for path in (tmp_path / "s").glob("*-password")}
    assert sorted(map(len, passwords.values())) == [64, 64, 64]
    assert len(set(passwords.values())) == 3
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "s").iterdir())
    made = (tmp_path / "s/users.acl").read_text("utf-8")
    assert not any(password in made for password in passwords.values())
    make_users(tmp_path / "s")
    assert (tmp_path / "s/users.acl").read_text("utf-8") == made


def test_a_server_is_verified_and_so_are_we(place: Place) -> None:
    if not place.before_user.startswith("rediss"):
        pytest.skip("the embedded Valkey is built without TLS")
    url = place.url("viewer")
    for wrong, why in ((url.replace("ca.pem", "other.pem"), "certificate verify failed"),
                       (url.partition("&")[0], "does not answer"),
                       (url.replace("127.0.0.1", "localhost"), "certificate verify failed")):  # fmt: skip
        link = Link.open(wrong, password_file=place.password("viewer"))
        with pytest.raises(BrokerUnreachable, match=why):
            link.call("PING")
