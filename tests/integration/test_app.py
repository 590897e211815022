"""The composition root: what it is told, and what becomes of a history file."""

from datetime import UTC, datetime, timedelta

import pytest

from pba_client import AsyncClient, Sample
from pba_service.app import read_settings, running
from pba_service.domain.errors import DurabilityUnmetError
from pba_service.settings import SettingsError
from tests import servers


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:99999",
        "redis://:secret@h:6379/abc",
        "redis+sentinel://h:26379",
        "redis+cluster://h:6379/3",
    ],
)
def test_a_bad_redis_url_is_told_with_the_other_faults_and_without_its_password(url):
    with pytest.raises(SettingsError) as told:
        read_settings({"PBA_REDIS_URL": url, "PBA_MIN_STREAMS": "none", "HOME": "/"})
    assert sorted(fault.split("=")[0] for fault in told.value.faults) == ["PBA_MIN_STREAMS", "PBA_REDIS_URL"]
    assert "secret" not in str(told.value)


@pytest.fixture
def settings(redis_server, tmp_path):
    def make(**more):
        given = {
            "PBA_REDIS_URL": redis_server.url,
            "PBA_GRPC_PORT": "0",
            "PBA_METRICS_PORT": "0",
            "HOME": str(tmp_path),
        }
        return read_settings(given | more)

    return make


async def test_a_history_file_is_read_at_start_and_written_at_the_end(settings, redis_server, tmp_path):
    file = tmp_path / "history.jsonl"
    time = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    file.write_text(f'{{"link_id": "a", "measured_at": "{time.isoformat()}", "latency_ms": 20.5}}\n')
    async with running(settings(PBA_DATA_PATH=str(file))) as service:
        async with AsyncClient(f"127.0.0.1:{service.grpc_port}") as client:
            assert [row.latency_ms async for row in client.history("a")] == [20.5]
        file.unlink()
    assert "20.5" in file.read_text()
    assert not list(tmp_path.glob("*.kept"))


@pytest.mark.parametrize(
    "content", ["not json\n", '{"link_id": "a", "measured_at": "2001-01-01T00:00:00Z", "latency_ms": 1}\n']
)
async def test_what_could_not_be_read_is_kept(settings, tmp_path, content):
    file = tmp_path / "history.jsonl"
    file.write_text(content)
    async with running(settings(PBA_DATA_PATH=str(file))):
        pass
    assert file.read_text() == ""
    assert (tmp_path / "history.jsonl.kept").read_text() == content


@pytest.mark.parametrize("name", ["history.csv", ""])
def test_a_history_file_that_would_not_be_one_is_refused(settings, tmp_path, name):
    with pytest.raises(SettingsError, match="PBA_DATA_PATH"):
        settings(PBA_DATA_PATH=str(tmp_path / name))


async def test_a_redis_that_keeps_less_than_is_wanted_stops_the_start(settings):
    with pytest.raises(DurabilityUnmetError) as refused:
        async with running(settings(PBA_DURABILITY="always")):
            pass
    assert "append-only" in refused.value.reasons[0]


@pytest.mark.parametrize("wanted", ["memory", "everysec", "always"])
async def test_the_embedded_server_is_set_to_what_is_wanted(settings, wanted):
    with servers.short_folder() as folder:
        one = settings(PBA_REDIS_URL="", PBA_DURABILITY=wanted, PBA_DATA_DIR=str(folder / "d"), PBA_DRAIN_TIMEOUT="0s")
        async with running(one) as service, AsyncClient(f"127.0.0.1:{service.grpc_port}") as client:
            assert (await client.push(Sample("a", bandwidth_mbps=1.0))).stored == 1


def test_replicas_cannot_be_wanted_of_the_embedded_server(settings):
    with pytest.raises(SettingsError, match="PBA_REDIS_URL"):
        settings(PBA_REDIS_URL="", PBA_DURABILITY="replicated")
