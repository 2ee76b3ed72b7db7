"""Writes what README and docs take from the code: tables of families, verbs, exit codes, settings, the file tree.

`python docs/generate.py` writes, `tests/test_docs.py` compares. Generated parts stand between
`<!-- generated: NAME -->` and `<!-- end -->`; everything else is written by hand.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import sys
import tokenize
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/configuration.md", "docs/metrics.md", "docs/methods.md")
RESULTS = "benchmarks/results/continual.json"
PACKAGES = ("mtld", "mtl_engine", "daemon")
_PART = re.compile(r"(<!-- generated: ([\w.]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write all pages; returns how many changed."""
    sys.path.insert(0, str(ROOT))
    changed = 0
    for page in PAGES:
        path = ROOT / page
        old = path.read_text(encoding="utf-8")
        new = filled(old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            changed += 1
            print(f"wrote {page}")
    return changed


def filled(text: str) -> str:
    """A page with its generated parts as the code has them now."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]().rstrip()}\n{part[3]}", text)


def sentence(path: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    found = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(found.split("\n\n")[0].split())
    return first.removesuffix(".")


def table(headings: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A Markdown table; a pipe inside a cell is escaped."""
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def family(module: str, name: str) -> str:
    """Name, what it is, and file of every member of a family's table."""
    found: Mapping[str, Any] = vars(import_module(module))[name]

    def rows() -> Iterator[tuple[str, ...]]:
        for member, where in found.items():
            if isinstance(where, str) and ":" in where:
                file = where.partition(":")[0].replace(".", "/") + ".py"
                link = f"[{Path(file).name}]({file})"
                yield f"`{member}`", sentence(ROOT / file), _papers(ROOT / file), link
            else:
                told = where if isinstance(where, str) else _call(where)
                yield f"`{member}`", f"another name for `{told}`", "", ""

    return table(("name", "what it does", "paper", "file"), rows())


def _papers(path: Path) -> str:
    """Links to the papers that a file cites."""
    numbers = re.findall(r"arXiv[: ](\d{4}\.\d{4,5})", path.read_text(encoding="utf-8"))
    return ", ".join(f"[{n}](https://arxiv.org/abs/{n})" for n in dict.fromkeys(numbers))


def _call(spec: Mapping[str, Any]) -> str:
    arguments = ", ".join(f"{key}={value!r}" for key, value in spec.items() if key != "name")
    return f"{spec['name']}({arguments})" if arguments else str(spec["name"])


def methods() -> str:
    """Every strategy in the words of its class: formula, behaviour, source; and its arguments."""
    found: Mapping[str, Any] = vars(import_module("mtl_engine.strategies"))["STRATEGIES"]
    parts: list[str] = []
    for name, where in found.items():
        if not isinstance(where, str):
            parts.append(f"### `{name}`\n\nAnother name for `{_call(where)}`.")
            continue
        module, _, kind = where.partition(":")
        member = vars(import_module(module))[kind]
        file = module.replace(".", "/") + ".py"
        told = f"### `{name}`: {_lowered(sentence(ROOT / file))}\n\n{inspect.getdoc(member)}"
        arguments = [str(one) for one in inspect.signature(member).parameters.values()]
        if arguments:
            told += f"\n\nArguments: `{', '.join(arguments)}`."
        parts.append(f"{told}\n\nSource: [{Path(file).name}](../{file})")
    return "\n\n".join(parts)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def results(workload: str) -> str:
    """What `benchmarks/continual.py --save` has recorded of a workload, best accuracy first."""
    entries: list[dict[str, Any]] = json.loads((ROOT / RESULTS).read_text(encoding="utf-8"))
    mine = [one for one in entries if one["workload"] == workload]
    if not mine:
        return "Not measured yet."
    mine.sort(key=lambda one: -one["accuracy_mean"])
    told = ("accuracy", "forgetting", "BWT", "FWT", "min-ACC", "WC-ACC", "time", "memory", "seeds")
    return table(("strategy", *told), (_measured(one) for one in mine))


def _measured(one: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of a results table; a number that is not defined, or was not measured, is a dash."""
    spread = f" ± {one['accuracy_std']:.1f}" if one["seeds"] > 1 else ""
    keys = ("forgetting_mean", "bwt", "fwt", "min_acc", "wc_acc")
    plain = ["-" if one[key] is None else f"{one[key]:.1f}" for key in keys]
    low, mid, high = (one[f"time_ratio_{name}"] for name in ("min", "median", "max"))
    time = "-" if mid is None else f"{mid:.2f} ({low:.2f} to {high:.2f})"
    memory = f"{one['replay_bytes'] / 1000:,.0f} kB"
    accuracy = f"{one['accuracy_mean']:.1f}{spread}"
    return f"`{one['strategy']}`", accuracy, *plain, time, memory, str(one["seeds"])


def verb_help() -> dict[str, str]:
    """First line of help of every verb that can be typed, for example `task add`."""
    import typer

    from daemon.commands import COMMANDS

    found: dict[str, str] = {}
    for name, where in COMMANDS.items():
        module, _, attribute = where.partition(":")
        verb = vars(import_module(module))[attribute]
        if isinstance(verb, typer.Typer):
            group: Any = typer.main.get_command(verb)
            for sub, command in group.commands.items():
                found[f"{name} {sub}"] = _first_line(command.help)
        else:
            found[name] = _first_line(verb.__doc__)
    return found


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0].removesuffix(".")


def verbs() -> str:
    """All verbs."""
    rows = ((f"`mtld {name}`", told) for name, told in verb_help().items())
    return table(("verb", "what it does"), iter(rows))


def exit_codes() -> str:
    """Exit codes of all verbs, from the errors that carry them."""
    errors = vars(import_module("daemon.errors"))
    found: dict[int, str] = {0: "Done"}
    for value in errors.values():
        if isinstance(value, type) and issubclass(value, Exception) and "exit_code" in vars(value):
            code = vars(value)["exit_code"]
            told = _first_line(value.__doc__)
            found.setdefault(code, "Anything else" if code == 1 else told)
    found[5] = "`status --check`: it runs, but degraded"
    return table(("code", "meaning"), ((str(code), found[code]) for code in sorted(found)))


def settings() -> str:
    """Every field of `daemon/config.py`, by table, with default, range and the comment beside it."""
    config = import_module("daemon.config")
    notes = {**_comments(ROOT / "daemon/config.py"), **_comments(ROOT / "daemon/types.py")}
    parts: list[str] = []
    tables = {
        one.name: one.default_factory
        for one in fields(config.Config)
        if is_dataclass(one.default_factory)
    }
    for heading, kind in {
        "Top level": config.Config,
        **{f"[{name}]": kind for name, kind in tables.items()},
    }.items():
        rows = (
            (f"`{f.name}`", _default(f), _range(f), notes.get((kind.__name__, f.name), ""))
            for f in fields(kind)
            if not is_dataclass(f.default_factory) and f.name not in {"engine", "tasks"}
        )
        title = heading if heading == "Top level" else f"`{heading}`"
        told = table(("setting", "default", "allowed", "meaning"), iter(rows))
        parts.append(f"### {title}\n\n{told}")
    return "\n\n".join(parts)


def metrics() -> str:
    """Every metric of the sidecar, from the table that it is served from."""
    found = import_module("daemon.metrics")
    rows = (
        (
            f"`{import_module('daemon.samples').PREFIX}{one.name}`",
            one.kind,
            ", ".join(f"`{label}`" for label in one.labels),
            one.told.removesuffix("."),
        )
        for one in found.METRICS
    )
    return table(("metric", "type", "labels", "meaning"), iter(rows))


def _default(one: Field[Any]) -> str:
    if one.default is MISSING:
        return "`~/.local/state/mtld`" if one.name == "state_dir" else ""
    if one.default is None:
        return "none"
    value = one.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _range(one: Field[Any]) -> str:
    low, high = one.metadata.get("low"), one.metadata.get("high")
    if one.metadata.get("one_of"):
        return ", ".join(f"`{choice}`" for choice in one.metadata["one_of"])
    if low is None and high is None:
        return ""
    return f"{low} or more" if high is None else f"{low} to {high}"


def _comments(path: Path) -> dict[tuple[str, str], str]:
    """(class, field) -> the comment that stands above the field or beside it."""
    source = path.read_text(encoding="utf-8")
    by_line = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not token.string.startswith("# fmt")
    }
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        above = node.lineno + 1
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                lines = range(above, (one.end_lineno or one.lineno) + 1)
                told = " ".join(by_line[line] for line in lines if line in by_line)
                found[node.name, one.target.id] = told
            above = (one.end_lineno or one.lineno) + 1
    return found


def tree() -> str:
    """All files of the packages with the first sentence of each."""
    lines = ["```text"]
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py"), key=_folder_last):
            name = path.relative_to(ROOT).as_posix()
            told = sentence(path)
            if path.name == "__init__.py":
                lines.append(f"{name.removesuffix('__init__.py'):<36}{told}")
            else:
                lines.append(f"{'  ' * name.count('/')}{path.name}".ljust(36) + told)
    return "\n".join([*lines, "```"])


def _folder_last(path: Path) -> tuple[Any, ...]:
    """A folder's own files before its folders, `__init__.py` first."""
    return (path.parent.as_posix(), path.name != "__init__.py", path.name)


PARTS: dict[str, Callable[[], str]] = {
    "strategies": lambda: family("mtl_engine.strategies", "STRATEGIES"),
    "tasks": lambda: family("mtl_engine.tasks", "TASKS"),
    "encoders": lambda: family("mtl_engine.encoders", "ENCODERS"),
    "weightings": lambda: family("mtl_engine.weightings", "WEIGHTINGS"),
    "policies": lambda: family("mtl_engine.policies", "POLICIES"),
    "methods": methods,
    **{f"results.{name}": partial(results, name) for name in ("W1", "W1s", "W2", "W3", "W4", "W5")},
    "verbs": verbs,
    "exit_codes": exit_codes,
    "settings": settings,
    "metrics": metrics,
    "tree": tree,
}


if __name__ == "__main__":
    main()
