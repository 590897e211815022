"""What docs/integration.md shows is what is tested."""

import ast
import json
import re

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode

import pba_client
from pba_service.serving.status import TABLE
from tests.process import ROOT

PAGE = (ROOT / "docs/integration.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language):
    return [text for kind, text in BLOCKS if kind == language]


def test_the_go_client_shown_is_the_one_that_is_compiled():
    assert blocks("go") == [(ROOT / "tests/interop/go/main.go").read_text()]


@pytest.mark.parametrize("text", blocks("python"))
def test_python_examples_use_what_there_is(text):
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module == "pba_client"
            assert all(hasattr(pba_client, name.name) for name in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pba":
            assert hasattr(pba_client.Client, node.attr)


def test_the_errors_shown_are_those_that_are_sent():
    shown = {
        (status, reason)
        for status, reasons in re.findall(r"^  \| `([A-Z_]+)` \| (`[^|]+`) \|", PAGE, re.MULTILINE)
        for reason in re.findall(r"`([A-Z_]+)`", reasons)
    }
    assert shown == {(row.code.name, row.reason) for row in TABLE.values()}
    assert {StatusCode[status] for status, _ in shown}
    assert all(hasattr(error_details_pb2, name) for name in ("BadRequest", "ErrorInfo", "RetryInfo"))


def test_files_that_are_named_are_there():
    for path in re.findall(r"\]\(\.\./([^)]+)\)", PAGE):
        assert (ROOT / path).exists(), path
    json.loads((ROOT / "pba_client/service_config.json").read_text())
