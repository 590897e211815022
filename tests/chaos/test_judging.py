"""The checks of chaos and soak can fail: what they are there for is told."""

from tests.chaos.reconcile import Balance
from tests.chaos.soak import Counts, Reading, judge
from tests.chaos.trial import Outcome

FEW = (20, 15)


def readings(service=lambda _minute: 150.0, store=lambda _minute: 15.0):
    """Of half an hour."""
    return [Reading(60.0 * i, service(i), store(i), 40, 90, 100 * i, 0, 35) for i in range(30)]


def counts(**errors):
    return Counts(calls=10_000, failed=sum(errors.values()), updates=1_000, errors=errors)


def outcome(**bad):
    kinds = {"missing": 0, "duplicated": 0, "strange": 0}
    balance = Balance(**{name: bad.get(name, number) for name, number in kinds.items()})
    others = {"silence_s": bad.get("silence_s", 1.0), "wrong": bad.get("wrong", 0), "limit_s": 20.0}
    return Outcome("a fault", 100, 0, balance, stale=0, unanswered=0, interruptions=0, **others)


def test_a_soak_without_faults_has_none():
    assert judge(readings(), counts(CapacityExceededError=500, UnavailableError=1), FEW, FEW) == []


def test_a_soak_tells_a_leak_of_the_service_and_one_of_its_redis():
    assert "memory of the service" in judge(readings(lambda i: 150.0 + i), counts(), FEW, FEW)[0]
    assert "memory of its Redis" in judge(readings(store=lambda i: 15.0 + 0.2 * i), counts(), FEW, FEW)[0]
    assert judge(readings(), counts(), FEW, (80, 30)) == ["60 descriptors are left over", "15 tasks are left over"]


def test_a_soak_tells_calls_that_fail_otherwise_than_by_load():
    assert judge(readings(), counts(ServiceFaultError=3), FEW, FEW) == ["3 calls failed: ServiceFaultError"]
    assert judge(readings(), Counts(errors={"UnavailableError": 9}), FEW, FEW)


def test_each_kind_of_loss_is_a_fault():
    assert outcome().faults == []
    for bad in ({"missing": 1}, {"duplicated": 1}, {"strange": 1}, {"wrong": 1}, {"silence_s": 21.0}):
        assert len(outcome(**bad).faults) == 1, bad
