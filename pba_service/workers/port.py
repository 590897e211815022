"""A TCP port that several processes will listen on together."""

from __future__ import annotations

import socket

from pba_service.serving.server import ListenError


class SharedPort:
    """Holds a port for this service; a context manager.

    It is bound and not listened on, so that no connection comes here, while a second service that wants the same port
    is refused.

    Raises:
        ListenError: It is in use, or the system has no SO_REUSEPORT.
    """

    def __init__(self, host: str, port: int) -> None:
        where = f"cannot listen on {host}:{port}"
        if not hasattr(socket, "SO_REUSEPORT"):
            raise ListenError(f"{where} with several workers: this system has no SO_REUSEPORT")
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)  # without SO_REUSEPORT: fails where anybody else listens
                alone.listen(1)
                address = alone.getsockname()
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(address)
        except OSError as error:
            raise ListenError(f"{where}: {error.strerror or error}") from None

    @property
    def number(self) -> int:
        """The port."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Gives it up."""
        self._socket.close()
