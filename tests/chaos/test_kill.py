"""SIGKILL at every named place and at random moments: the state is bit-equal to that of a run without a death."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from daemon.failpoints import NAMES
from tests.chaos.campaign import EVERY_FAILPOINT, Campaign

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.chaos, pytest.mark.redis, pytest.mark.timeout(600)]
RANDOM_KILLS = 20


def test_the_schedule_names_every_failpoint() -> None:
    assert {name.partition(":")[0] for name in EVERY_FAILPOINT} == set(NAMES)
    assert len(NAMES) >= 12


def test_sigkill_at_every_failpoint_of_one_stream_changes_nothing(tmp_path: Path) -> None:
    with Campaign(tmp_path, seed=20) as campaign:
        for failpoint in EVERY_FAILPOINT:
            campaign.die_at(failpoint)
        campaign.accept()
        campaign.roll_back()
        final = campaign.verify()
        campaign.send_everything_again(final)
    assert [death.how for death in campaign.deaths] == [*EVERY_FAILPOINT, "SIGKILL", "SIGKILL"]
    assert final.header["step"] > len(EVERY_FAILPOINT)
    assert final.header["epoch"] == 2


def test_kills_at_random_moments_of_one_stream_change_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("MTLD_CHAOS_SEED") or random.SystemRandom().randrange(2**31))
    print(f"MTLD_CHAOS_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    with Campaign(tmp_path, seed) as campaign:
        campaign.declare()
        for _ in range(RANDOM_KILLS):
            campaign.die_at_random()
        final = campaign.verify()
        campaign.send_everything_again(final)
    assert final.header["step"] > RANDOM_KILLS, f"seed {seed}"
    choice = final.meta["engine"]["choice"]
    assert choice["rests_on"], "average or live was decided, and the same in both"
