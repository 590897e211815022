"""What a client shows and whom it trusts, from files that are read anew when they change."""

from __future__ import annotations

import ipaddress
import ssl
import time
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc

from pba_client.errors import AbortedError, NotPermittedError
from pba_client.options import Tls, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_client.errors import PbaClientError
    from pba_client.options import Options

LOOK_EVERY_S = 1.0
"""Between two looks at the files."""

MAX_TOKEN_BYTES = 16_384


class Credentials:
    """The credentials of one client. Threads may share it."""

    def __init__(self, target: str, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads the files.

        Args:
            target: Where they will be shown.
            options: They say which they are.
            clock: Monotonic seconds.

        Raises:
            ValueError: A file is broken, or a token would go over the network in plain text.
            OSError: A file cannot be read.
        """
        if (options.token or options.token_file) and options.tls is None and not is_local(target):
            raise ValueError(f"a token would go to {target} in plain text: give tls")
        self._options = options
        self._clock = clock
        self._lock = Lock()
        self._looked_s = clock()
        self._stamp = self._look()
        self._generation = 0
        self._tls = read_tls(options.tls)
        self._token = options.token or read_token(options.token_file)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with a call that begins now."""
        self._refresh()
        return (*self._options.metadata, *((("authorization", f"Bearer {self._token}"),) if self._token else ()))

    def tls(self) -> tuple[int, Tls | None]:
        """The certificates to connect with now, and a number that is another one whenever they are."""
        self._refresh()
        return self._generation, self._tls

    def outdated(self, error: PbaClientError, shown: tuple[tuple[str, str], ...]) -> bool:
        """Whether a call that showed `shown` was refused for that, and there is something newer to show."""
        if not isinstance(error, NotPermittedError) or error.code != grpc.StatusCode.UNAUTHENTICATED.name:
            return False
        self._refresh(at_once=True)
        return self.metadata() != shown

    def of_stream(self, error: PbaClientError, shown: tuple[tuple[str, str], ...]) -> PbaClientError:
        """The error of a stream that showed `shown`: worth another try if there is something newer to show."""
        if self.outdated(error, shown):
            return AbortedError("the token was renewed meanwhile", code=error.code)
        return error

    def _refresh(self, *, at_once: bool = False) -> None:
        with self._lock:
            now_s = self._clock()
            if now_s - self._looked_s < LOOK_EVERY_S and not at_once:
                return
            self._looked_s = now_s
            stamp = self._look()
            if stamp == self._stamp:
                return
            try:
                tls = read_tls(self._options.tls)
                token = self._options.token or read_token(self._options.token_file)
            except (OSError, ValueError):
                return  # in the middle of a change, or broken: the old ones stay, and the next look tries again
            self._stamp = stamp
            self._token = token
            if tls != self._tls:
                self._tls = tls
                self._generation += 1

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        files = self._options.tls
        paths = (files.ca, files.certificate, files.key) if isinstance(files, TlsFiles) else ()
        return tuple(_stamp(path) for path in (*paths, self._options.token_file) if path is not None)


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """As gRPC wants them."""
    return grpc.ssl_channel_credentials(tls.root_certificates, tls.private_key, tls.certificate_chain)


def is_local(target: str) -> bool:
    """Whether a target, or each address of one that names several, is on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    rest = target.removeprefix("dns:///").removeprefix("ipv4:").removeprefix("ipv6:")
    return all(map(_is_local_address, rest.split(",")))


def _is_local_address(address: str) -> bool:
    try:
        host = urlsplit(f"//{address}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_tls(given: Tls | TlsFiles | None) -> Tls | None:
    """The certificates themselves.

    Raises:
        ValueError: They are broken, or the key is not the certificate's.
        OSError: A file cannot be read.
    """
    if not isinstance(given, TlsFiles):
        return given
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # gRPC itself would tell of a fault only when it connects
    ca, certificate, key = (path.read_bytes() if path else None for path in (given.ca, given.certificate, given.key))
    try:
        if ca is not None:
            context.load_verify_locations(cadata=ca.decode())
        if given.certificate is not None:
            context.load_cert_chain(given.certificate, given.key, password="")  # or it would ask on the terminal
    except (ssl.SSLError, UnicodeDecodeError):
        raise ValueError("the certificates are broken, or the key is not that of the certificate") from None
    return Tls(ca, key, certificate, given.server_name)


def read_token(file: Path | None) -> str:
    """The token in a file; empty for no file. Raises `ValueError` or `OSError`."""
    if file is None:
        return ""
    with file.open("rb") as opened:
        content = opened.read(MAX_TOKEN_BYTES + 1).strip()
    if not content or len(content) > MAX_TOKEN_BYTES or not content.isascii() or b"\n" in content:
        raise ValueError(f"{file} holds no token")
    return content.decode()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
