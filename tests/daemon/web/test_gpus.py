"""GPUs: what the driver tells, and that neither its absence nor its going away does any harm."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from daemon.samples import Gpu
from daemon.web import gpus
from daemon.web.gpus import Gpus
from tests.support.waiting import wait_until


class NVMLError(Exception):
    """What the library raises."""


class Driver:
    """The part of `pynvml` that is used, for one card without a power sensor."""

    ANSWERS: ClassVar[dict[str, Any]] = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=37),
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=2**30),
        "nvmlDeviceGetTemperature": 61,
    }

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.is_there = True
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> Any:
            self.calls.append(name)
            if not self.is_there or name not in self.ANSWERS:
                raise NVMLError(name)
            return self.ANSWERS[name]

        return call


def test_a_card_is_read_in_base_units_and_a_missing_sensor_is_none() -> None:
    one = Gpus()
    assert one.look(Driver())
    assert list(one.now()) == [Gpu(0, 0.37, 2**30, 61.0, None)]


def test_a_driver_that_goes_away_is_asked_anew_and_old_readings_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, driver = Gpus(), Driver()
    assert one.look(driver)
    driver.is_there = False
    assert not one.look(driver)
    assert not one.look(driver)
    assert one.now()  # they are young yet
    monkeypatch.setattr(gpus, "STALE_S", 0.0)
    assert not one.now()
    driver.is_there = True
    assert one.look(driver)
    assert driver.calls.count("nvmlInit") == 3


def test_without_the_package_there_is_nothing_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    one = Gpus()
    one.run()  # returns at once
    assert not one.now()


def test_it_looks_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    one, driver = Gpus(), Driver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(gpus, "EVERY_S", 0.001)
    thread = threading.Thread(target=one.run)
    thread.start()
    wait_until(lambda: driver.calls.count("nvmlDeviceGetCount") > 2)
    one.stop()
    thread.join(10.0)
    assert not thread.is_alive()
    assert driver.calls.count("nvmlInit") == 1
