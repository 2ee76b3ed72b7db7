"""Serves a daemon's snapshots over HTTP: follows `champion`, and swaps models without failing a request.

uvicorn --app-dir docs/recipes serve_fastapi:app --host 127.0.0.1 --port 8000
MTLD_MODELS is the folder of snapshots (<state>/models), MTLD_ALIAS what to follow (default champion).
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from mtl_engine.errors import EngineError
from mtld import ModelReader

POLL_S = 1.0  # how soon a new champion serves; a look is one readlink
log = logging.getLogger("serve")


class Question(BaseModel):
    """Rows as in training: strings, lists of numbers, nested lists for images."""

    x: list[Any] = Field(min_length=1, max_length=1024)


class Answer(BaseModel):
    """One label, list of 0/1 or list of values a row, and the version that they all come from."""

    predictions: list[Any]
    version: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """A server without a champion does not start; from then on there is always one."""
    alias = os.environ.get("MTLD_ALIAS", "champion")
    with ModelReader(
        os.environ["MTLD_MODELS"], alias, poll_s=POLL_S, on_error=log.warning
    ) as reader:
        app.state.reader = reader
        yield


app = FastAPI(title="mtld", lifespan=lifespan)


@app.post("/predict/{task}")
def predict(
    task: str, question: Question
) -> Answer:  # not async: torch runs in the pool of threads
    """Answer rows with one model; 404 for an unknown task, 422 for rows that do not fit it."""
    serving = (
        app.state.reader.serving
    )  # checked and answered by the same model, whatever comes meanwhile
    if task not in serving.model.tasks:
        raise HTTPException(404, f"no task {task!r}; there are {', '.join(serving.model.tasks)}")
    try:
        found = serving.model.predict(task, question.x)
    except EngineError as error:
        raise HTTPException(422, str(error)) from error
    return Answer(predictions=found.tolist(), version=serving.version)


@app.get("/healthz")
def healthz() -> dict[str, Any]:
    """What serves, and why a newer one does not, if so."""
    reader: ModelReader = app.state.reader
    return {
        "version": reader.version,
        "tasks": reader.serving.model.tasks,
        "last_error": reader.last_error,
    }
