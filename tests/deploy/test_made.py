"""What is made by code is what the code makes."""

import pytest

from tests.process import ROOT


def test_the_reference_of_the_contract_is_current():
    pytest.importorskip("grpc_tools", reason="comes with the dev extra")
    from docs.reference_page import page  # noqa: PLC0415 - only where the dev extra is

    assert (ROOT / "docs" / "reference.md").read_text() == page(), "make docs"


def test_dashboards_and_rules_are_current():
    pytest.importorskip("grafana_foundation_sdk", reason="comes with the dev extra")
    from deploy.generate.files import made  # noqa: PLC0415 - only where the dev extra is

    stale = [path for path, text in made().items() if (ROOT / "deploy" / path).read_text() != text]
    assert not stale, "python -m deploy.generate"
