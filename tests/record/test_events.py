"""Waiting for descriptors."""

from __future__ import annotations

import os

import pytest

from rechain.record import events

pytestmark = pytest.mark.fast


def test_a_limit_may_be_longer_than_poll_can_wait() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"x")
        assert events.wait([reading], 30 * 24 * 60 * 60) == [reading]
    finally:
        os.close(reading)
        os.close(writing)
