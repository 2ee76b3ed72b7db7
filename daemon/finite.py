"""JSON in which every number is finite: NaN and Infinity, which strict readers refuse, are an error when written.

When read they are null: files of an earlier version hold them where a score was not defined.
"""

from __future__ import annotations

import json
from typing import Any


def dumps(value: object, **form: Any) -> str:
    """The text of a value; ValueError where it holds a number that JSON has no word for."""
    return json.dumps(value, allow_nan=False, **form)


def loads(text: str | bytes) -> Any:
    """The value of a text."""
    return json.loads(text, parse_constant=_null)


def _null(_literal: str) -> None:
    return None
