"""The recipe for FastAPI runs as it is written, and swaps models while it is asked."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from daemon import releases
from mtl_engine.errors import StateError
from tests.support.snapshots import WORDS, X, publish
from tests.support.waiting import wait_until

RECIPE = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "serve_fastapi.py"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two snapshots that name their classes differently, so that an answer tells which one it comes from."""
    path = tmp_path / "models"
    publish(path, 1, labels=("wet1", "dry1"))
    publish(path, 2, labels=("wet2", "dry2"))
    monkeypatch.setenv("MTLD_MODELS", str(path))
    return path


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    import sys

    spec = importlib.util.spec_from_file_location("serve_fastapi", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "serve_fastapi", module)  # where pydantic looks up its types
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "POLL_S", 0.005)
    return module


class Client:
    """Asks an application in this process, from any thread."""

    def __init__(self, portal: Any, client: httpx.AsyncClient) -> None:
        self._portal, self._client = portal, client

    def get(self, path: str) -> httpx.Response:
        return self._portal.call(self._client.get, path)

    def post(self, path: str, json: Any) -> httpx.Response:
        return self._portal.call(partial(self._client.post, path, json=json))


@contextmanager
def running(app: Any) -> Iterator[Client]:
    """The application between its start and its end."""
    transport = httpx.ASGITransport(app)
    with start_blocking_portal() as portal:
        lifespan = portal.wrap_async_context_manager(app.router.lifespan_context(app))
        asking = httpx.AsyncClient(transport=transport, base_url="http://recipe")
        with lifespan, portal.wrap_async_context_manager(asking) as client:
            yield Client(portal, client)


@pytest.fixture
def client(models: Path, recipe: Any) -> Iterator[Client]:
    releases.point(models, "champion", "v000001")
    with running(recipe.app) as one:
        yield one


def test_rows_are_answered_by_the_champion(client: Client) -> None:
    found = client.post("/predict/sky", json={"x": WORDS}).json()
    assert found["version"] == "v000001"
    assert set(found["predictions"]) == {"wet1", "dry1"}
    sizes = client.post("/predict/size", json={"x": X[:2].tolist()}).json()
    assert len(sizes["predictions"][0]) == 2
    assert client.get("/healthz").json() == {
        "version": "v000001", "tasks": ["sky", "size", "tags"], "last_error": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("task", "rows", "code", "says"),
    [
        ("sea", ["a"], 404, "there are sky, size, tags"),
        ("sky", [1.5], 422, "x of sky holds float: allowed are strings"),
        ("size", [[1.0]], 422, "has shape (1, 1)"),
        ("size", [], 422, "at least 1 item"),
    ],
)
def test_what_cannot_be_answered_is_said(
    client: Client, task: str, rows: list[Any], code: int, says: str
) -> None:
    answer = client.post(f"/predict/{task}", json={"x": rows})
    assert answer.status_code == code
    assert says in answer.text


def test_a_swap_under_requests_fails_none_and_mixes_none(models: Path, client: Client) -> None:
    wrong: list[str] = []
    seen: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = client.post("/predict/sky", json={"x": WORDS})
            found = answer.json() if answer.status_code == 200 else {}
            number = str(found.get("version", "?"))[-1]
            if {label[-1] for label in found.get("predictions", ["!"])} != {number}:
                wrong.append(answer.text)
            seen.append(number)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for swap in range(6):
        wanted = "21"[swap % 2]
        releases.point(models, "champion", f"v00000{wanted}")
        already = len(seen)
        wait_until(lambda wanted=wanted, already=already: wanted in seen[already:])
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert set(seen) == {"1", "2"}


def test_a_bad_champion_does_not_serve_and_the_health_says_why(
    models: Path, client: Client
) -> None:
    (models / "v000002" / "tasks.json").write_text("{}")
    releases.point(models, "champion", "v000002")
    told = wait_until(lambda: client.get("/healthz").json()["last_error"])
    assert "v000001 goes on serving" in told
    assert client.post("/predict/sky", json={"x": WORDS}).json()["version"] == "v000001"


def test_without_a_champion_the_server_does_not_start(models: Path, recipe: Any) -> None:
    (models / "champion").unlink()
    with pytest.raises(StateError, match="champion is no alias"), running(recipe.app):
        pytest.fail("it started")
