"""Lets torchvision be imported beside a torch that was built without CUDA.

The wheel of torchvision in the package index links against CUDA. Beside a CPU build of torch its compiled
operators do not load, and the import fails at the first one that torchvision describes. No peer uses one
on the way from a tensor to a loss, so it is enough that their names exist.
"""

from __future__ import annotations

import torch

SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def declare() -> torch.library.Library:
    """Declare what is missing; the declarations last as long as the library that is returned."""
    missing = torch.library.Library("torchvision", "FRAGMENT")
    if torch.version.cuda is None:
        for name in ("nms", "qnms"):
            missing.define(name + SIGNATURE)
    return missing
