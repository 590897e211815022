import pytest

from tests.integration.serving.harness import serve


@pytest.fixture
async def running():
    async with serve() as started:
        yield started
