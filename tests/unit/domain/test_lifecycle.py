"""What is desired of models changes one revision at a time, and never into what makes no sense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.errors import ModelConflictError, ModelUnknownError
from pba_service.domain.lifecycle import OFFERS_KEPT, PREVIOUS_KEPT, Desired, Experiment, Pin, Scope


def activated(*versions):
    desired = Desired()
    for version in versions:
        desired = desired.activated(version)
    return desired


def test_a_version_becomes_active_and_the_one_before_is_remembered():
    assert activated("a", "b") == Desired(revision=2, active="b", previous=("a",))


def test_activating_what_is_active_changes_nothing():
    assert activated("a", "a") == activated("a")


def test_a_version_that_is_activated_again_is_no_longer_behind():
    assert activated("a", "b", "a").previous == ("b",)


def test_rolling_back_goes_further_back_each_time():
    desired = activated("a", "b", "c").rolled_back()
    assert (desired.active, desired.previous) == ("b", ("a",))
    assert desired.rolled_back().active == "a"
    with pytest.raises(ModelConflictError, match="no version was active before"):
        desired.rolled_back().rolled_back()


def test_a_held_version_stays_until_it_is_released():
    held = activated("a", "b").hold()
    for change in (lambda: held.activated("c"), held.rolled_back, lambda: held.promoted("b", "c")):
        with pytest.raises(ModelConflictError, match="unpin it first"):
            change()
    assert held.activated("b") is held
    assert held.released().activated("c").active == "c"


def test_a_pin_replaces_one_of_the_same_links():
    desired = activated("a").pinned(Pin(Scope.REGION, "eu", ("b",))).pinned(Pin(Scope.REGION, "eu", ("c", "b")))
    assert desired.pins == (Pin(Scope.REGION, "eu", ("c", "b")),)
    assert desired.versions == ("a", "c", "b")
    assert desired.unpinned(Scope.REGION, "eu").pins == ()
    with pytest.raises(ModelUnknownError):
        desired.unpinned(Scope.LINK, "eu")


def test_a_champion_is_in_two_experiments_at_a_time_and_with_each_challenger_in_one():
    desired = activated("a").started(Experiment("x", "a", "b"))
    assert desired.versions == ("a", "b")
    with pytest.raises(ModelConflictError, match="in the experiment 'x' already"):
        desired.started(Experiment("y", "a", "b"))
    with pytest.raises(ModelConflictError, match="in the experiment 'x' already"):
        desired.started(Experiment("y", "a", "c")).started(Experiment("z", "a", "d"))
    with pytest.raises(ModelConflictError, match="against itself"):
        desired.started(Experiment("y", "b", "b"))
    assert desired.started(Experiment("y", "b", "c")).ended("x").experiments == (Experiment("y", "b", "c"),)
    with pytest.raises(ModelUnknownError):
        desired.ended("z")


def test_a_promoted_challenger_takes_every_place_of_its_champion():
    desired = activated("a").pinned(Pin(Scope.REGION, "eu", ("a", "b"))).promoted("a", "c")
    assert (desired.active, desired.previous, desired.pins) == ("c", ("a",), (Pin(Scope.REGION, "eu", ("c", "b")),))
    regional = activated("a").pinned(Pin(Scope.REGION, "eu", ("b",))).promoted("b", "c")
    assert (regional.active, regional.pins) == ("a", (Pin(Scope.REGION, "eu", ("c",)),))


def arrives(desired, version, identity="f@1", *, meant=False, at_start=False, activate=True):
    return desired.arrived(version, identity, meant=meant, at_start=at_start, activate=activate)


def test_a_file_is_acted_on_once():
    desired = arrives(activated("a"), "b")
    assert (desired.active, desired.revision) == ("b", 2)
    assert arrives(desired, "b") is desired
    back = desired.rolled_back()
    assert arrives(back, "b") is back, "a replica that sees the same file later does not bring it back"
    assert arrives(back, "b", "f@2").active == "b", "written again it is meant again"


def test_a_held_version_outlasts_arrivals_and_they_do_not_come_back_later():
    held = activated("a").hold()
    after = arrives(held, "b")
    assert after.active == "a"
    assert arrives(after.released(), "b").active == "a"


def test_where_arrivals_wait_only_the_first_of_all_serves():
    first = arrives(Desired(), "a", activate=False)
    assert first.active == "a"
    assert arrives(first, "b", "g@1", activate=False).active == "a"


def test_at_a_start_the_meant_model_counts_when_it_is_another_than_before():
    desired = arrives(Desired(), "a", "a@1", meant=True, at_start=True)
    assert (desired.active, desired.configured) == ("a", "a")
    promoted = desired.activated("r")
    assert arrives(promoted, "a", "a@2", meant=True, at_start=True) is promoted
    assert arrives(promoted, "b", "b@1", meant=True, at_start=True).active == "b"


def test_at_a_start_another_file_counts_when_its_content_was_never_acted_on():
    desired = arrives(activated("a"), "b", "sum@1")
    back = desired.rolled_back()
    assert arrives(back, "b", "sum@9", at_start=True) is back
    assert arrives(back, "c", "other@1", at_start=True).active == "c"


@given(st.lists(st.sampled_from("abcdefghijklmnop"), max_size=40))
def test_the_active_version_is_never_one_to_go_back_to(versions):
    desired = activated(*versions)
    assert desired.active not in desired.previous
    assert len(set(desired.previous)) == len(desired.previous) <= PREVIOUS_KEPT


def test_offers_are_bounded():
    desired = Desired()
    for i in range(OFFERS_KEPT + 3):
        desired = arrives(desired, "a", str(i))
    assert desired.offers == tuple(str(i) for i in range(3, OFFERS_KEPT + 3))


def test_the_share_of_an_experiment_is_stable_and_grows_with_it():
    links = [f"link-{i}" for i in range(4_000)]
    small = {link for link in links if Experiment("x", "a", "b", 0.1).is_served_by_challenger(link)}
    large = {link for link in links if Experiment("x", "a", "b", 0.5).is_served_by_challenger(link)}
    other = {link for link in links if Experiment("y", "a", "b", 0.5).is_served_by_challenger(link)}
    assert small < large
    assert 320 < len(small) < 480
    assert 1_850 < len(large) < 2_150
    assert 850 < len(large & other) < 1_150, "one experiment's share says nothing of another's"
    assert not any(Experiment("x", "a", "b").is_served_by_challenger(link) for link in links)
    assert all(Experiment("x", "a", "b", 1.0).is_served_by_challenger(link) for link in links)
