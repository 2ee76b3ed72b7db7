"""A strategy that holds the interpreter's lock when it is told to, as a badly written extension does."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mtl_engine.strategies.base import Step, Strategy

if TYPE_CHECKING:
    from torch import Tensor

_libc = ctypes.PyDLL(None)  # calls through it keep the lock, unlike those of CDLL


class Stalling(Strategy):
    """Loss of the stream; where the file `flag` exists it is removed and nothing else runs for `seconds`."""

    replays: ClassVar[bool] = False

    def __init__(self, flag: str, seconds: int = 5) -> None:
        self.flag = Path(flag)
        self.seconds = seconds

    def losses(self, step: Step) -> dict[str, Tensor]:
        if self.flag.exists():
            self.flag.unlink()
            _libc.sleep(self.seconds)
        return {name: task.loss() for name, task in step.tasks.items()}
