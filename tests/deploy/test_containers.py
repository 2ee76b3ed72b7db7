"""What deploy/ says of images, compose and Kubernetes holds together: files exist, versions are pinned, nobody is root."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.broker import EmbeddedBroker
from daemon.commands import COMMANDS
from daemon.config import load
from daemon.sources.link import Link, server_info
from tests.support.daemon_process import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
KUBERNETES = DEPLOY / "kubernetes"
OURS = ("daemon", "sidecar")


def is_pinned(image: str) -> bool:
    """Whether an image's tag starts with a version."""
    return re.search(r":v?\d+\.\d+", image) is not None


# -- the image ------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Every instruction of the Dockerfile with its arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def test_the_image_is_built_in_two_stages_from_pinned_bases() -> None:
    found = instructions()
    known = {"ARG", "FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "VOLUME", "STOPSIGNAL",
             "HEALTHCHECK", "ENTRYPOINT", "CMD"}  # fmt: skip
    assert {name for name, _ in found} <= known
    arguments = dict(told.split("=", 1) for name, told in found if name == "ARG")
    bases = [told for name, told in found if name == "FROM"]
    assert len(bases) == 2
    for base in bases:
        assert is_pinned(base.replace("${PYTHON_VERSION}", arguments["PYTHON_VERSION"]))
    for name, told in found:
        if name == "RUN" and "pip install" in told:
            assert "-c constraints.txt" in told
            assert "--no-cache-dir" in told


def test_everything_the_image_copies_exists_and_reaches_the_build() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    copied = [told.split()[:-1] for name, told in instructions() if name == "COPY"]
    for source in [one for words in copied for one in words]:
        if "/opt/mtld" not in source and not source.startswith("--"):
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, pattern) for pattern in let_in), source
    assert all((ROOT / name).exists() for name in let_in)


def test_the_image_runs_as_a_user_and_drains_when_it_is_stopped() -> None:
    last_stage = instructions()
    last_stage = last_stage[max(i for i, (name, _) in enumerate(last_stage) if name == "FROM") :]
    told = dict(last_stage)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", told["USER"]), "a number that is not root's"
    assert told["STOPSIGNAL"] == "SIGTERM"
    assert "/livez" in told["HEALTHCHECK"]
    assert told["ENTRYPOINT"] == '["mtld"]'
    assert [name for name, _ in last_stage].index("USER") < len(last_stage) - 3


# -- compose --------------------------------------------------------------------------------------------------


def test_every_file_and_volume_that_compose_names_exists() -> None:
    named = set(COMPOSE["volumes"])
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in named or (DEPLOY / source).exists(), f"{name}: {source}"
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
    build = COMPOSE["services"]["daemon"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_docker_compose_accepts_the_file() -> None:
    version = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(version, capture_output=True).returncode:
        pytest.skip("docker compose is missing")
    check = ["docker", "compose", "-f", DEPLOY / "compose.yaml", "config", "-q"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_secrets_of_compose_are_those_that_make_users_makes(tmp_path: Path) -> None:
    subprocess.run([DEPLOY / "valkey/make-users", tmp_path], check=True, capture_output=True)
    for secret in COMPOSE["secrets"].values():
        assert (tmp_path / Path(secret["file"]).name).is_file()
    assert "deploy/secrets" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def test_compose_pins_images_and_listens_on_loopback_alone() -> None:
    for name, service in COMPOSE["services"].items():
        assert is_pinned(service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        told = str(service.get("command", "")) + str(service.get("environment", ""))
        if service.get("network_mode") == "host" and name != "daemon":  # which listens to nothing
            assert "127.0.0.1" in told, name
    for name in OURS:
        service = COMPOSE["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service.get("command", ["run"])[0] in COMMANDS


def test_the_settings_of_the_daemon_in_containers_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x", "utf-8")
    given = {"password_file": str(tmp_path / "password")}
    for path in (DEPLOY / "mtld.toml", KUBERNETES / "base/mtld.toml"):
        settings = load(path, given)
        assert settings.redis_url is not None
        assert "//daemon@" in settings.redis_url


@pytest.mark.redis
def test_the_server_of_compose_starts_with_its_options_and_keeps_its_log(tmp_path: Path) -> None:
    subprocess.run([DEPLOY / "valkey/make-users", tmp_path / "s"], check=True, capture_output=True)
    words = COMPOSE["services"]["valkey"]["entrypoint"][-1].partition("valkey-server ")[2].split()
    options = [word.strip("'") for word in words]
    options[options.index("--aclfile") + 1] = str(tmp_path / "s/users.acl")
    with EmbeddedBroker(tmp_path / "b", options=tuple(options)) as broker:
        link = Link.open(
            broker.url.replace("unix://", "unix://viewer@"), password_file=tmp_path / "s/viewer-password"
        )  # fmt: skip
        told = server_info(link)
        link.close()
    assert (told["aof_enabled"], told["maxmemory_policy"]) == ("1", "noeviction")
    assert int(told["maxmemory"]) == 2 * 1024**3


def test_grafana_finds_the_dashboard_and_the_dashboard_its_prometheus() -> None:
    provisioned = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioned / "dashboards/mtld.yml").read_text())["providers"]
    mounts = [volume.split(":") for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert ["./grafana/dashboards", provider["options"]["path"], "ro"] in mounts
    boards = list((DEPLOY / "grafana/dashboards").glob("*.json"))
    assert boards
    assert all(f'"uid": "{source["uid"]}"' in board.read_text("utf-8") for board in boards)


# -- Kubernetes -----------------------------------------------------------------------------------------------

KUSTOMIZATIONS = sorted(KUBERNETES.rglob("kustomization.yaml"))
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is missing: it brings kustomize"
)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_every_file_that_a_kustomization_names_exists_and_is_used(path: Path) -> None:
    told = yaml.safe_load(path.read_text("utf-8"))
    patches = [patch["path"] for patch in told.get("patches", [])]
    files = [name for one in told.get("configMapGenerator", []) for name in one["files"]]
    named = [*told.get("resources", []), *told.get("components", []), *patches, *files]
    assert [name for name in named if not (path.parent / name).exists()] == []
    for name in named:
        if name.endswith(".yaml"):
            for document in yaml.safe_load_all((path.parent / name).read_text("utf-8")):
                assert {"apiVersion", "kind", "metadata"} <= set(document), name
    here = {file.name for file in path.parent.iterdir()} - {path.name}
    assert here <= {Path(name).name for name in named}


def rendered(overlay: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", KUBERNETES / "overlays" / overlay],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}


@needs_kubectl
@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_an_overlay_is_one_tight_pod_with_its_sidecar_and_its_volume(overlay: str) -> None:
    found = rendered(overlay)
    spec = found["StatefulSet"]["spec"]
    pod = spec["template"]["spec"]
    assert spec["replicas"] == 1
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["shareProcessNamespace"]
    assert pod["terminationGracePeriodSeconds"] >= 120
    containers = {one["name"]: one for one in pod["containers"]}
    assert set(containers) == {"daemon", "sidecar", "scrape"}
    volumes = {one["name"] for one in pod["volumes"]}
    volumes |= {one["metadata"]["name"] for one in spec["volumeClaimTemplates"]}
    for container in containers.values():
        limits = container["securityContext"]
        assert limits["readOnlyRootFilesystem"]
        assert not limits["allowPrivilegeEscalation"]
        assert limits["capabilities"] == {"drop": ["ALL"]}
        assert is_pinned(container["image"])
        assert "memory" in container["resources"]["limits"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    daemon = containers["daemon"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(daemon)
    assert ("nvidia.com/gpu" in daemon["resources"]["limits"]) == (overlay == "gpu")
    state = {"name": "state", "mountPath": "/var/lib/mtld"}
    assert all(state in containers[name]["volumeMounts"] for name in OURS)
    assert all(containers[name]["args"][0] in COMMANDS for name in OURS)


@needs_kubectl
def test_only_the_scraping_proxy_can_be_reached_and_selectors_find_the_pod() -> None:
    found = rendered("cpu")
    labels = found["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert found["StatefulSet"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert "ports" not in found["Service"]["spec"]
    policy = found["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": 9465, "protocol": "TCP"}]]
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    name = found["StatefulSet"]["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]
    assert name == found["ConfigMap"]["metadata"]["name"]
