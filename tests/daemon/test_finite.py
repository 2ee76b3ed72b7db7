"""JSON without NaN and Infinity: an error when written, null when read, and no writer goes past it."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest

from daemon import finite

ROOT = Path(__file__).parents[2]
NOT_WRITTEN = {
    "daemon/app.py": "settings are hashed",
    "daemon/checkpoint_store.py": "a manifest is hashed as it was read",
    "daemon/commands/config.py": "a word of TOML, which has nan and inf",
    "daemon/demo/trainer.py": "a word of TOML",
    "daemon/encodings/json.py": "tried out for half characters",
    "mtl_engine/state.py": "names, shapes and offsets",
}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_an_error_when_written(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        finite.dumps({"scores": [{"r2": number}]})


def test_what_an_earlier_version_wrote_is_read_as_null() -> None:
    text = '{"r2": NaN, "mae": 0.5, "all": [Infinity, -Infinity, "NaN"]}'
    assert finite.loads(text) == {"r2": None, "mae": 0.5, "all": [None, None, "NaN"]}


def test_what_is_written_is_read_again() -> None:
    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": -0.0}}
    assert finite.loads(finite.dumps(value, indent=1, ensure_ascii=False).encode()) == value


def test_every_writer_of_json_refuses_what_is_not_finite() -> None:
    lenient = {
        str(path.relative_to(ROOT))
        for package in ("daemon", "mtl_engine")
        for path in (ROOT / package).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in {"json.dumps", "json.dump"}
        and "allow_nan=False" not in {ast.unparse(one) for one in call.keywords}
    }
    assert lenient == set(NOT_WRITTEN)
