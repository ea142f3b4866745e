"""What the tests of the command share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.swarm.commands import Traces, traced


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Of what this test starts."""
    with traced() as found:
        yield found


@pytest.fixture(scope="module")
def traces_of_home() -> Iterator[Traces]:
    """Of what the tests of a module start, and the swarm that they share."""
    with traced() as found:
        yield found
