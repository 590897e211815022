"""What the accuracy benchmark can be told."""

import sys

import pytest

from benchmarks.accuracy.__main__ import WARM_UP, main


def test_samples_that_would_all_go_unscored_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["accuracy", "--samples", str(WARM_UP), "--model", "/nowhere"])
    with pytest.raises(SystemExit):
        main()
    assert f"samples must be more than the {WARM_UP} that are not scored" in capsys.readouterr().err
