"""Lengths of time in words, and how long the rest takes."""

import pytest

from cyclegan_ms.clock import duration, seconds_left


@pytest.mark.parametrize(
    "seconds,words",
    [
        (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (89, "1 min"), (1000, "17 min"),
        (3569, "59 min"), (3571, "1 h 00 min"), (7500, "2 h 05 min"), (360_000, "100 h 00 min"),
    ],
)  # fmt: skip
def test_lengths_of_time(seconds, words):
    assert duration(seconds) == words


def test_the_rest():
    assert seconds_left(done=4, left=6, seconds=10) == 15
    assert seconds_left(0, 6, 10) == 0
