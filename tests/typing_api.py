"""Uses the whole public surface so that the type checker sees it; never run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtld import Engine, ModelReader, Producer, TaskSpec, load_snapshot


def engine(x: np.ndarray, y: list[int]) -> float:
    """The engine as a library."""
    own = Engine(strategy={"name": "er"}, buffer_rows=100, replay_batch=8, seed=1)
    own.add_task(TaskSpec("digits", modality="image", input_shape=(28, 28)))
    report = own.observe("digits", x, y)
    own.hold_out("digits", x, y)
    switched = own.switch_task("digits", phase="second")
    scores: dict[str, float | None] = own.evaluate("digits", x, y)
    own.snapshot(Path("somewhere"))
    own.export(Path("elsewhere"), format="onnx", tasks=["digits"])
    own.remove_task("digits")
    return report.step + (scores["accuracy"] or 0.0) + switched.step


def producer(x: np.ndarray, y: list[int]) -> int:
    """The client that pushes events."""
    own = Producer("redis://localhost", namespace="default", name="camera", max_unread=100)
    own.add_task(name="digits", modality="image")
    own.switch("digits", phase="first")
    own.push("digits", x, y, id="one")
    own.update_task("digits", share=2.0)
    own.retire_task("digits")
    return len(own.flush())


def snapshot(path: Path, x: np.ndarray) -> int:
    """The published model."""
    model = load_snapshot(path)
    return len(model.predict("digits", x)) + len(model.predict_proba("digits", x))


def served(models: Path, x: np.ndarray) -> str:
    """The published model, followed."""
    with ModelReader(models, "champion", poll_s=1.0, on_error=print) as reader:
        reader.refresh()
        chances, labels, version = reader.predict_proba("digits", x)
        return f"{reader.predict('digits', x).labels}{len(chances)}{len(labels)}{version}{reader.last_error}"
