"""Fixtures of the tests with real sockets."""

from __future__ import annotations

import socket

import pytest

from engine.endpoints import ROLES


@pytest.fixture
def free_ports() -> int:
    """Return the first of as many free consecutive ports as a tcp base needs."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first: int = probe.getsockname()[1]
        if first + len(ROLES) < 65536 and all(map(is_free, range(first, first + len(ROLES)))):
            return first
    pytest.fail("no free range of ports")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
