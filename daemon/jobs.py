"""What happens by the clock: jobs that put a request on the loop's queue and return; they never touch the engine."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from typing import TYPE_CHECKING, Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.schedulers.background import BackgroundScheduler

from daemon.types import SCHEDULE, Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from queue import SimpleQueue

    from daemon.config import Evaluate, Publish
    from daemon.types import Json

log = structlog.get_logger("mtld")


class Jobs:
    """The schedule of one daemon, derived from its settings at every start; nothing of it is stored.

    A job whose last request was not answered yet asks again only when it was, so a paused or hung loop finds one
    request of each kind, however long it took.
    """

    def __init__(
        self, requests: SimpleQueue[Request], publish: Publish, evaluate: Evaluate
    ) -> None:
        self.troubles: Counter[str] = (
            Counter()
        )  # jobs missed, failed or overlapping: none is expected
        self._requests = requests
        self._waiting: set[str] = set()
        self._scheduler: Any = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._scheduler.add_listener(
            self._trouble, EVENT_JOB_MISSED | EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES
        )
        if publish.every_s > 0:
            self.every(publish.every_s, "publish")
        if evaluate.every_s > 0:
            self.every(evaluate.every_s, "score")
        self._scheduler.start()

    def every(self, seconds: float, name: str) -> None:
        """Ask the loop for `name` every so many seconds, the first time after as many."""
        self._scheduler.add_job(self.ask, "interval", seconds=seconds, args=[name], id=name)

    def ask(self, name: str) -> None:
        """Put one request on the queue, unless the last one of this name still waits for its answer."""
        if name in self._waiting:
            return
        self._waiting.add(name)
        self._requests.put(Request(name, {"by": SCHEDULE}, self._answered(name)))

    def close(self) -> None:
        """Stop the clock; what was asked already stays on the queue."""
        self._scheduler.shutdown(wait=False)

    def _answered(self, name: str) -> Callable[[Json], None]:
        def reply(answer: Json) -> None:
            self._waiting.discard(name)
            if "error" in answer:
                log.warning("scheduled request refused; it is asked again", name=name, **answer)

        return reply

    def _trouble(self, event: Any) -> None:
        self.troubles[str(event.job_id)] += 1
        log.warning("scheduled job did not run; it runs again in its turn", job=event.job_id)
