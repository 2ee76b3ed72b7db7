"""`mtld resume`: end a pause."""

from __future__ import annotations

from daemon.commands.shared import Call, Timeout, told, verb


@verb()
def resume(call: Call, timeout_s: Timeout = 30.0) -> None:
    """Go on after `mtld pause`, or after a divergence whose cause is gone. Resuming what runs changes nothing."""

    def table(reply: dict[str, object]) -> list[str]:
        return [
            "it was running already" if reply.get("changed") is False else f"resumed{told(reply)}"
        ]

    call.ask("resume", {}, timeout_s, table)
