"""Real servers, one of each kind for a whole run; a test gets them empty."""

import pytest

from tests import servers


@pytest.fixture(scope="session")
def _standalone():
    with servers.standalone() as server:
        yield server


@pytest.fixture(scope="session")
def _cluster():
    with servers.cluster() as group:
        yield group


@pytest.fixture
def redis_server(_standalone):
    """A `servers.RunningServer` on a unix socket."""
    _standalone.client.flushall()
    return _standalone


@pytest.fixture
def redis_cluster(_cluster):
    """A `servers.ClusterGroup`."""
    _cluster.flush()
    return _cluster
