from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from pba_service.storage.keys import link_key, link_keys

link_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.text(
    "}{%7DB25:mha", min_size=1, max_size=8
)


@given(link_ids)
def test_all_keys_of_a_link_live_on_one_node_of_a_cluster(link_id):
    base = link_key(link_id)

    assert len({key_slot(base + suffix) for suffix in (b"", b":m", b":s", b":h:1", b":l:9", b":v")}) == 1


@given(link_ids, link_ids)
def test_no_key_of_one_link_is_a_key_of_another(one, two):
    if one != two:
        a, b = link_key(one), link_key(two)
        assert not (a + b":").startswith(b + b":")


def test_a_plain_id_is_readable_in_its_key():
    assert link_key("berlin-paris") == b"pba:{berlin-paris}"


@given(st.lists(link_ids, max_size=5))
def test_keys_of_many_links_are_those_of_each(ids):
    assert link_keys(ids) == [link_key(link_id) for link_id in ids]
