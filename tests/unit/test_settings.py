"""Settings: documented defaults, every fault at once, nothing silently ignored."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.settings import SHIPPED_MODELS, Settings, SettingsError, variables
from pba_service.settings_page import configuration_markdown, described

ROOT = Path(__file__).parents[2]
HOME = {"HOME": "/home/someone"}
NAMES = [variable.name for variable in variables().values()]


def read(**environment):
    return Settings.from_env(HOME | environment)


def faults(**environment):
    with pytest.raises(SettingsError) as caught:
        read(**environment)
    for fault in caught.value.faults:
        assert fault in str(caught.value)
    return caught.value.faults


def test_the_documented_defaults():
    settings = read()
    assert settings.collect_interval_ms == 60_000
    assert settings.max_samples == 10_000
    assert settings.data_path is None
    assert settings.model_path == SHIPPED_MODELS
    assert settings.update_interval_ms == 60_000
    assert settings.confidence_threshold == 0.6
    assert settings.retrain_interval_ms == 24 * 3_600_000
    assert settings.training_data_days == 30
    assert (settings.min_streams, settings.max_streams) == (2, 256)
    assert (settings.min_buffer_bytes, settings.max_buffer_bytes) == (16_384, 1_048_576)
    assert (settings.grpc_host, settings.grpc_port) == ("127.0.0.1", 50_051)
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.1", 9_464)
    assert settings.redis_url is None
    assert settings.retention_ms == 30 * 86_400_000
    assert settings.ledger_retention_ms == 7 * 86_400_000
    assert settings.max_clock_skew_ms == 120_000
    assert settings.drain_timeout_ms == 10_000


def test_the_shipped_models_are_there():
    assert list(SHIPPED_MODELS.glob("*/manifest.json"))


CHANGED = {
    "PBA_COLLECT_INTERVAL": ("1m30s", 90_000),
    "PBA_MAX_SAMPLES": ("43200", 43_200),
    "PBA_RETENTION": ("24h", 86_400_000),
    "PBA_LEDGER_RETENTION": ("2h", 7_200_000),
    "PBA_MAX_CLOCK_SKEW": ("500ms", 500),
    "PBA_MAX_LINKS": ("5", 5),
    "PBA_DATA_PATH": ("~/samples.jsonl", Path.home() / "samples.jsonl"),
    "PBA_REDIS_URL": ("redis+sentinel://:pw@a:1,b:2/primary", "redis+sentinel://:pw@a:1,b:2/primary"),
    "PBA_DURABILITY": ("everysec", "everysec"),
    "PBA_REPLICAS": ("2", 2),
    "PBA_STORE_TIMEOUT": ("500ms", 500),
    "PBA_MAX_STALENESS": ("0s", 0),
    "PBA_DATA_DIR": ("/var/lib/pba", Path("/var/lib/pba")),
    "PBA_MODEL_PATH": ("/models/x.onnx", Path("/models/x.onnx")),
    "PBA_MODEL_RELOAD": ("register", "register"),
    "PBA_EXPERIMENT_DECISIONS": ("manual", "manual"),
    "PBA_EXPERIMENT_ERROR_RATE": ("0.01", 0.01),
    "PBA_EXPERIMENT_MAX_DURATION": ("48h", 172_800_000),
    "PBA_MODEL_SHARING": ("folder", "folder"),
    "PBA_UPDATE_INTERVAL": ("5s", 5_000),
    "PBA_CONFIDENCE_THRESHOLD": ("0", 0.0),
    "PBA_CATCH_UP_SAMPLES": ("10", 10),
    "PBA_RETRAIN_INTERVAL": ("168h", 604_800_000),
    "PBA_RETRAIN_DRIFT": ("0.5", 0.5),
    "PBA_RETRAIN_EFFORT": ("0.1", 0.1),
    "PBA_TRAINING_DATA_DAYS": ("7", 7),
    "PBA_MIN_STREAMS": ("1", 1),
    "PBA_MAX_STREAMS": ("2", 2),
    "PBA_MIN_BUFFER": ("4096", 4_096),
    "PBA_MAX_BUFFER": ("16777216", 16_777_216),
    "PBA_GRPC_HOST": ("::1", "::1"),
    "PBA_GRPC_PORT": ("0", 0),
    "PBA_WORKERS": ("2", 2),
    "PBA_MAX_SUBSCRIBERS": ("1", 1),
    "PBA_MAX_WAITING": ("512", 512),
    "PBA_LATENCY_TARGET": ("0s", 0),
    "PBA_DRAIN_TIMEOUT": ("0s", 0),
    "PBA_MAX_CONNECTION_AGE": ("5m", 300_000),
    "PBA_METRICS_HOST": ("localhost", "localhost"),
    "PBA_METRICS_PORT": ("65535", 65_535),
    "PBA_METRICS_MAX_LINKS": ("0", 0),
    "PBA_PORTS_FILE": ("ports.json", Path("ports.json")),
    "PBA_LOG_LEVEL": ("DEBUG", "debug"),
    "PBA_LOG_FORMAT": ("json", "json"),
    "PBA_TLS_CERT": ("/tls/other.crt", Path("/tls/other.crt")),
    "PBA_TLS_KEY": ("/tls/other.key", Path("/tls/other.key")),
    "PBA_TLS_CLIENT_CA": ("/tls/ca.crt", Path("/tls/ca.crt")),
    "PBA_CALLERS": ("/other.toml", Path("/other.toml")),
    "PBA_JWKS": ("/other.json", Path("/other.json")),
    "PBA_JWT_ISSUER": ("https://other.example", "https://other.example"),
    "PBA_JWT_AUDIENCE": ("other", "other"),
    "PBA_INSECURE": ("TRUE", True),
    "PBA_METRICS_OPEN": ("true", True),
    "PBA_CALLER_CALLS": ("5", 5),
    "PBA_CALLER_SAMPLES": ("6", 6),
    "PBA_CALLER_STREAMS": ("7", 7),
    "PBA_CALLER_LINKS": ("8", 8),
}

TOGETHER = {
    "PBA_TLS_CERT": "/tls/a.crt",
    "PBA_TLS_KEY": "/tls/a.key",
    "PBA_CALLERS": "/callers.toml",
    "PBA_JWKS": "/jwks.json",
    "PBA_JWT_ISSUER": "https://issuer.example",
    "PBA_JWT_AUDIENCE": "pba",
}
"""What must be set for some others to be allowed."""


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_works_and_changes_its_own_setting_only(name):
    text, value = CHANGED[name]
    default, changed = read(**TOGETHER), read(**TOGETHER | {name: text})
    differing = {attribute for attribute in variables() if getattr(default, attribute) != getattr(changed, attribute)}
    [attribute] = differing
    assert variables()[attribute].name == name
    assert getattr(changed, attribute) == value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["", "  "])
def test_set_to_nothing_counts_as_not_set(name, text):
    assert read(**{name: text}) == read()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PBA_COLLECT_INTERVAL", "60"),
        ("PBA_COLLECT_INTERVAL", "0s"),
        ("PBA_COLLECT_INTERVAL", "2h"),
        ("PBA_COLLECT_INTERVAL", "a minute"),
        ("PBA_COLLECT_INTERVAL", "99999999999999999999h"),
        ("PBA_MAX_CLOCK_SKEW", "-1s"),
        ("PBA_MAX_SAMPLES", "10_000"),
        ("PBA_MAX_SAMPLES", "1e4"),
        ("PBA_MAX_SAMPLES", "--5"),
        ("PBA_MAX_SAMPLES", "٣٠٠"),
        ("PBA_MAX_SAMPLES", "9" * 5000),
        ("PBA_CONFIDENCE_THRESHOLD", "60%"),
        ("PBA_CONFIDENCE_THRESHOLD", "1.01"),
        ("PBA_CONFIDENCE_THRESHOLD", "nan"),
        ("PBA_RETENTION", "48h-23h"),
        ("PBA_RETRAIN_INTERVAL", "1ns"),
        ("PBA_GRPC_PORT", "65536"),
        ("PBA_GRPC_HOST", "a b"),
        ("PBA_GRPC_HOST", "http://x"),
        ("PBA_REDIS_URL", "localhost:6379"),
        ("PBA_REDIS_URL", "http://localhost"),
        ("PBA_REDIS_URL", "redis://"),
        ("PBA_REDIS_URL", "redis://[::1"),
        ("PBA_MODEL_PATH", "a\0b"),
        ("PBA_LOG_LEVEL", "loud"),
        ("PBA_MIN_STREAMS", "0"),
        ("PBA_MIN_BUFFER", "4095"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(name, text):
    [fault] = faults(**{name: text})
    assert fault.startswith(f"{name}=")
    assert "must be" in fault


def fault_of(kind, text):
    try:
        kind.parse(text)
    except ValueError as fault:
        return str(fault)
    return None


@pytest.mark.parametrize("kind", {type(v.kind): v.kind for v in variables().values()}.values())
@given(text=st.text(max_size=30) | st.from_regex(r"[-+0-9a-z./:@]{1,12}"))
def test_no_text_whatever_is_more_than_a_fault(kind, text):
    fault = fault_of(kind, text)
    assert fault is None or "must be" in fault or "home folder" in fault


def test_all_faults_are_told_at_once():
    told = faults(
        PBA_MAX_SAMPLES="many", PBA_GRPC_PORT="-1", PBA_MIN_STREAMS="9", PBA_MAX_STREAMS="8", PBA_MAX_SAMPLE="5"
    )
    assert [fault.split("=")[0].split(" ")[0].rstrip(":") for fault in told] == [
        "PBA_MAX_SAMPLES",
        "PBA_GRPC_PORT",
        "PBA_MIN_STREAMS",
        "PBA_MAX_SAMPLE",
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("PBA_MODEL_PAHT", "did you mean PBA_MODEL_PATH?"),
        ("PBA_METRIC_PORT", "did you mean PBA_METRICS_PORT?"),
        ("PBA_ZZZZZZ", "is not a setting"),
    ],
)
def test_an_unknown_name_stops_the_start(name, told):
    [fault] = faults(**{name: "1"})
    assert fault.startswith(f"{name}: is not a setting")
    assert fault.endswith(told)


def test_what_is_not_ours_does_not_matter():
    assert read(PATH="/bin", XPBA_FOO="1", PBA="x", pba_foo="1") == read()
    assert read(PBA_TARGET="10.0.0.1:50051") == read()


def test_what_kubernetes_sets_beside_a_service_called_pba_does_not_matter():
    links = {
        "PBA_SERVICE_HOST": "10.3.0.7",
        "PBA_SERVICE_PORT": "50051",
        "PBA_SERVICE_PORT_GRPC": "50051",
        "PBA_PORT": "tcp://10.3.0.7:50051",
        "PBA_PORT_50051_TCP": "tcp://10.3.0.7:50051",
        "PBA_PORT_50051_TCP_PROTO": "tcp",
        "PBA_PORT_50051_TCP_PORT": "50051",
        "PBA_PORT_50051_TCP_ADDR": "10.3.0.7",
        "PBA_REDIS_PORT": "tcp://10.3.0.8:6379",
    }
    assert read(**links) == read()
    assert faults(PBA_PORT="50051")[0].startswith("PBA_PORT: is not a setting")


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"PBA_MIN_STREAMS": "300"}, "PBA_MIN_STREAMS (300) must not be more than PBA_MAX_STREAMS (256)"),
        ({"PBA_MAX_BUFFER": "8192"}, "PBA_MIN_BUFFER (16,384) must not be more than PBA_MAX_BUFFER (8,192)"),
        ({"PBA_TLS_CERT": "a"}, "PBA_TLS_CERT and PBA_TLS_KEY come together"),
        ({"PBA_JWKS": "a", "PBA_JWT_ISSUER": "b"}, "PBA_JWKS, PBA_JWT_ISSUER and PBA_JWT_AUDIENCE come together"),
        (
            {"PBA_TLS_CERT": "a", "PBA_TLS_KEY": "b", "PBA_TLS_CLIENT_CA": "c"},
            "PBA_TLS_CLIENT_CA needs PBA_CALLERS: a certificate alone does not say what its owner may do",
        ),
        ({"PBA_GRPC_PORT": "9464"}, "PBA_GRPC_PORT and PBA_METRICS_PORT are both 9464 on 127.0.0.1"),
    ],
)
def test_settings_that_contradict_each_other_are_told(environment, told):
    assert faults(**environment) == (told,)


TLS = {"PBA_TLS_CERT": "a", "PBA_TLS_KEY": "b"}


@pytest.mark.parametrize("name", ["PBA_GRPC_HOST", "PBA_METRICS_HOST"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "pba.example", "127.0.0.1.evil.example"])  # noqa: S104 - only read
def test_beyond_this_machine_only_guarded_or_expressly_not(name, host):
    for environment in ({}, TLS, {"PBA_CALLERS": "c"}):
        [fault] = faults(**environment, **{name: host})
        assert fault.startswith(f"{name}={host} is reached from other machines")
    for environment in (TLS | {"PBA_CALLERS": "c"}, {"PBA_INSECURE": "true"}):
        assert read(**environment, **{name: host})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_this_machine_nothing_is_asked(host):
    assert read(PBA_GRPC_HOST=host, PBA_METRICS_HOST=host)


def test_open_metrics_open_nothing_else():
    assert read(PBA_METRICS_HOST="::", PBA_METRICS_OPEN="true")
    assert faults(PBA_GRPC_HOST="::", PBA_METRICS_OPEN="true")


def test_two_free_ports_are_no_contradiction():
    assert read(PBA_GRPC_PORT="0", PBA_METRICS_PORT="0").grpc_port == 0


def test_a_secret_is_shown_nowhere():
    [fault] = faults(PBA_REDIS_URL="rediz://user:hunter2@host")
    assert "hunter2" not in fault
    for url in ("redis://user:hunter2@host:1/0", "redis://:hunter2@host", "redis://host?password=hunter2"):
        shown = dict(described(read(PBA_REDIS_URL=url)))["PBA_REDIS_URL"]
        assert "hunter2" not in shown
        assert "host" in shown


def test_everything_in_force_can_be_shown():
    shown = dict(described(read(PBA_RETENTION="36h")))
    assert list(shown) == NAMES
    assert shown["PBA_RETENTION"] == "36h"
    assert shown["PBA_DATA_PATH"] == "off"
    assert shown["PBA_DATA_DIR"] == "/home/someone/.local/state/pba"


@pytest.mark.parametrize(
    ("state_home", "folder"),
    [("/state", "/state/pba"), ("relative", "/home/someone/.local/state/pba"), ("", "/home/someone/.local/state/pba")],
)
def test_data_goes_where_xdg_says(state_home, folder):
    assert read(XDG_STATE_HOME=state_home).data_dir == Path(folder)


def test_the_page_of_settings_is_current():
    assert (ROOT / "docs" / "configuration.md").read_text() == configuration_markdown(), "run `make docs`"
