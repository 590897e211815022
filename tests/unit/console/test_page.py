"""The page's script, used without a browser: as much of one as it needs is `page.mjs`."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.process import ROOT

STATIC = ROOT / "pba_service" / "console" / "static"


def test_what_is_asked_for_with_a_control_is_shown_and_what_is_being_typed_stays(tmp_path):
    node = shutil.which("node") or pytest.skip("node is not installed")
    for script in (*STATIC.glob("*.js"), Path(__file__).with_name("page.mjs")):
        shutil.copy(script, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = subprocess.run([node, "page.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    begun, next_page, typing, filtered = map(json.loads, done.stdout.splitlines())
    assert begun == ["api/links?prefix=&after=", ["Next page"], True]
    assert next_page == ["api/links?prefix=&after=a", ["First page", "Next page"], True]
    assert typing == ["api/links?prefix=&after=a", ["First page", "Next page"], False], "nor does it say that it is new"
    assert filtered == ["api/links?prefix=fra&after=", [], True]
