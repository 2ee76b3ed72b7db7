"""The engine's keywords and a task's fields once more, because the operator's side never imports torch.

A test compares both with the engine itself.
"""

from __future__ import annotations

ENGINE_TABLES = ("strategy", "optimizer", "encoder", "trunk", "weighting", "policy")
ENGINE_KEYS = (
    *ENGINE_TABLES, "buffer_rows", "buffer_dir", "replay_batch", "weights", "ema_decay", "focus_share", "clip_norm", "warm_steps",
    "device", "precision", "num_threads", "seed",
)  # fmt: skip
TASK_KEYS = (
    "name", "modality", "kind", "input_shape", "encoder", "targets", "classes", "max_classes", "max_bytes",
    "scale", "share", "min_share", "loss_weight", "tolerance", "holdout", "decision",
)  # fmt: skip
