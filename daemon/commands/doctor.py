"""`mtld doctor`: is this set up so that it can keep its promises; every row that is not ok says what to do."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING

import typer

from daemon.commands import checks, server_checks
from daemon.commands.shared import Call, verb
from daemon.commands.words import WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daemon.commands.checks import Finding

CHECKS: tuple[Callable[[Call], Iterator[Finding]], ...] = (
    checks.packages,
    checks.state_directory,
    checks.crowd,
    checks.process,
    checks.checkpoints,
    server_checks.server,
)


@verb(log=True)
def doctor(call: Call) -> None:
    """Check packages, state directory, process, checkpoints and server; exit 1 if anything would fail.

    Changes nothing, asks the running daemon one question, and may be run at any time, before the first start too.
    """
    findings = [finding for check in CHECKS for finding in check(call)]
    call.show([asdict(finding) for finding in findings], lambda: list(lines(findings)))
    raise typer.Exit(int(any(finding.level == "fail" for finding in findings)))


def lines(findings: list[Finding]) -> Iterator[str]:
    """One row a finding, and below it what to do."""
    for finding in findings:
        head = f"{finding.level:<5} {finding.check:<12} "
        yield from wrap(
            head + finding.found, WIDTH, subsequent_indent=" " * len(head), break_on_hyphens=False
        )
        if finding.fix:
            yield from wrap(
                f"-> {finding.fix}",
                WIDTH,
                initial_indent=" " * len(head),
                subsequent_indent=" " * (len(head) + 3),
            )
    counts = {
        level: sum(one.level == level for one in findings) for level in ("ok", "warn", "fail")
    }
    yield ""
    yield ", ".join(f"{count} {level}" for level, count in counts.items())
