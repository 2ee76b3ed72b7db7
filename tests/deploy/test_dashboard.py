"""Every query of the dashboard, against a real Prometheus that scrapes a real sidecar beside a real daemon."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from daemon.sources.link import Keys
from tests.deploy.test_containers import instructions
from tests.integration.test_addresses import free_port
from tests.support.daemon_process import ROOT, DaemonProcess
from tests.support.scraping import SCRAPE_S, Prometheus, prometheus, sidecar
from tests.support.servers import Server
from tests.support.stream import SETTINGS, Feed, send
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.redis, pytest.mark.apt, pytest.mark.timeout(180)]
BOARD: dict[str, Any] = json.loads(
    (ROOT / "deploy/grafana/dashboards/mtld.json").read_text("utf-8")
)
MAY_BE_EMPTY = {  # panels that say so themselves: on this host there is no GPU
    "Utilization", "Memory", "Temperature", "Power",
}  # fmt: skip
WINDOW_S = 10 * SCRAPE_S


def expressions() -> dict[str, list[str]]:
    """The queries by panel, the variables filled in as Grafana would."""
    found: dict[str, list[str]] = {}
    for panel in BOARD["panels"]:
        if panel["type"] != "row":
            found[panel["title"]] = [filled(target["expr"]) for target in panel["targets"]]
    found["annotations"] = [filled(one["expr"]) for one in BOARD["annotations"]["list"]]
    return found


def filled(expression: str) -> str:
    expression = expression.replace("$instance", ".+").replace("$__rate_interval", f"{WINDOW_S}s")
    assert "$" not in expression, f"a variable that nobody fills in: {expression}"
    return expression


@dataclass(slots=True)
class World:
    """Everything that runs, and the stream that keeps it busy."""

    daemon: DaemonProcess
    server: Server
    prometheus: Prometheus
    feed: Feed
    port: int  # of the sidecar
    switches: int = 0

    def is_healthy(self) -> bool:
        """What the HEALTHCHECK of the image says."""
        (told,) = (told for name, told in instructions() if name == "HEALTHCHECK")
        program, *words = json.loads(told.partition("CMD ")[2])
        assert program == "python"
        there = [word.replace("9464", str(self.port)) for word in words]
        return subprocess.run([sys.executable, *there], capture_output=True).returncode == 0

    def live_on(self) -> None:
        """A little of everything: rows, a switch, an event that is refused, a fault."""
        self.server.admin.call("XGROUP", "DESTROY", Keys.of("test").events, "mtld")
        self.switches += 1
        task = "digits" if self.switches % 2 else "more_digits"
        switch = self.feed.told("mtl.task.switch.v1", task, {"phase": f"phase {self.switches}"})
        bad = self.feed.told("mtl.task.switch.v1", "nobody_declared", {})
        send(self.server.admin, [*(self.feed.digits(8, 4) for _ in range(10)), switch, bad])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    feed = Feed(3)
    with ExitStack() as stack:
        server = Server(folder / "server", "valkey")
        stack.callback(server.close)
        daemon = DaemonProcess(folder / "state", server.url, SETTINGS)
        stack.enter_context(daemon)
        daemon.start()
        port, own_port = free_port(), free_port()
        stack.enter_context(sidecar(folder, daemon.state, port))
        found = stack.enter_context(prometheus(folder, port, own_port))
        daemon.wait_started()
        spec = {"modality": "image", "holdout": 0.3}
        send(
            server.admin,
            [feed.told("mtl.task.add.v1", name, spec) for name in ("digits", "more_digits")],
        )
        world = World(daemon, server, found, feed, port)
        world.live_on()
        daemon.wait_caught_up(server.admin)
        yield world
        assert daemon.drain() == 0


def test_every_query_of_the_dashboard_has_data(world: World) -> None:
    left = {
        expression: title
        for title, found in expressions().items()
        for expression in found
        if title not in MAY_BE_EMPTY
    }
    until = monotonic() + 60.0
    while left and monotonic() < until:
        world.live_on()
        told = world.daemon.wait_caught_up(world.server.admin)
        assert told.counters["dead_events"]
        left = {one: title for one, title in left.items() if not world.prometheus.query(one)}
    assert not left, f"no data for {left}"


def test_panels_that_may_be_empty_say_so_and_are_queries_all_the_same(world: World) -> None:
    for panel in BOARD["panels"]:
        assert panel.get("description", "").startswith("Empty without") == (
            panel["title"] in MAY_BE_EMPTY
        )
    for title in MAY_BE_EMPTY:
        for expression in expressions()[title]:
            world.prometheus.query(expression)  # raises where it is not valid


def test_the_variable_of_the_dashboard_finds_the_instance(world: World) -> None:
    (variable,) = BOARD["templating"]["list"]
    metric, label = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])[0]
    wait_until(lambda: world.prometheus.query(metric), 20.0, metric)
    assert all(label in one["metric"] for one in world.prometheus.query(metric))


def test_every_rule_is_evaluated_and_the_alert_of_a_dead_daemon_comes_and_goes(
    world: World,
) -> None:
    def rules() -> dict[str, Any]:
        groups = world.prometheus.ask("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    wait_until(lambda: all(one["health"] == "ok" for one in rules().values()), 20.0, "the rules")
    assert rules()["MtldDown"]["state"] == "inactive"
    assert world.is_healthy()
    world.daemon.kill()
    assert not world.is_healthy()
    wait_until(lambda: rules()["MtldDown"]["state"] != "inactive", 20.0, "an alert")
    world.daemon.start()
    world.daemon.wait_started()
    wait_until(lambda: rules()["MtldDown"]["state"] == "inactive", 20.0, "the alert to clear")
    assert world.is_healthy()
