"""The composition for one machine names files and settings that there are."""

import yaml

from pba_service.settings import Settings
from tests.process import ROOT

FILE = ROOT / "docker" / "compose.yaml"
SERVICES = yaml.safe_load(FILE.read_text())["services"]


def test_what_is_mounted_and_built_from_is_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (FILE.parent / source).exists(), source
        if "build" in service:
            assert (FILE.parent / service["build"]["context"] / service["build"]["dockerfile"]).exists()


def test_who_is_waited_for_says_how_it_is():
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy" and "build" not in SERVICES[name]:
                assert "healthcheck" in SERVICES[name], name


def test_pba_takes_its_settings():
    assert Settings.from_env({"HOME": "/data", **SERVICES["pba"]["environment"]}).redis_url
