"""Tools that deploying needs, and that not every machine has."""

import os
import shutil
import subprocess

import pytest


def tool(name):
    """The path of a program; skips where it is not installed, fails under `make deploy-check`, which wants them all."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed"
        if os.environ.get("DEPLOY_CHECK"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def run(*command, cwd=None):
    """What a command prints; fails with it where the command does."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
