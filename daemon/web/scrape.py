"""Metrics in the form that Prometheus scrapes: the table of `daemon/metrics.py`, filled with what is seen now."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from daemon.metrics import METRICS
from daemon.samples import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric as Family

    from daemon.samples import Metric, Sample, Seen
    from daemon.types import Json


def exposition(look: Callable[[], Seen]) -> Callable[[], bytes]:
    """A function that returns the text of a scrape."""
    registry = CollectorRegistry()
    registry.register(VitalsCollector(look))
    return lambda: generate_latest(registry)


class Rising:
    """Counters that do not fall when a crash takes some of the work back, which is then done again.

    Prometheus would take a fall for a restart at 0 and count everything a second time. After a rollback (another epoch) the work is not done again: what was counted stays, the rest is added to it.
    """

    def __init__(self) -> None:
        self._seen: dict[object, tuple[int, float, float]] = {}  # epoch, ahead by, shown

    def of(self, key: object, epoch: int, value: float) -> float:
        """What to show for a value."""
        was, ahead, shown = self._seen.get(key, (epoch, 0.0, 0.0))
        if epoch != was:
            ahead = max(0.0, shown - value)
        shown = max(shown, value + ahead)
        self._seen[key] = (epoch, ahead, shown)
        return shown


class VitalsCollector(Collector):
    """Turns what `look` sees into metric families, one for each line of the table that has something to say."""

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look
        self._rising = Rising()

    def describe(self) -> Iterator[Family]:
        """Nothing: which families there are depends on what is seen, and their names are ours alone."""
        yield from ()

    def collect(self) -> Iterator[Family]:
        """All families that have a sample now."""
        seen = self._look()
        for metric in METRICS:
            samples = list(metric.read(seen))
            if metric.is_durable and seen.vitals is not None:
                epoch, rising = seen.vitals.epoch, self._rising
                samples = [(of, rising.of((metric.name, of), epoch, x)) for of, x in samples]
            if samples:
                yield _family(metric, samples)


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    name, labels = f"{PREFIX}{metric.name}", list(metric.labels)
    if metric.kind == "histogram":
        made = HistogramMetricFamily(name, metric.told, labels=labels)
        for values, found in samples:
            made.add_metric(list(values), _buckets(found), found["sum"])
        return made
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(name, metric.told, labels=labels)
    for values, number in samples:
        family.add_metric(list(values), number)
    return family


def _buckets(found: Json) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus has them."""
    total, made = 0, list[tuple[str, float]]()
    for bound, count in zip([*found["bounds"], inf], found["counts"], strict=True):
        total += count
        made.append(("+Inf" if bound == inf else str(bound), total))
    return made
