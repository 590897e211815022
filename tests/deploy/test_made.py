"""What is made by code is what the code makes."""

from deploy.generate.files import made
from docs import metrics_page
from docs.reference_page import page
from tests.process import ROOT


def test_the_reference_of_the_contract_is_current():
    assert (ROOT / "docs" / "reference.md").read_text() == page(), "make docs"


def test_the_page_of_metrics_is_current_and_every_label_is_bounded():
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_page.page(), "make docs"


def test_dashboards_and_rules_are_current():
    stale = [path for path, text in made().items() if (ROOT / "deploy" / path).read_text() != text]
    assert not stale, "python -m deploy.generate"
