"""A transfer over parallel TCP streams that can be told anew while it runs, and its receiver.

    python -m benchmarks.agent.transfer receive ADDRESS PORT            # prints bytes received, a line a second
    python -m benchmarks.agent.transfer fixed STREAMS ADDRESS PORT
    python -m benchmarks.agent.transfer agent CONFIG ADDRESS PORT       # follows the agent's parameters

A sender prints its counts as JSON when it is ended.
"""

from __future__ import annotations

import json
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pba_client.agent import Agent, load_config
from pba_client.agent.sock_diag import read_tcp_info

if TYPE_CHECKING:
    from pba_client.agent import Decision

_SO_MAX_PACING_RATE = 47
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_NOTSENT_LOWAT = 25
_UNPACED = 2**64 - 1
_CHUNK_BYTES = 64 * 1024
_LARGE = 4 << 20


class Transfer:
    """Sends without end over as many streams as it is told."""

    def __init__(self, address: str, port: int, streams: int) -> None:
        """Sends nothing yet."""
        self._where = (address, port)
        self._wanted: tuple[int, int, float | None, int] = (streams, 0, None, 0)
        self._changed = True
        self._sockets: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._stopped = threading.Event()
        self._closed_segments = self._closed_again = 0
        self.changes: list[tuple[float, int, float | None]] = []

    def apply(self, decision: Decision) -> None:
        """Changes over: what an agent's `on_parameters` is for."""
        self._wanted = (decision.streams, decision.buffer_bytes, decision.pacing_mbps, decision.not_sent_bytes)
        self._changed = True

    def stop(self) -> None:
        """Ends it."""
        self._stopped.set()

    def run(self) -> None:
        """Sends until it is stopped."""
        body = memoryview(bytes(_CHUNK_BYTES))
        while not self._stopped.is_set():
            if self._changed:
                self._changed = False
                self._change_over()
            for key, _ in self._selector.select(0.1):
                try:
                    key.fileobj.send(body)  # type: ignore[union-attr] # only sockets are registered
                except BlockingIOError:
                    continue
                except OSError:  # the path was gone for too long: another stream takes its place
                    self._close(key.fileobj)  # type: ignore[arg-type] # likewise
                    self._changed = True
        for one in list(self._sockets):
            self._close(one)

    def _change_over(self) -> None:
        streams, buffer_bytes, pacing, not_sent = self._wanted
        while len(self._sockets) > streams:
            self._close(self._sockets[-1])
        for _ in range(streams - len(self._sockets)):
            self._open(buffer_bytes)
        each = _UNPACED if pacing is None else int(pacing * 1e6 / 8 / streams)
        for one in self._sockets:
            one.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, struct.pack("=Q", each))
            if buffer_bytes:
                one.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, buffer_bytes)
            if not_sent:
                one.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, not_sent)
        self.changes.append((time.time(), streams, pacing))

    def _open(self, buffer_bytes: int) -> None:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        if buffer_bytes:
            one.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, buffer_bytes)
        try:
            one.connect(self._where)
        except OSError:
            one.close()
            self._changed = True  # tried again
            return
        one.settimeout(0)
        self._sockets.append(one)
        self._selector.register(one, selectors.EVENT_WRITE)

    def _close(self, one: socket.socket) -> None:
        info = read_tcp_info(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 255), 0, (0, 0), b"")
        self._closed_segments += info.data_segments
        self._closed_again += info.retransmits
        self._selector.unregister(one)
        self._sockets.remove(one)
        one.close()

    def counts(self) -> dict[str, object]:
        """What it came to, once it has ended."""
        return {"segments": self._closed_segments, "again": self._closed_again, "changes": self.changes}


def receive(address: str, port: int) -> None:
    """Takes whatever comes, and prints a line a second: time and bytes so far."""
    listening = socket.create_server((address, port), backlog=512)
    listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _LARGE)
    listening.settimeout(0)
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    sink, total, next_s = bytearray(1 << 18), 0, time.time()
    while True:
        for key, _ in selector.select(0.2):
            one = key.fileobj
            if one is listening:
                accepted, _ = listening.accept()
                accepted.settimeout(0)
                selector.register(accepted, selectors.EVENT_READ)
                continue
            try:
                got = one.recv_into(sink)  # type: ignore[union-attr] # only sockets are registered
            except BlockingIOError:
                continue
            except ConnectionError:
                got = 0
            total += got
            if not got:
                selector.unregister(one)
                one.close()  # type: ignore[union-attr] # likewise
        if time.time() >= next_s:
            print(json.dumps({"at": time.time(), "bytes": total}), flush=True)
            next_s += 1.0


def send(way: str, what: str, address: str, port: int) -> None:
    """Sends in one of the ways until it is ended."""
    transfer = Transfer(address, port, 8 if way == "agent" else int(what))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: transfer.stop())
    if way == "agent":
        samples: list[dict[str, object]] = []
        with Agent(
            load_config(Path(what)),
            on_parameters=transfer.apply,
            on_sample=lambda one: samples.append(
                {"at_ms": one.measured_at_ms, "values": one.values, "sources": [s.name for s in one.sources]}
            ),
        ):
            transfer.run()
        print(json.dumps({**transfer.counts(), "samples": samples}), flush=True)
    else:
        transfer.run()
        print(json.dumps(transfer.counts()), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(sys.argv[2], int(sys.argv[3]))
    else:
        send(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
