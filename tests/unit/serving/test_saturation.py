"""The bound on calls begun, in a model of a loop that takes calls, refuses others, and rests when it may."""

import pytest

from pba_service.serving.saturation import UNBOUNDED, Saturation, SaturationOptions

OPTIONS = SaturationOptions()
WINDOW_S = 0.05


class Seconds:
    now_s = 10.0

    def __call__(self):
        return self.now_s


class Loop:
    """A call costs so much, a refusal so much less; what it cannot take in time waits."""

    def __init__(self, call_s=0.001, refusal_s=0.0002):
        self.clock = Seconds()
        self.saturation = Saturation(OPTIONS, self.clock)
        self.call_s, self.refusal_s = call_s, refusal_s
        self.backlog = 0.0
        self.answered = self.refused = 0

    def offered(self, per_s, seconds):
        """Calls come at a rate; returns how long one would have waited, at its longest, in the last half."""
        waits, end = [], self.clock.now_s + seconds
        while self.clock.now_s < end:
            began, busy = self.clock.now_s, 0.0
            self.backlog += per_s * WINDOW_S
            while self.backlog >= 1 and busy < WINDOW_S:
                self.backlog -= 1
                # the calls of a window come spread over it
                self.clock.now_s = began + max(busy, WINDOW_S * (1 - self.backlog / max(per_s * WINDOW_S, 1)))
                taken = self.saturation.admit()
                self.answered += taken
                self.refused += not taken
                busy += self.call_s if taken else self.refusal_s
            self.clock.now_s = began + WINDOW_S
            waits.append(self.backlog * self.refusal_s)
            self.saturation.observe(min(busy / WINDOW_S, 1.0), WINDOW_S)
        return max(waits[len(waits) // 2 :])


def test_what_can_be_taken_is_never_bounded():
    loop = Loop()
    loop.offered(per_s=700, seconds=10)
    assert loop.saturation.per_s == UNBOUNDED
    assert not loop.refused


@pytest.mark.parametrize("times", [1.5, 2, 3])
def test_of_too_much_the_rest_is_refused_and_nothing_waits(times):
    loop = Loop()
    loop.offered(per_s=times * 1_000, seconds=10)
    loop.answered = loop.refused = 0
    waited_s = loop.offered(per_s=times * 1_000, seconds=10)
    assert waited_s < 0.01
    # what is left after refusing the others is used
    possible = (1 - times * 1_000 * loop.refusal_s) / (loop.call_s - loop.refusal_s)
    assert 0.6 * possible < loop.answered / 10 <= 1.05 * possible


def test_once_it_is_over_nothing_is_bounded_any_more():
    loop = Loop()
    loop.offered(per_s=3_000, seconds=5)
    assert loop.saturation.per_s < 1_000
    loop.offered(per_s=300, seconds=5)
    assert loop.saturation.per_s == UNBOUNDED


def test_some_are_let_in_whatever_happens():
    loop = Loop(refusal_s=0.001)
    loop.offered(per_s=5_000, seconds=10)
    assert loop.saturation.per_s == OPTIONS.least_per_s


def test_a_loop_that_is_busy_with_other_things_bounds_nobody():
    saturation = Saturation(OPTIONS, Seconds())
    for _ in range(100):
        saturation.observe(1.0, WINDOW_S)
    assert saturation.per_s == UNBOUNDED


def test_a_loop_that_is_busy_for_a_moment_bounds_nobody():
    saturation = Saturation(OPTIONS, Seconds())
    for _ in range(20):
        for busy in (*[1.0] * (OPTIONS.patience - 1), 0.5):
            assert saturation.admit()
            saturation.observe(busy, WINDOW_S)
    assert saturation.per_s == UNBOUNDED
