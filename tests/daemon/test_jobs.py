"""What happens by the clock: a request on the queue, at most one of each kind, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from daemon.config import Evaluate, Publish
from daemon.jobs import Jobs
from daemon.types import Request


@pytest.fixture
def requests() -> SimpleQueue[Request]:
    return SimpleQueue()


@pytest.fixture
def jobs(requests: SimpleQueue[Request]) -> Iterator[Jobs]:
    running = Jobs(requests, Publish(every_s=3600), Evaluate(every_s=0))
    yield running
    running.close()


def scheduled(jobs: Jobs) -> list[Any]:
    return jobs._scheduler.get_jobs()


def test_a_job_puts_a_request_on_the_queue(jobs: Jobs, requests: SimpleQueue[Request]) -> None:
    jobs.ask("publish")
    request = requests.get_nowait()
    assert (request.name, request.args) == ("publish", {"by": "schedule"})


def test_a_loop_that_does_not_answer_is_asked_once(
    jobs: Jobs, requests: SimpleQueue[Request]
) -> None:
    for _ in range(1000):
        jobs.ask("publish")
    assert requests.qsize() == 1
    requests.get_nowait().reply({"error": "paused", "exit_code": 7})
    jobs.ask("publish")
    assert requests.qsize() == 1


def test_kinds_do_not_hold_each_other_up(jobs: Jobs, requests: SimpleQueue[Request]) -> None:
    jobs.ask("publish")
    jobs.ask("checkpoint")
    assert requests.qsize() == 2


def test_a_late_job_is_run_late_and_never_skipped(jobs: Jobs) -> None:
    (job,) = scheduled(jobs)
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (None, True, 1)
    assert job.trigger.interval.total_seconds() == 3600
    assert str(job.next_run_time.tzinfo) == "UTC"


def test_a_cadence_of_zero_publishes_only_when_asked(requests: SimpleQueue[Request]) -> None:
    jobs = Jobs(requests, Publish(every_s=0), Evaluate(every_s=0))
    assert scheduled(jobs) == []
    jobs.close()


def test_the_clock_asks_by_itself(requests: SimpleQueue[Request]) -> None:
    jobs = Jobs(requests, Publish(every_s=0.01), Evaluate(every_s=0.01))
    assert {requests.get(timeout=5).name for _ in range(2)} == {"publish", "score"}
    jobs.close()
    assert not jobs.troubles
