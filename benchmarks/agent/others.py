"""Somebody else's traffic: UDP at a steady rate. `python -m benchmarks.agent.others ADDRESS MBPS SECONDS`."""

from __future__ import annotations

import contextlib
import socket
import sys
import time

PACKET_BYTES = 1400
HEADERS_BYTES = 28
STEP_S = 0.001


def main(address: str, mbps: float, seconds: float) -> None:
    """Sends, a few packets each millisecond."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.settimeout(0)
    step_bits = (PACKET_BYTES + HEADERS_BYTES) * 8
    begin, sent, payload = time.monotonic(), 0, bytes(PACKET_BYTES)
    while (elapsed := time.monotonic() - begin) < seconds:
        while sent * step_bits < elapsed * mbps * 1e6:
            with contextlib.suppress(OSError):  # a full queue, or an answer that nobody listens there
                udp.sendto(payload, (address, 9))
            sent += 1
        time.sleep(STEP_S)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
