"""Who owns and who reads a link, by identity alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.access.callers import Patterns, Role, caller_of

IDS = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=12).filter(lambda text: "*" not in text)


def caller(name="fra-1", **claims):
    return caller_of(name, claims)


def test_a_node_owns_what_begins_with_its_name_unless_told():
    node = caller(roles=["node"])
    assert node.owns("fra-1/ams")
    assert not node.owns("fra-1")
    assert not node.owns("fra-10/ams")
    assert not node.owns("")


def test_links_that_are_said_take_the_place_of_the_default():
    node = caller(roles=["node"], links=["a", "b/*"])
    assert [node.owns(link) for link in ("a", "ab", "b/1", "b", "fra-1/ams")] == [True, False, True, False, False]


@given(mine=IDS, other=IDS)
def test_no_id_is_owned_by_two_nodes_of_different_names_unless_one_name_continues_the_other(mine, other):
    if other != mine and not other.startswith(f"{mine}/"):
        assert not caller(mine, roles=["node"]).owns(f"{other}/link")


def test_a_subscriber_reads_what_it_is_given_and_owns_nothing():
    reader = caller(roles=["subscriber"], reads=["eu/*", "x"], links=["*"], regions=["us"])
    assert reader.reads_by_id("eu/1")
    assert reader.reads_by_id("x")
    assert not reader.reads_by_id("us/1")
    assert reader.readable_regions == {"us"}
    assert not reader.owns("eu/1")
    assert not reader.reads_everything


def test_a_subscriber_reads_nothing_unless_told():
    reader = caller(roles=["subscriber"])
    assert not reader.reads_by_id("fra-1/ams")
    assert reader.readable == Patterns()


def test_an_admin_may_everything():
    admin = caller(roles=["admin"])
    assert admin.owns("whatever")
    assert admin.reads_by_id("whatever")
    assert admin.reads_everything


def test_what_a_role_would_have_needs_the_role():
    nobody = caller(links=["*"], reads=["*"], regions=["eu"])
    assert not nobody.owns("a")
    assert not nobody.reads_by_id("a")
    assert nobody.readable_regions == frozenset()
    assert not nobody.reads_everything


def test_roles_that_are_not_known_are_no_roles():
    assert caller(roles=["root", "node"]).roles == {Role.NODE}


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("", {}),
        ("a*", {}),
        (None, {}),
        (5, {}),
        ("a\nb", {}),
        ("x" * 129, {}),
        ("a", {"roles": "admin"}),
        ("a", {"roles": [1]}),
        ("a", {"links": ["a*b"]}),
        ("a", {"links": [""]}),
        ("a", {"links": ["**"]}),
        ("a", {"reads": {"*": 1}}),
        ("a", {"regions": [""]}),
        ("a", {"reads": ["a"] * 1_001}),
    ],
)
def test_what_is_malformed_is_refused_whole(name, claims):
    with pytest.raises(ValueError):
        caller_of(name, claims)
