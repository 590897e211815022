"""What the console's page is told, of a service whose store is made up."""

import numpy as np

from pba_service.console import views
from pba_service.domain.samples import LinkInfo, Series
from tests.integration.serving.harness import NOW_MS, FakeService


async def test_a_link_that_expires_while_a_page_is_made_does_not_take_the_others_with_it():
    service = FakeService()
    service.infos = {link_id: LinkInfo(link_id) for link_id in ("a", "gone")}
    service.histories = {"a": [Series(np.array([NOW_MS]), np.array([[5, np.nan, np.nan, np.nan]], np.float32))]}
    page = await views.overview(service, prefix="", after="")
    assert [(link["link_id"], link["line"]["values"]) for link in page["links"]] == [("a", [5.0]), ("gone", [])]
