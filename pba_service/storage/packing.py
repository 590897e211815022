"""Commands as bytes: redis-py spends more time on that than on everything else, several times what this takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio.connection import AbstractConnection

_LARGE_BYTES = 512
"""From this size on an argument is not copied once more than it has to be."""


def pack(command: Sequence[Any]) -> bytes:
    """A command in RESP, the protocol of Redis: every argument as a string of bytes with its length before it.

    Raises:
        TypeError: An argument is no bytes, text or number.
    """
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        if type(argument) is not bytes:
            argument = _encode(argument)  # noqa: PLW2901 - the hot loop of the store
        if len(argument) < _LARGE_BYTES:
            parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
        else:
            parts += (b"$%d\r\n" % len(argument), argument, b"\r\n")
    return b"".join(parts)


def _encode(argument: Any) -> bytes:
    if type(argument) is str:
        return argument.encode()
    if type(argument) is int or type(argument) is float:
        return repr(argument).encode()
    raise TypeError(f"{type(argument).__name__} cannot be an argument of a command")


class _Packing:
    """Replaces how a connection of redis-py packs commands."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """One command. redis-py's own have names of several words, such as CLIENT SETINFO."""
        if type(args[0]) is str and " " in args[0]:
            args = (*args[0].split(), *args[1:])
        return [pack(args)]

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> list[bytes]:
        """Commands that go together."""
        return [self.pack_command(*command)[0] for command in commands]


def packing(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same kind of connection, which packs by itself."""
    return type(connection_class.__name__, (_Packing, connection_class), {})
