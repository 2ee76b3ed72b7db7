"""A strategy whose step hangs for as long as a file exists: a training loop that is wedged while its process lives."""

from __future__ import annotations

import threading
from pathlib import Path

from mtl_engine.strategies.base import Step
from mtl_engine.strategies.finetune import Finetune
from mtl_engine.strategies.loss import Loss


class Wedging(Finetune):
    """Plain fine-tuning; `while_exists` is the file, and beside it `.hit` says that a step hangs."""

    def __init__(self, while_exists: str) -> None:
        self.while_exists = while_exists

    def losses(self, step: Step) -> dict[str, Loss]:
        pause = threading.Event()
        while Path(self.while_exists).exists():
            Path(f"{self.while_exists}.hit").touch()
            pause.wait(0.01)
        return super().losses(step)
