"""GPUs as their driver describes them (NVML), looked at by a thread of its own, since a driver may hang or go away."""

from __future__ import annotations

import threading
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any

from daemon.samples import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EVERY_S = 5.0
RETRY_S = (
    60.0  # after an error: a driver that is being replaced, a container whose devices went away
)
STALE_S = 30.0  # older readings are not shown


class Gpus:
    """The last readings; none where there is no GPU, no driver or no `nvidia-ml-py`."""

    def __init__(self) -> None:
        self._read: Sequence[Gpu] = ()
        self._read_at = 0.0
        self._is_open = False
        self._stop = threading.Event()

    def now(self) -> Sequence[Gpu]:
        """Readings that are young enough to be shown."""
        return self._read if monotonic() - self._read_at < STALE_S else ()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Look until stopped; without the package there is nothing to look at."""
        try:
            nvml: Any = import_module("pynvml")
        except ImportError:
            return
        while not self._stop.is_set():
            wait_s = EVERY_S if self.look(nvml) else RETRY_S
            self._stop.wait(wait_s)

    def look(self, nvml: Any) -> bool:
        """Read all GPUs once; False where the driver does not answer, and the next look starts with it anew."""
        try:
            if not self._is_open:
                nvml.nvmlInit()
                self._is_open = True
            found = [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            if self._is_open:
                self._is_open = False
                with suppress(nvml.NVMLError):  # of a driver that is gone
                    nvml.nvmlShutdown()
            return False
        self._read, self._read_at = found, monotonic()
        return True


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def told(read: Callable[[], float]) -> float | None:
        try:
            return float(read())
        except nvml.NVMLError:
            return None  # not every card has every sensor

    return Gpu(
        index,
        told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
        told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used),
        told(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        told(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
    )
