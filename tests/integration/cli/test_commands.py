"""Every command against a scripted service: what it prints, where, and its exit code."""

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from pba_service.cli.app import run
from pba_service.cli.told import ExitCode
from tests.integration.client.scripted_service import (
    SHORT_HISTORY,
    STORE_AWAY,
    T0_S,
    UNKNOWN_LINK,
    ServerThread,
    pb,
    prediction_message,
    status,
)
from tests.process import ROOT

COMMANDS = (
    *(
        "serve",
        "check-config",
        "health",
        "push",
        "replay",
        "simulate",
        "import",
        "export",
        "watch",
        "predict",
        "params",
        "transfer",
    ),
    *("explain", "link", "links", "history", "ledger", "models", "train"),
)


@pytest.fixture
def server():
    thread = ServerThread()
    yield thread
    thread.close()


@pytest.fixture
def pba(server, capfd):
    """Runs a command against the scripted service; returns its exit code, output and errors."""

    def call(*arguments, target=server.target):
        code = run([*map(str, arguments), *(["--target", target] if target else [])])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def csv_file(folder, *rows, header="timestamp,link_id,bandwidth_mbps"):
    file = folder / "m.csv"
    file.write_text("\n".join([header, *rows]))
    return file


def test_predict(pba):
    code, out, err = pba("predict", "a")
    assert (code, err) == (ExitCode.OK, "")
    assert "2025-06-15 15:21:40 UTC, 15 min after" in out
    assert "90.0 Mbit/s" in out
    assert "90 %: 80.0 to 100" in out
    assert "latency      not measured" in out
    assert "75%" in out


def test_predict_as_json(pba):
    code, out, _ = pba("predict", "a", "--json")
    answer = json.loads(out)
    assert code == ExitCode.OK
    assert (answer["bandwidth_mbps"], answer["latency_ms"], answer["horizon_s"]) == (90.0, None, 900.0)
    assert (answer["source"], answer["valid_until"]) == ("combined", "2025-06-15T15:21:40Z")


def test_params(pba):
    code, out, _ = pba("params", "a", "--streams", 4, "--congestion", "bbr", "--memory", 1_000_000)
    assert code == ExitCode.OK
    for text in ("change over", "streams      6", "128 KiB each", "defaults", "unknown link", "pacing       none"):
        assert text in out


def test_transfer(pba):
    code, out, _ = pba("transfer", "--bytes", "40G", "--links", "a,nowhere,b", "--deadline", "10m")
    assert code == ExitCode.OK
    lines = out.splitlines()
    assert lines[1].split()[0] == "a"
    assert lines[2].startswith("* b")
    for text in ("40.0 s", "1.5 min", "> 30 d", "75%"):
        assert text in lines[2]
    assert "unknown" in lines[3]
    assert lines[-1].startswith("best: b at ")


def test_transfer_as_json(pba):
    code, out, _ = pba("transfer", "--bytes", "1Gi", "--links", "a,nowhere", "--json")
    answer = json.loads(out)
    assert code == ExitCode.OK
    assert answer["best"]["completion_p50_s"] == 90
    assert answer["best"]["completion_p10_s"] == 1
    assert list(answer["errors"]) == ["nowhere"]


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (UNKNOWN_LINK, ExitCode.NOT_YET, "pba: link 'nowhere' is unknown\n"),
        (SHORT_HISTORY, ExitCode.NOT_YET, "pba: link 'young' has 3 of 10; try again in 420 s\n"),
        (
            status(grpc.StatusCode.INVALID_ARGUMENT, "link_id: is too long"),
            ExitCode.USAGE,
            "pba: link_id: is too long\n",
        ),
        (status(grpc.StatusCode.INTERNAL, "internal error 4711"), ExitCode.FAILED, "pba: internal error 4711\n"),
    ],
)
def test_refusals_are_one_line_and_a_code(server, pba, fault, code, text):
    server.service.fault("Predict", fault)
    assert pba("predict", "x") == (code, "", text)


def test_a_service_whose_store_is_away(server, pba):
    server.service.pushback_ms = 1
    server.service.fault("Predict", *[STORE_AWAY] * 5)
    code, _, err = pba("predict", "x")
    assert code == ExitCode.UNAVAILABLE
    assert err.startswith("pba: the service is not available: the store is unavailable")


def test_nobody_there(pba):
    code, out, err = pba("predict", "x", target="127.0.0.1:1")
    assert (code, out) == (ExitCode.UNAVAILABLE, "")
    assert err == "pba: no service at 127.0.0.1:1: Connection refused\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["predict"], "missing argument 'LINK'; see pba predict --help"),
        (["nosuch"], "no such command 'nosuch'"),
        (["params", "a", "--max-streams", "0"], "'--max-streams'"),
        (["transfer", "--bytes", "many", "--links", "a"], "no size such as 40G"),
        (["transfer", "--bytes", "0", "--links", "a"], "no size such as 40G"),
        (["history", "a", "--start", "noon"], "'noon' is no duration"),
        (["history", "a", "--start", "999999d"], "outside the years 1 to 9999"),
        (["params", "a", "--streams", "5000000000"], "'--streams'"),
        (["params", "a", "--max-buffer", "5000000000"], "'--max-buffer'"),
        (["params", "a", "--buffer", "5000000000"], "'--buffer'"),
        (["params", "a", "--probes", "5000000000"], "'--probes'"),
        (["params", "a", "--memory", "99999999999999999999"], "'--memory'"),
        (["transfer", "--bytes", "40G", "--links", "a", "--deadline", "9999999d"], "outside the years 1 to 9999"),
        (["transfer", "--bytes", "40G", "--links", "a", "--within", "9999999d"], "outside the years 1 to 9999"),
        (["simulate", "x.jsonl", "--cadence", "0.0001s"], "the cadence is at least 1 ms"),
        (["simulate", "x.jsonl", "--span", "999999999d"], "--span: at most 3660d"),
        (["links", "--target", ""], "the target is empty: give host:port"),
        (["links", "--target", "127.0.0.1:99999"], "the target 127.0.0.1:99999 names a port above 65535"),
        (["watch", "--target", "dns:///pba:" + "9" * 5000], "names a port above 65535"),
        (["backtest", os.devnull, "--collect-interval", "inf"], "'--collect-interval'"),
        (["evaluate", "--data", os.devnull, "--collect-interval", "1e300"], "'--collect-interval'"),
        (["train", "--output", "x", "--collect-interval", "inf"], "'--collect-interval'"),
        (["predict", os.fsdecode(b"\xff")], "is no UTF-8 text"),
        (["push", "/no/such/file.csv"], "does not exist"),
        (["replay", "/no/such/file.csv"], "does not exist"),
        (["simulate"], "give a FILE to write, or --push"),
        (["simulate", "x.jsonl", "--profile", "warp"], "there is no profile warp"),
        (["simulate", "/no/such/folder/x.jsonl"], "No such file or directory"),
    ],
)
def test_wrong_usage_is_one_line(pba, arguments, text):
    code, out, err = pba(*arguments, target="")
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("pba: ")
    assert err.count("\n") == 1
    assert text in err


def test_a_report_without_what_draws_it_is_told_before_the_work(pba, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    file = csv_file(tmp_path, f"{T0_S},a,1")
    code, out, err = pba("backtest", file, "--report", tmp_path / "report.html", target="")
    assert (code, out, err) == (ExitCode.USAGE, "", "pba: a report needs matplotlib: pip install 'pba[train]'\n")


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="training needs the extra named train")
def test_a_full_disk_behind_the_output_is_told_in_one_line(server):
    with Path("/dev/full").open("w") as full, command(server, "history", "a", stdout=full) as process:
        assert process.communicate()[1] == "pba: the output cannot be written: No space left on device\n"
    assert process.returncode == ExitCode.FAILED


def test_help_that_cannot_be_written(server):
    with Path("/dev/full").open("w") as full, command(server, "predict", "--help", stdout=full) as process:
        assert process.communicate()[1] == "pba: the output cannot be written: No space left on device\n"
    assert process.returncode == ExitCode.FAILED
    unread, written = os.pipe()
    os.close(unread)
    with os.fdopen(written, "w") as gone, command(server, "predict", "--help", stdout=gone) as process:
        assert process.communicate()[1] == ""
    assert process.returncode == ExitCode.OK


def test_every_command_has_help(capfd):
    assert run(["--help"]) == ExitCode.OK
    overview = capfd.readouterr().out
    for command in COMMANDS:
        assert f" {command} " in overview
        assert run([command, "--help"]) == ExitCode.OK
        assert "Usage: pba" in capfd.readouterr().out


def test_links_history_ledger_link_and_explain(server, pba):
    code, out, _ = pba("links")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["l0", "l1", "l2", "l3", "l4"])
    code, out, _ = pba("links", "--json")
    assert [json.loads(line)["sample_count"] for line in out.splitlines()] == [0, 1, 2, 3, 4]
    code, out, _ = pba("history", "a")
    assert len(out.splitlines()) == 5
    code, out, _ = pba("ledger", "a")
    assert "1 predictions, 100% hits; mean absolute errors: bandwidth 10.0 Mbit/s" in out
    code, out, _ = pba("link", "a")
    assert "bandwidth  off by 1.50 Mbit/s over 2 predictions; model 100%" in out
    assert "jitter" not in out
    code, out, _ = pba("explain", "a")
    assert "+10.0 Mbit/s by latency_ms, 3 slots before" in out
    assert "25% median_10: 88.0 Mbit/s" in out
    for command in ("history", "ledger", "link", "explain"):
        code, out, _ = pba(command, "a", "--json")
        assert code == ExitCode.OK
        assert all(json.loads(line) for line in out.splitlines())


@pytest.mark.parametrize("command", [["models"], ["models", "list"]])
def test_models_are_listed(pba, command):
    code, out, _ = pba(*command)
    assert code == ExitCode.OK
    assert "1.2.3  trained 2025-06-15 15:06:40 UTC  active, serving on 2 of 2" in out
    assert "1.3.0  trained at an unknown time  published" in out
    assert "active 1.2.3, before it 1.2.2 (revision 7)" in out
    assert json.loads(pba(*command, "--json")[1].splitlines()[0])["scores"][0]["mae_ratio"] == 1.0


def test_who_may_not_see_the_state_sees_the_models(server, pba):
    denied = status(grpc.StatusCode.PERMISSION_DENIED, "takes the role admin")
    server.service.fault("GetModelState", denied)
    code, out, _ = pba("models")
    assert (code, out) == (
        ExitCode.OK,
        "1.2.3  trained 2025-06-15 15:06:40 UTC  serving\n1.3.0  trained at an unknown time  published\n",
    )


def test_a_model_is_shown(pba):
    code, out, _ = pba("models", "show", "1.2.3")
    assert code == ExitCode.OK
    assert "pba_lstm 1.2.3, serving" in out
    assert "made from 1.2.2" in out
    assert "trained on 500 measurements of 5 links, 2025-06-15 15:06:40 UTC, fingerprint abababababab" in out
    assert "error relative to the last value, latency_ms: pba_lstm 0.750, last_value 1.000" in out
    assert json.loads(pba("models", "show", "1.2.3", "--json")[1])["parent_version"] == "1.2.2"
    code, out, err = pba("models", "show", "x")
    assert (code, out, err) == (ExitCode.FAILED, "", "pba: there is no model 'x'\n")


def test_models_are_changed(pba):
    assert pba("models", "activate", "1.3.0")[1] == "active 1.3.0, before it 1.2.3, 1.2.2 (revision 7)\n"
    assert pba("models", "rollback", "--from", "1.3.0")[1] == "active 1.2.3, before it 1.2.2 (revision 7)\n"
    assert (
        "  region eu: 1.3.0, then 1.2.3\n"
        in pba("models", "pin", "1.3.0", "1.2.3", "--by", "region", "--value", "eu")[1]
    )
    assert "region" not in pba("models", "unpin", "--by", "region", "--value", "eu")[1]
    assert "1.2.3, pinned" in pba("models", "pin")[1]
    assert json.loads(pba("models", "unpin", "--json")[1])["held"] is False
    assert pba("models", "activate")[0] == ExitCode.USAGE
    assert pba("models", "pin", "1.3.0", "--by", "colour")[0] == ExitCode.USAGE


def test_replicas_are_listed(pba):
    code, out, _ = pba("models", "replicas")
    assert code == ExitCode.OK
    assert re.search("host-1  1.2.3  revision 7, up [0-9]+ [a-z]+(, answering)?\n", out)
    assert "  1.3.0 refused: its golden windows disagree" in out
    assert json.loads(pba("models", "replicas", "--json")[1].splitlines()[0])["answering"] is True


def test_health(server, pba):
    assert pba("health") == (ExitCode.OK, "SERVING\n", "")
    server.set_health(serving=False)
    code, out, err = pba("health")
    assert (code, out) == (ExitCode.UNAVAILABLE, "NOT_SERVING\n")
    assert "is not serving" in err


def test_push_keeps_what_is_good_and_tells_the_rest(server, pba, tmp_path):
    file = csv_file(tmp_path, f"{T0_S},a,1", f"{T0_S},a,fast", f"{T0_S + 60},b,2")
    code, _, err = pba("push", file)
    assert code == ExitCode.FAILED
    assert f"{file}: row 3: bandwidth_mbps: 'fast' is no number\n" in err
    assert "stored 2, replaced 0, already there 0\n" in err
    assert len(server.service.stored) == 2
    code, _, err = pba("push", file, "--strict")
    assert code == ExitCode.USAGE
    assert err == f"pba: {file}: row 3: bandwidth_mbps: 'fast' is no number\n"


def test_push_tells_what_the_service_refused(server, pba, tmp_path):
    server.service.fault("PushSamples", status(grpc.StatusCode.INVALID_ARGUMENT, "all of them are too old"))
    code, _, err = pba("push", csv_file(tmp_path, f"{T0_S},a,1", f"{T0_S},b,2"))
    assert code == ExitCode.FAILED
    assert "refused 2 (2 x all of them are too old)" in err


def test_replay_at_once(server, pba, tmp_path):
    file = csv_file(tmp_path, *(f"{T0_S + 60 * i},a,{i}" for i in range(100)))
    code, _, err = pba("replay", file, "--speed", 0, "--prefix", "re/", "--max-age", "30m")
    assert code == ExitCode.OK
    times = sorted(time_ms for _, time_ms in server.service.stored)
    assert {link for link, _ in server.service.stored} == {"re/a"}
    assert {after - before for before, after in pairwise(times)} == {60_000}
    assert abs(times[-1] / 1000 - datetime.now(UTC).timestamp()) < 30
    assert "samples would be too old and are left out" in err


def test_a_replay_that_leaves_rows_out_says_so_at_its_end(server, pba, tmp_path):
    file = csv_file(tmp_path, f"{T0_S},a,1", "yesterday,a,2", f"{T0_S + 60},a,3")
    code, _, err = pba("replay", file, "--speed", 0, "--prefix", "re/", "--max-age", "30m")
    assert code == ExitCode.FAILED
    assert err.splitlines()[-1] == f"pba: 1 rows of {file} could not be used"


def test_replay_follows_with_the_rest(server, pba, tmp_path):
    file = csv_file(tmp_path, *(f"{T0_S + 60 * i},a,{i}" for i in range(100)))
    code, _, err = pba("replay", file, "--speed", 30_000, "--past", "30m")
    assert code == ExitCode.OK
    assert "31 samples dated back" in err
    assert "stored 100, replaced 0, already there 0\n" in err
    assert server.service.calls.count("StreamSamples") == 1


def test_the_progress_of_a_replay_comes_to_its_end(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    file = csv_file(tmp_path, *(f"{T0_S + 60 * minute},b,{minute + 1}" for minute in range(20)))
    seen, terminal = os.openpty()
    with command(server, "replay", str(file), "--speed", "1000", "--past", "10m", stderr=terminal) as process:
        assert process.wait(30) == ExitCode.OK
    os.set_blocking(seen, False)
    shown = os.read(seen, 1_000_000).decode()
    os.close(terminal)
    os.close(seen)
    assert re.findall("replaying.*?([0-9]+/[0-9]+)", shown)[-1] == "10/10"


def test_a_file_without_measurements_is_told(pba, tmp_path):
    code, _, err = pba("replay", csv_file(tmp_path))
    assert code == ExitCode.USAGE
    assert err.endswith("there are no measurements in it\n")


def test_what_is_simulated_can_be_pushed(server, pba, tmp_path):
    file = tmp_path / "sim.jsonl"
    assert pba("simulate", file, "--links", 3, "--span", "1h", target="")[0] == ExitCode.OK
    assert pba("push", file)[0] == ExitCode.OK
    assert {link for link, _ in server.service.stored} == {"sim/wan-1", "sim/metro-1", "sim/transcontinental-1"}
    assert 150 < len(server.service.stored) <= 183


def test_what_is_simulated_goes_on_live(server):
    with command(server, "simulate", "--push", "--links", "2", "--span", "1m", "--cadence", "1s") as process:
        assert "going on live" in process.stderr.readline()
        before = dict(server.service.stored)
        assert {link for link, _ in before} == {"sim/wan-1", "sim/metro-1"}
        server.stop()
        server.start()
        deadline = time.monotonic() + 30
        while len(server.service.stored) < len(before) + 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(2)
        assert process.wait(20) == ExitCode.INTERRUPTED
        assert process.stderr.read() == ""


def test_export_and_import(server, pba, tmp_path):
    file = tmp_path / "all.jsonl.gz"
    code, _, err = pba("export", file)
    assert (code, err) == (ExitCode.OK, f"wrote 20 samples of 5 links to {file}\n")
    code, _, err = pba("import", file)
    assert code == ExitCode.OK
    assert len(server.service.stored) == 20


def test_a_failed_export_leaves_no_file(server, pba, tmp_path):
    server.service.fault("GetHistory", status(grpc.StatusCode.INTERNAL, "internal error 4711"))
    code, _, _ = pba("export", tmp_path / "all.jsonl")
    assert code == ExitCode.FAILED
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_expires_during_an_export_is_left_out(server, pba, tmp_path):
    server.service.fault("GetHistory", UNKNOWN_LINK)
    file = tmp_path / "all.jsonl"
    assert pba("export", file) == (ExitCode.OK, "", f"wrote 16 samples of 4 links to {file}\n")


def test_watch_prints_lines_without_a_terminal(pba):
    code, out, _ = pba("watch", "a", "b", "--updates", 2)
    assert code == ExitCode.OK
    assert [line.split()[1] for line in out.splitlines()] == ["a", "b"]
    assert "bw - -> 90.0 (80.0 to 100) Mbit/s" in out
    assert "use 2 x 128 KiB by defaults" in out


def test_watch_tells_what_it_cannot_follow(server, pba):
    server.service.fault("StreamPredictions", status(grpc.StatusCode.INVALID_ARGUMENT, "selector: is required"))
    code, _, err = pba("watch")
    assert (code, err) == (ExitCode.USAGE, "pba: selector: is required\n")


def test_watch_tells_on_standard_error_that_the_service_was_away(server):
    with command(server, "watch", "a") as process:
        process.stdout.readline()
        server.stop()
        assert process.stderr.readline().endswith("; trying again\n")
        server.start()
        # the trouble may be told in other words first: while nobody listens yet it is another one
        told = iter(process.stderr.readline, "")
        assert next(line for line in told if not line.endswith("; trying again\n")) == "pba: the service is back\n"
        process.send_signal(2)
        assert process.wait(20) == ExitCode.INTERRUPTED


def command(server, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "pba_service", *arguments, "--target", server.target],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])},
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def test_a_watch_is_ended_quietly_by_ctrl_c(server):
    with command(server, "watch", "a") as process:
        assert " a " in process.stdout.readline()
        process.send_signal(2)
        assert process.wait(20) == ExitCode.INTERRUPTED
        assert process.stderr.read() == ""


def test_a_reader_that_leaves_is_no_error(server):
    with command(server, "watch", "a") as process:
        process.stdout.readline()
        process.stdout.close()
        for minute in range(1, 200):
            if process.poll() is not None:
                break
            update = pb.StreamPredictionsResponse(predictions=[prediction_message("a", T0_S + 60 * minute)])
            server.send_update(update)
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        assert process.wait(5) == ExitCode.OK
        assert process.stderr.read() == ""


def test_check_config(tmp_path):
    def check(**variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PBA_")}
        return subprocess.run(
            [sys.executable, "-m", "pba_service", "check-config"],
            env={**environment, **variables, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])},
            capture_output=True,
            text=True,
            check=False,
        )

    good = check(PBA_GRPC_PORT="50099")
    assert good.returncode == ExitCode.OK
    assert "PBA_GRPC_PORT" in good.stdout
    assert "50099" in good.stdout
    bad = check(PBA_GRPC_PORT="many", PBA_MAX_STREAM="3")
    assert bad.returncode == ExitCode.USAGE
    assert "PBA_GRPC_PORT='many'" in bad.stderr
    assert "did you mean PBA_MAX_STREAMS?" in bad.stderr


def test_help_loads_neither_grpc_nor_numpy():
    code = (
        "import sys; from pba_service.cli.app import run; run(['--help']); print({'grpc', 'numpy'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
