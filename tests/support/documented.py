"""The raw commands of docs/protocol.md, read as a shell would read them, so that a test can run each one."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.raw import Fields

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_STORE = re.compile(r"^(printf .*) > ([\w/.]+\.safetensors)$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Command:
    """One `redis-cli XADD`, with what is piped into it as its last argument (`-x`)."""

    line: str
    arguments: list[str]
    piped: str | None

    @property
    def key(self) -> bytes:
        return self.arguments[1].encode()


def commands() -> list[Command]:
    """Every XADD on the page, in order; all other blocks of shell are left out."""
    return [_command(block) for block in _blocks() if "XADD" in block]


def fields_of(command: Command) -> Fields:
    """The fields that the server would store."""
    given = [argument.encode() for argument in command.arguments[3:]]
    if command.piped is not None:
        given.append(_output(command.piped))
    return dict(zip(given[::2], given[1::2], strict=True))


def store_example(root: Path) -> None:
    """Make the file that the page's reference points to, with the command that the page gives for it."""
    made = [_STORE.search(block) for block in _blocks()]
    for line, name in [found.groups() for found in made if found]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(_output(line))


def _blocks() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return [block.replace("\\\n", " ").strip() for block in _BLOCK.findall(text)]


def _command(block: str) -> Command:
    before, pipe, after = block.rpartition("| redis-cli ")
    words = shlex.split(after if pipe else block.removeprefix("redis-cli "))
    if pipe:
        assert words.pop(0) == "-x", "what is piped must become the last argument"
    assert words[0] == "XADD"
    return Command(" ".join(block.split()), words, before.strip() if pipe else None)


def _output(printf: str) -> bytes:
    """What `printf` writes; run by a shell, so that the page's quoting is what is tested."""
    assert printf.startswith("printf ")
    done = subprocess.run(["sh", "-c", printf], check=True, capture_output=True, timeout=10)
    return done.stdout
