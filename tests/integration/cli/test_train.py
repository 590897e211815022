"""`pba train` told what it cannot do."""

import pytest

from pba_service.cli.app import run
from pba_service.cli.told import ExitCode


@pytest.mark.parametrize(
    ("options", "told", "code"),
    [
        (["--parent", "{0}"], "cannot go on from {0}: manifest.json: No such file or directory", ExitCode.USAGE),
        (["--output", "{0}/file/m"], "{0}/file/m: Not a directory", ExitCode.USAGE),
        (["--data", "{0}/head.csv"], "head.csv holds no measurement", ExitCode.NOT_YET),
        (["--seed", "99999999999"], "seed must be between 0 and 4294967295", ExitCode.USAGE),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_no_traceback(tmp_path, capfd, options, told, code):
    (tmp_path / "file").touch()
    (tmp_path / "head.csv").write_text("timestamp,link_id,bandwidth_mbps\n")
    given = [option.format(tmp_path) for option in options]
    assert run(["train", "--output", str(tmp_path / "m"), *given]) == code
    assert f"pba: {told.format(tmp_path)}" in capfd.readouterr().err
