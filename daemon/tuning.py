"""Settings of the process in which training runs; each was measured with `benchmarks/daemon_throughput.py`."""

from __future__ import annotations

import ctypes
import gc
import os

SPINS = "10000"
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's mallopt parameters (malloc.h)
_KEPT_BYTES, _HEAP_BYTES = 256 << 20, 32 << 20  # the latter is the largest that glibc accepts


def before_torch() -> None:
    """Must be called before OpenMP is loaded; what the operator set in the environment stays.

    - Threads of OpenMP spin for some 50 us before they sleep: long enough for the gap between two kernels of a
      step, and short enough that a process which competes for the core is not starved (libgomp's own choice,
      to spin for milliseconds, makes a step a hundred times slower there).
    - Freed memory stays with the process: otherwise each step gives its gradients back to the system and
      pays for fresh pages in the next.
    """
    if "OMP_WAIT_POLICY" not in os.environ:  # the count would win over the operator's policy
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Whether the C library took the setting; others than glibc do not know it and go on as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)) and bool(
        mallopt(_MMAP_THRESHOLD, _HEAP_BYTES)
    )


def after_start() -> None:
    """What exists by now lives as long as the process: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
