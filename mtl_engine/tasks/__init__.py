"""Task kinds: what a head's outputs mean, how they are checked, trained, distilled, scored and read back."""

from __future__ import annotations

TASKS = {
    "classification": "mtl_engine.tasks.classification:Classification",
    "multilabel": "mtl_engine.tasks.multilabel:Multilabel",
    "regression": "mtl_engine.tasks.regression:Regression",
}
