"""What a lease says and who may take it."""

from __future__ import annotations

import pytest

from daemon.errors import IntegrityError
from daemon.sources.lease import Lease


def test_a_lease_survives_being_stored() -> None:
    lease = Lease(7, "state", "boot")
    assert Lease.parse(str(lease).encode()) == lease
    assert Lease.parse(None) is None


def test_a_lease_may_be_taken_at_once_by_its_own_state_directory_or_when_released() -> None:
    assert Lease(7, "state", "boot").is_free_for("state")
    assert Lease(7).is_free_for("state")
    assert not Lease(7, "other", "boot").is_free_for("state")


@pytest.mark.parametrize("value", [b"", b"7", b"7:a", b"x:a:b", b"7:a:b:c", b"-1:a:b", b"\xff"])
def test_a_value_that_is_no_lease_is_named(value: bytes) -> None:
    with pytest.raises(IntegrityError, match="not token:uuid:nonce"):
        Lease.parse(value)
