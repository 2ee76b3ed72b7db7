"""What a step needs to know beside its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers and switches of a step, as the engine was made with them."""

    replay_batch: int
    warm_steps: int  # steps in which a new head on a trained encoder leaves the trunk alone
    focus_share: (
        float  # factor on the replay share of the task in focus, whose rows the stream brings
    )
    teacher_every: int  # steps between two teachers where no switch makes one; 0 = only at switches
    autocast: bool  # bfloat16 forward
    clip_norm: (
        float  # longest gradient, over all parameters but `Vectors` and of each of those; 0 = any
    )
