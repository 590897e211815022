"""Jobs take their turns in time, without time passing."""

from pba_client.agent.loop import Loop


class Clock:
    def __init__(self):
        self.now_s = 100.0
        self.slept_s = []

    def sleep(self, seconds):
        self.slept_s.append(seconds)
        self.now_s += seconds


def test_jobs_go_on_when_they_said_and_the_loop_sleeps_in_between():
    clock, seen = Clock(), []

    def job(name, every_s, times):
        for _ in range(times):
            seen.append((name, clock.now_s - 100.0))
            yield every_s

    loop = Loop(lambda: clock.now_s, clock.sleep)
    loop.start(job("a", 0.25, 4))
    loop.start(job("b", 0.5, 2))
    loop.run(lambda: clock.now_s >= 103.0)
    assert sorted(seen, key=lambda one: (one[1], one[0])) == [
        ("a", 0.0),
        ("b", 0.0),
        ("a", 0.25),
        ("a", 0.5),
        ("b", 0.5),
        ("a", 0.75),
    ]
    assert max(clock.slept_s) <= 1.0  # so that it looks whether it is to stop
    assert min(clock.slept_s) >= 0.0


def test_a_job_that_took_too_long_is_not_waited_for():
    clock = Clock()

    def slow():
        for _ in range(3):
            clock.now_s += 5.0
            yield 0.0

    loop = Loop(lambda: clock.now_s, clock.sleep)
    loop.start(slow())
    loop.run(lambda: clock.now_s >= 115.0)
    assert clock.now_s < 117.0
