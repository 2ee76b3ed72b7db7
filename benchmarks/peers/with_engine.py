"""This project's engine as a peer, on the rows, the net and the buffer that the others get.

    python benchmarks/peers/with_engine.py --strategy er --seeds 3 --json

Everything else is what a user gets who names a strategy and no more. An answer is what `predict` says, so the
head may say only classes that it has seen; the stream is not told how many there will be.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from command import main
from protocol import BATCH, BUFFER, CLASSES, PHASES, Stream
from torch.nn.functional import one_hot

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mtl_engine.engine import Engine  # noqa: E402
from mtl_engine.types import TaskSpec  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

    from mtl_engine.types import Array

TASK = "images"
STRATEGIES = ["er", "er_ace", "derpp", "default"]  # those that join a replay draw to every step
NETS: dict[str, tuple[dict[str, Any], Any]] = {  # trunk and encoder
    "W1": ({"width": 256, "depth": 2, "norm": "none"}, "mlp"),
    "W2": ({"width": 128, "depth": 1, "norm": "none"}, {"name": "cnn", "channels": [32, 64]}),
}


class Ours:
    def __init__(self, given: Stream, strategy: str, alpha: float, beta: float) -> None:
        trunk, encoder = NETS["W2" if given.workload == "W2" else "W1"]
        weights = {"alpha": alpha, "beta": beta} if strategy == "derpp" else {}
        self._engine = Engine(
            strategy={"name": strategy, **weights} if weights else strategy,
            trunk=trunk,
            encoder=encoder,
            buffer_rows=BUFFER,
            replay_batch=BATCH,
            device="cpu",
            num_threads=torch.get_num_threads(),
            seed=torch.initial_seed(),
        )
        self._engine.add_task(TaskSpec(TASK))
        self._given = given
        self.rows = [2 * BATCH] * PHASES

    def learn(self, phase: int) -> None:
        self._engine.switch_task(TASK, f"phase {phase}")
        for x, y in self._given.batches(phase):
            self._engine.observe(TASK, _images(x), y.numpy())

    def logits(self, x: Tensor) -> Tensor:
        said = torch.as_tensor(self._engine.predict(TASK, _images(x)))
        return one_hot(said, CLASSES)


def _images(x: Tensor) -> Array:
    return x.reshape(-1, 28, 28).numpy()


def versions() -> dict[str, str]:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return {"engine": commit, "numpy": version("numpy")}


if __name__ == "__main__":
    main("engine", Ours, STRATEGIES, (0.2, 1.0), versions)
