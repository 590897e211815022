"""Real servers, one of each kind for a whole run; a test gets them empty. And what holds for every test."""

import pytest
from hypothesis import settings

from tests import servers

settings.register_profile("steady", deadline=None)  # a busy machine is no fault of the code under test
settings.load_profile("steady")


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
