"""The store over TLS: in front of a real server stands one that ends TLS and wants a certificate of its callers."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import numpy as np
import pytest

from pba_service.domain.errors import StoreUnavailableError
from pba_service.domain.samples import LinkInfo, one_link_batch
from pba_service.storage.redis_store import RedisStore
from tests.identities import Authority

NOW_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def authority():
    return Authority()


async def _pipe(source, sink):
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    except (OSError, asyncio.CancelledError):
        pass
    finally:
        sink.close()


@asynccontextmanager
async def over_tls(redis_server, folder, authority, pair):
    """The port behind which the server is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair.write(folder, "server"))
    context.load_verify_locations(authority.write(folder, "clients"))
    context.verify_mode = ssl.CERT_REQUIRED
    pipes = set()

    async def serve(reader, writer):
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(redis_server.folder / "s.sock"))
        for source, sink in ((reader, inner_writer), (inner_reader, writer)):
            task = asyncio.create_task(_pipe(source, sink))
            pipes.add(task)
            task.add_done_callback(pipes.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for pipe in list(pipes):
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)


@pytest.fixture
def url(authority, tmp_path):
    """Makes URLs of a port; without what is set to nothing."""
    folder = tmp_path / "client"
    folder.mkdir()
    certificate, key = authority.pair("pba").write(folder)
    known = {"ssl_ca_certs": authority.write(folder), "ssl_certfile": certificate, "ssl_keyfile": key}

    def url(port, scheme="rediss", **changed):
        query = "&".join(f"{name}={value}" for name, value in {**known, **changed}.items() if value)
        return f"{scheme}://127.0.0.1:{port}{f'?{query}' if scheme == 'rediss' else ''}"

    return url


@asynccontextmanager
async def stored_at(url):
    store = RedisStore.connect(url, max_samples=100, retention_ms=3_600_000, clock=lambda: NOW_MS, timeout_s=2.0)
    try:
        yield store
    finally:
        await store.close()


async def refused(url):
    async with stored_at(url) as store:
        with pytest.raises(StoreUnavailableError):
            await store.check()


async def test_samples_go_over_tls_with_certificates_on_both_sides(redis_server, authority, url, tmp_path):
    async with over_tls(redis_server, tmp_path, authority, authority.pair()) as port, stored_at(url(port)) as store:
        await store.check()
        batch = one_link_batch(LinkInfo("a"), [NOW_MS], np.ones((1, 4), np.float32))
        assert (await store.put(batch)).outcomes.tolist() == [0]
        assert await store.link_infos(["a"]) == [LinkInfo("a")]


async def test_who_is_not_who_it_should_be_is_not_talked_to(redis_server, authority, url, tmp_path):
    async with over_tls(redis_server, tmp_path, authority, authority.pair()) as port:
        other = Authority()
        await refused(url(port, ssl_ca_certs=other.write(tmp_path, "other")))
        await refused(url(port, ssl_ca_certs=None))
        await refused(url(port, ssl_certfile=None, ssl_keyfile=None))
        certificate, key = other.pair("pba").write(tmp_path, "stranger")
        await refused(url(port, ssl_certfile=certificate, ssl_keyfile=key))
        await refused(url(port, scheme="redis"))


async def test_another_hosts_certificate_is_refused(redis_server, authority, url, tmp_path):
    pair = authority.pair(dns=["elsewhere.example"], ips=())
    async with over_tls(redis_server, tmp_path, authority, pair) as port:
        await refused(url(port))
