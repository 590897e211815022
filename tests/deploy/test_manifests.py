"""Every overlay renders, fits Kubernetes' own schemas to the letter, and says nothing that PBA refuses."""

import re

import kubernetes_validate
import pytest
import yaml

from pba_service.settings import Settings
from tests.deploy.tools import run, tool
from tests.process import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = [f"overlays/{folder.name}" for folder in sorted((KUBERNETES / "overlays").iterdir())]
SCHEMAS = "1.34"
OPERATOR_KINDS = {"ServiceMonitor", "PrometheusRule"}
"""Of the Prometheus operator, whose schemas Kubernetes does not have."""


def rendered(folder):
    return list(yaml.safe_load_all(run(tool("kubectl"), "kustomize", str(KUBERNETES / folder))))


@pytest.fixture(scope="module", params=["agent", *OVERLAYS])
def resources(request):
    return rendered(request.param)


@pytest.fixture(scope="module", params=OVERLAYS)
def of_service(request):
    """The resources of a folder that has the service."""
    return rendered(request.param)


def test_every_resource_fits_its_schema_and_has_no_field_beside_it(resources):
    for resource in resources:
        if resource["kind"] not in OPERATOR_KINDS:
            kubernetes_validate.validate(resource, SCHEMAS, strict=True)


def test_no_two_resources_share_a_name(resources):
    names = [(resource["kind"], resource["metadata"]["name"]) for resource in resources]
    assert len(names) == len(set(names))


def test_no_container_runs_as_root_or_may_write_its_root(resources):
    for pod in pods(resources):
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False


def test_what_a_server_is_told_are_settings_that_pba_takes(of_service):
    maps = {r["metadata"]["name"]: r["data"] for r in of_service if r["kind"] == "ConfigMap"}
    seen = 0
    for pod in pods(of_service):
        for container in pod["containers"]:
            names = [source["configMapRef"]["name"] for source in container.get("envFrom", ())]
            told = {name: value for each in names for name, value in maps[each].items()}
            told |= {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}
            if not names:
                continue
            assert Settings.from_env({"HOME": "/data", **told})
            seen += 1
    assert seen


def test_what_is_selected_exists(resources):
    """Services, budgets, policies and monitors select labels that some pod, or service, carries."""
    labels = [
        r["spec"]["template"]["metadata"]["labels"]
        for r in resources
        if r["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}
    ]
    jobs = [r["spec"]["jobTemplate"]["spec"] for r in resources if r["kind"] == "CronJob"]
    labels += [job["template"]["metadata"].get("labels", {}) for job in jobs]
    services = [r["metadata"].get("labels", {}) for r in resources if r["kind"] == "Service"]
    for resource in resources:
        spec = resource.get("spec", {})
        if resource["kind"] == "Service":
            assert any(spec["selector"].items() <= some.items() for some in labels)
        elif resource["kind"] == "PodDisruptionBudget":
            assert any(spec["selector"]["matchLabels"].items() <= some.items() for some in labels)
        elif resource["kind"] == "NetworkPolicy":
            assert any(spec["podSelector"]["matchLabels"].items() <= some.items() for some in labels)
        elif resource["kind"] == "ServiceMonitor":
            assert any(spec["selector"]["matchLabels"].items() <= some.items() for some in services)


def test_the_grace_of_a_pod_holds_all_that_stopping_takes(of_service):
    [server] = [r for r in of_service if r["kind"] == "Deployment" and r["metadata"]["name"] == "pba"]
    [told] = [
        r["data"] for r in of_service if r["kind"] == "ConfigMap" and r["metadata"]["name"].startswith("pba-settings")
    ]
    pod = server["spec"]["template"]["spec"]
    [before_s] = re.findall(r"\d+", pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    drain_s = Settings.from_env({"HOME": "/data", **told}).drain_timeout_ms / 1000
    assert pod["terminationGracePeriodSeconds"] >= int(before_s) + drain_s + 10


def test_probes_that_overload_turns_away_take_no_replica_out(of_service):
    """gRPC turns calls away where too many wait, probes too: half of them, independently, is what must be borne."""
    [server] = [r for r in of_service if r["kind"] == "Deployment" and r["metadata"]["name"] == "pba"]
    [container] = server["spec"]["template"]["spec"]["containers"]
    for name, most in (("readinessProbe", 0.02), ("livenessProbe", 0.001)):
        if "grpc" in container[name]:  # the kubelet does not ask again within a period; `pba health` does
            assert 0.5 ** container[name]["failureThreshold"] < most


def test_no_manifest_takes_back_what_the_autoscaler_did(of_service):
    scaled = {r["spec"]["scaleTargetRef"]["name"] for r in of_service if r["kind"] == "HorizontalPodAutoscaler"}
    for resource in of_service:
        if resource["kind"] == "Deployment" and resource["metadata"]["name"] in scaled:
            assert "replicas" not in resource["spec"]


def test_redis_refuses_writes_before_its_pod_is_killed_for_memory(of_service):
    scripts = [r["data"]["redis.sh"] for r in of_service if "redis.sh" in (r.get("data") or {})]
    for script in scripts:
        [most_gb] = re.findall(r"--maxmemory (\d+)gb", script)
        [servers] = [r for r in of_service if r["kind"] == "StatefulSet"]
        container = next(one for one in servers["spec"]["template"]["spec"]["containers"] if one["name"] == "redis")
        # what is left is for rewriting the append-only file, and for the buffers of replicas
        assert 1.25 * int(most_gb) <= int(container["resources"]["limits"]["memory"].removesuffix("Gi"))


def pods(resources):
    for resource in resources:
        template = resource.get("spec", {}).get("template")
        if template and resource["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
            yield template["spec"]
        if resource["kind"] == "CronJob":
            yield resource["spec"]["jobTemplate"]["spec"]["template"]["spec"]
