"""gRPC calls over a bare HTTP/2 connection, for generating load.

A client in Python's grpc costs as much as the server it calls, so it would measure itself. This one writes frames that
were made before and reads little more than their lengths: about a tenth of that cost. Messages are bytes.

Only what a well-behaved gRPC server sends is understood (RFC 9113; no compression, no push, no padding). The header
table is switched off (SETTINGS_HEADER_TABLE_SIZE 0), so that a status can be read without HPACK's state.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_FRAME_HEAD = struct.Struct(">HBBBI")
_WINDOW_BYTES = 2**31 - 1
_REPLENISH_BYTES = 2**29
_FRAME_BYTES = 2**20
_OK = b"\x0bgrpc-status\x010"
_STATUS = b"\x0bgrpc-status"


class CallFailedError(RuntimeError):
    """A call ended with another status than OK."""


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    size = len(payload)
    return _FRAME_HEAD.pack(size >> 8, size & 255, kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def message(data: bytes) -> bytes:
    """A message as gRPC frames it."""
    return b"\0" + len(data).to_bytes(4, "big") + data


class Call:
    """One call.

    Args:
        on_message: Given each message of the answer.
        on_end: Called once at the end, with None or what went wrong.
    """

    __slots__ = ("_held", "on_end", "on_message", "outgoing", "stream", "window")

    def __init__(self, on_message: Callable[[bytes], None], on_end: Callable[[str | None], None]) -> None:
        self.on_message, self.on_end = on_message, on_end
        self.stream, self.window = 0, 0
        self.outgoing: deque[tuple[bytes, bool]] = deque()
        self._held = b""

    def received(self, data: bytes) -> None:
        """Takes a part of the answer."""
        held = self._held + data if self._held else data
        start, size = 0, len(held)
        while size - start >= 5:
            end = start + 5 + int.from_bytes(held[start + 1 : start + 5], "big")
            if end > size:
                break
            self.on_message(held[start + 5 : end])
            start = end
        self._held = held[start:] if start < size else b""


class Connection(asyncio.Protocol):
    """One connection; many calls at a time."""

    def __init__(self, authority: str) -> None:
        self._authority = authority.encode()
        self._heads: dict[str, bytes] = {}
        self._calls: dict[int, Call] = {}
        self._next = 1
        self._held = b""
        self._window = self._initial_window = 65_535
        self._frame_bytes = 16_384
        self._unreplenished = 0
        self._ready = asyncio.get_running_loop().create_future()
        self._lost: str | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """A connection on which the server's settings have come."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(f"{host}:{port}"), host, port)
        await connection._ready  # noqa: SLF001 - its own
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says hello."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the types
        self._transport = transport
        settings = ((1, 0), (2, 0), (4, _WINDOW_BYTES), (5, _FRAME_BYTES))
        payload = b"".join(struct.pack(">HI", *one) for one in settings)
        transport.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, payload)
            + _frame(_WINDOW, 0, 0, (_WINDOW_BYTES - 65_535).to_bytes(4, "big"))
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all calls."""
        self._lost = f"connection lost: {exc}"
        if not self._ready.done():
            self._ready.set_exception(ConnectionError(self._lost))
        for call in list(self._calls.values()):
            call.on_end(self._lost)
        self._calls.clear()

    def close(self) -> None:
        """Closes it; calls under way end."""
        self._transport.close()

    def start(self, path: str, data: bytes, call: Call, *, last: bool = True) -> Call:
        """Begins a call with its first message; `last`: and only one."""
        if self._lost:
            raise ConnectionError(self._lost)
        call.stream, call.window = self._next, self._initial_window
        self._next += 2
        self._calls[call.stream] = call
        head = self._heads.get(path) or self._heads.setdefault(path, self._head(path))
        framed = message(data)
        if len(framed) <= min(self._window, call.window, self._frame_bytes):
            self._window -= len(framed)
            call.window -= len(framed)
            self._transport.write(
                _frame(_HEADERS, _END_HEADERS, call.stream, head)
                + _frame(_DATA, _END_STREAM if last else 0, call.stream, framed)
            )
        else:
            self._transport.write(_frame(_HEADERS, _END_HEADERS, call.stream, head))
            call.outgoing.append((framed, last))
            self._send(call)
        return call

    def send(self, call: Call, data: bytes, *, last: bool = False) -> None:
        """Sends one more message of a call."""
        call.outgoing.append((message(data), last))
        self._send(call)

    async def unary(self, path: str, data: bytes) -> bytes:
        """The answer to a call. Raises `CallFailedError`."""
        answers: list[bytes] = []
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.start(path, data, Call(answers.append, done.set_result))
        if fault := await done:
            raise CallFailedError(f"{path}: {fault}")
        return answers[0]

    def _head(self, path: str) -> bytes:
        pairs = ((b":path", path.encode()), (b":authority", self._authority), (b"te", b"trailers"))
        return b"\x83\x86" + b"".join(_literal(*pair) for pair in (*pairs, (b"content-type", b"application/grpc")))

    def _send(self, call: Call) -> None:
        while call.outgoing:
            data, last = call.outgoing[0]
            room = min(self._window, call.window, self._frame_bytes, len(data))
            if room <= 0:
                return
            done = room == len(data)
            self._transport.write(_frame(_DATA, _END_STREAM if done and last else 0, call.stream, data[:room]))
            self._window -= room
            call.window -= room
            if done:
                call.outgoing.popleft()
            else:
                call.outgoing[0] = data[room:], last

    def data_received(self, data: bytes) -> None:
        """Reads frames."""
        held = self._held + data if self._held else data
        start, size = 0, len(held)
        while size - start >= 9:
            high, low, kind, flags, stream = _FRAME_HEAD.unpack_from(held, start)
            end = start + 9 + (high << 8 | low)
            if end > size:
                break
            if kind == _DATA:
                call = self._calls.get(stream)
                if call:
                    call.received(held[start + 9 : end])
                    if flags & _END_STREAM:
                        self._end(stream, "no trailers")
                self._unreplenished += end - start - 9
                if self._unreplenished > _REPLENISH_BYTES:
                    self._replenish()
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    block = held[start + 9 : end]
                    self._end(stream, None if _OK in block else _status(block))
            else:
                self._other(kind, flags, stream, held[start + 9 : end])
            start = end
        self._held = held[start:] if start < size else b""

    def _replenish(self) -> None:
        self._transport.write(_frame(_WINDOW, 0, 0, self._unreplenished.to_bytes(4, "big")))
        self._unreplenished = 0

    def _end(self, stream: int, fault: str | None) -> None:
        call = self._calls.pop(stream, None)
        if call:
            call.on_end(fault)

    def _other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == _RST:
            self._end(stream, f"reset, code {int.from_bytes(payload, 'big')}")
        elif kind == _CONTINUATION:
            raise ConnectionError("a header block in several frames, which this client does not read")

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 4:
                for call in self._calls.values():
                    call.window += value - self._initial_window
                self._initial_window = value
            elif name == 5:
                self._frame_bytes = value
        self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        if not self._ready.done():
            self._ready.set_result(None)
        for call in list(self._calls.values()):
            self._send(call)

    def _widen(self, stream: int, more: int) -> None:
        if stream:
            call = self._calls.get(stream)
            if call:
                call.window += more
                self._send(call)
            return
        self._window += more
        for call in list(self._calls.values()):
            if call.outgoing:
                self._send(call)


def _status(block: bytes) -> str:
    place = block.find(_STATUS)
    return block[place + 12 :].decode(errors="replace") if place >= 0 else "no status"
