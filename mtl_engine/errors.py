"""What can go wrong in the engine: one root, and a leaf only where a caller acts differently on it."""


class EngineError(ValueError):
    """The root: a value, name or state that the engine refuses; says what was found and what is allowed."""


class BadRows(EngineError):
    """Rows that must not reach the optimizer; `reason` is a stable snake_case code, for example `nan_input`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StateError(EngineError):
    """A state that does not fit or does not verify: the caller falls back to an older one."""
