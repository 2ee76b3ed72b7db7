"""SIGKILL at every named place and at random moments: the state is bit-equal to that of a run without a death."""

from __future__ import annotations

import os
import random
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from daemon.failpoints import NAMES
from tests.chaos.campaign import EVERY_FAILPOINT, Campaign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.compare import Saved

pytestmark = [pytest.mark.chaos, pytest.mark.redis, pytest.mark.timeout(600)]
RANDOM_KILLS = 20


def test_the_schedule_names_every_failpoint() -> None:
    assert {name.partition(":")[0] for name in EVERY_FAILPOINT} == set(NAMES)
    assert len(NAMES) >= 12


@dataclass(frozen=True, slots=True)
class Ended:
    """What a campaign came to."""

    deaths: list[str]
    final: Saved


@pytest.fixture(scope="module")
def seed() -> int:
    return int(os.environ.get("MTLD_CHAOS_SEED") or random.SystemRandom().randrange(2**31))


@pytest.fixture(scope="module")
def campaigns(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> Iterator[dict[str, Future[Ended]]]:
    """Both at once: two cores start their daemons faster than one after the other."""
    with ThreadPoolExecutor() as pool:
        yield {
            "named": pool.submit(_at_every_failpoint, tmp_path_factory.mktemp("named")),
            "random": pool.submit(_at_random, tmp_path_factory.mktemp("random"), seed),
        }


def _at_every_failpoint(folder: Path) -> Ended:
    with Campaign(folder, seed=20) as campaign:
        for failpoint in EVERY_FAILPOINT:
            campaign.die_at(failpoint)
        campaign.accept()
        campaign.roll_back()
        return _ended(campaign)


def _at_random(folder: Path, seed: int) -> Ended:
    with Campaign(folder, seed) as campaign:
        campaign.declare()
        for _ in range(RANDOM_KILLS):
            campaign.die_at_random()
        return _ended(campaign)


def _ended(campaign: Campaign) -> Ended:
    final = campaign.verify()
    campaign.send_everything_again(final)
    return Ended([death.how for death in campaign.deaths], final)


def test_sigkill_at_every_failpoint_of_one_stream_changes_nothing(
    campaigns: dict[str, Future[Ended]],
) -> None:
    ended = campaigns["named"].result()
    assert ended.deaths == [*EVERY_FAILPOINT, "SIGKILL", "SIGKILL"]
    assert ended.final.header["step"] > len(EVERY_FAILPOINT)
    assert ended.final.header["epoch"] == 2


def test_kills_at_random_moments_of_one_stream_change_nothing(
    campaigns: dict[str, Future[Ended]], seed: int
) -> None:
    print(f"MTLD_CHAOS_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    ended = campaigns["random"].result()
    assert ended.final.header["step"] > RANDOM_KILLS, f"seed {seed}"
    choice = ended.final.meta["engine"]["choice"]
    assert choice["rests_on"], "average or live was decided, and the same in both"
