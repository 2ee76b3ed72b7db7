"""Does a kill show? SIGKILL at every fail-point, twice, then SIGKILLs and SIGTERMs at random moments of one stream.

The final state is compared bit by bit with that of a daemon that read the same log and was left alone; then
every event is sent once more. The test suite does the same with 20 random kills.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).parents[1]))  # the harness is that of the tests

from report import finish

from tests.chaos.campaign import EVERY_FAILPOINT, LATER, Campaign


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    drawn = random.SystemRandom().randrange(2**31)
    seed = drawn if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    begin = monotonic()
    with tempfile.TemporaryDirectory() as folder, Campaign(Path(folder), seed) as campaign:
        for failpoint in (*EVERY_FAILPOINT, *LATER):
            campaign.die_at(failpoint)
            print(f"died at {failpoint}", flush=True)
        campaign.accept()
        for number in range(options.kills):
            campaign.die_at_random()
            if number % 10 == 9:
                print(f"{number + 1} random kills", flush=True)
        final = campaign.verify()
        campaign.send_everything_again(final)
        figures = {
            "seed": seed,
            "failpoints": [*EVERY_FAILPOINT, *LATER],
            "random_kills": options.kills,
            "random_by_kind": dict(
                Counter(death.how for death in campaign.deaths[-options.kills :])
            ),
            "answered": dict(
                campaign.acts
            ),  # of what an operator asked meanwhile; the others met a death
            "rollbacks_that_counted": final.header["epoch"] - 1,
            "bit_equal": True,  # verify() has raised otherwise
            "applied_twice": 0,  # and so has send_everything_again()
            "tensors_compared": len(final.tensors),
            "steps": final.header["step"],
            "events_sent": len(campaign.sent),
            "counters": final.counters,
            "server": campaign.server.source().describe().partition(" unix")[0],
            "seconds": round(monotonic() - begin, 1),
        }
    finish("kill_test", figures, options.save)


if __name__ == "__main__":
    main()
