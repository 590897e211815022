"""Commands are packed as redis-py packs them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection

from pba_service.storage.packing import pack, packing

ARGUMENT = st.one_of(st.binary(), st.text(), st.integers(), st.floats(allow_nan=False))


@given(st.lists(ARGUMENT, max_size=6))
def test_as_redis_py_does(arguments):
    theirs = Connection().pack_command("SET", *arguments)
    assert pack(("SET", *arguments)) == b"".join(theirs)
    ours = packing(Connection)()
    assert b"".join(ours.pack_command("SET", *arguments)) == b"".join(theirs)
    assert b"".join(ours.pack_commands([("SET", *arguments), ("GET", "a")])) == b"".join(theirs) + pack(("GET", "a"))


def test_names_of_several_words_are_several_arguments():
    assert packing(Connection)().pack_command("CLIENT SETINFO", "a b") == Connection().pack_command(
        "CLIENT SETINFO", "a b"
    )


@pytest.mark.parametrize("argument", [None, True, [1]])
def test_what_redis_does_not_take_is_refused(argument):
    with pytest.raises(TypeError):
        pack(("SET", argument))
