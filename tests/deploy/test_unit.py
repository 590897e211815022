"""The agent's systemd unit, as systemd itself reads it."""

import re
import subprocess

from tests.deploy.tools import run, tool
from tests.process import ROOT

UNIT = ROOT / "deploy" / "systemd" / "pba-agent.service"
MOST_EXPOSED = 3.0
"""Of 10, as `systemd-analyze security` counts; without a sandbox a service has 9.6."""


def test_systemd_takes_every_line_of_the_unit():
    # what it does not understand it tells on stderr, and succeeds
    command = [tool("systemd-analyze"), "verify", "--man=no", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert UNIT.name not in done.stdout + done.stderr


def test_the_unit_is_shut_in():
    said = run(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", str(UNIT))
    exposed = re.search(r"Overall exposure level for pba-agent\.service: ([\d.]+)", said)
    assert exposed is not None
    assert float(exposed[1]) <= MOST_EXPOSED
