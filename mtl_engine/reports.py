"""What a step and a task switch tell whoever asked for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class StepReport:
    """One optimizer step; `losses` stay on the device, reading one waits for it."""

    step: int
    stream_rows: int
    replayed_rows: int
    loss: float
    losses: Mapping[str, Tensor]
    skipped: bool  # the loss was not finite: nothing was updated and nothing remembered
    skipped_steps: int  # since the beginning


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """What a task switch did; `scores` are of the hold-outs at the end of the phase before it."""

    task: str
    phase: str | None
    previous_task: str | None
    previous_phase: str | None
    step: int
    scores: Mapping[str, float | None]
