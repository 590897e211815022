"""The circuit breaker, with a clock that goes on only when told to."""

from hypothesis import given
from hypothesis import strategies as st

from pba_service.storage.circuit import Circuit, CircuitOptions, State

OPTIONS = CircuitOptions(failures=3, open_s=1.0, max_open_s=4.0)


class Seconds:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def opened():
    clock = Seconds()
    circuit = Circuit(OPTIONS, clock)
    for _ in range(OPTIONS.failures):
        assert circuit.enter()
        circuit.failed()
    return circuit, clock


def test_fewer_failures_than_that_leave_it_closed():
    circuit = Circuit(OPTIONS, Seconds())
    for _ in range(20):
        circuit.failed()
        circuit.failed()
        assert circuit.state is State.CLOSED
        assert circuit.retry_after_s == 0
        circuit.succeeded()


def test_it_opens_after_failures_in_a_row_and_lets_nothing_through():
    circuit, clock = opened()

    assert circuit.state is State.OPEN
    assert not any(circuit.enter() for _ in range(10))
    assert circuit.retry_after_s == 1
    clock.now_s += 0.5
    assert not circuit.enter()


def test_one_probe_goes_through_at_a_time_and_a_good_one_closes_it():
    circuit, clock = opened()
    clock.now_s += 1

    assert circuit.state is State.HALF_OPEN
    assert circuit.enter()
    assert not circuit.enter()
    circuit.succeeded()

    assert circuit.state is State.CLOSED
    assert circuit.enter()
    assert circuit.enter()


def test_probes_that_fail_double_the_wait_up_to_a_bound():
    circuit, clock = opened()
    waits = []
    for _ in range(4):
        clock.now_s += circuit.retry_after_s
        assert circuit.enter()
        circuit.failed()
        waits.append(circuit.retry_after_s)
    assert waits == [2, 4, 4, 4]

    clock.now_s += 4
    assert circuit.enter()
    circuit.succeeded()
    for _ in range(OPTIONS.failures):
        circuit.failed()
    assert circuit.retry_after_s == 1  # a new outage begins with the shortest wait
    clock.now_s += 1
    assert circuit.enter()  # and with a probe of its own


def test_a_probe_whose_caller_left_makes_room_for_another():
    circuit, clock = opened()
    clock.now_s += 1
    assert circuit.enter()
    assert not circuit.enter()
    circuit.abandoned()
    assert circuit.enter()


def test_calls_from_before_that_fail_while_it_is_open_do_not_prolong_it():
    circuit, clock = opened()
    clock.now_s += 0.5
    circuit.failed()
    clock.now_s += 0.5
    assert circuit.state is State.HALF_OPEN


def test_calls_from_before_that_fail_beside_a_probe_neither_open_it_nor_let_another_through():
    circuit, clock = opened()
    clock.now_s += 1
    circuit.failed(probe=False)
    assert circuit.state is State.HALF_OPEN
    assert circuit.enter()
    circuit.failed(probe=False)
    clock.now_s += OPTIONS.max_open_s
    assert not circuit.enter()


def test_an_answer_from_elsewhere_closes_it():
    circuit, _ = opened()
    circuit.succeeded()
    assert circuit.state is State.CLOSED


@given(st.lists(st.tuples(st.sampled_from(["enter", "succeeded", "failed", "abandoned"]), st.floats(0, 3))))
def test_whatever_happens_it_lets_a_call_through_again_within_the_longest_wait(events):
    clock = Seconds()
    circuit = Circuit(OPTIONS, clock)
    for event, pause_s in events:
        clock.now_s += pause_s
        if event != "enter":
            getattr(circuit, event)()
        elif circuit.enter():
            circuit.failed()
    circuit.abandoned()
    assert circuit.retry_after_s <= OPTIONS.max_open_s
    clock.now_s += OPTIONS.max_open_s
    assert circuit.enter()
