"""Logs: one line an event, the same shape from us and from libraries."""

import io
import json
import logging

import pytest
import structlog

from pba_service.observability.logs import configure_logs


@pytest.fixture(autouse=True)
def _restored():
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**config)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_the_event_its_fields_level_and_time():
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    structlog.get_logger("x").info("started", port=50051)
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "started", "port": 50051, "level": "info"}


def test_loggers_made_before_are_configured_as_well():
    early = structlog.get_logger("early")
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    early.warning("heard")
    assert lines(stream)[0]["event"] == "heard"


def test_below_the_level_nothing_is_written():
    stream = io.StringIO()
    configure_logs("warning", "json", stream)
    structlog.get_logger().info("quiet")
    assert stream.getvalue() == ""


def test_libraries_log_the_same_lines_from_warning_on():
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("trouble %d", 7)
    [line] = lines(stream)
    assert (line["event"], line["level"]) == ("trouble 7", "warning")


def test_debug_hears_libraries_too():
    stream = io.StringIO()
    configure_logs("debug", "json", stream)
    logging.getLogger("some.library").debug("chatter")
    assert lines(stream)[0]["event"] == "chatter"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_never_shows_the_values_of_variables(form):
    stream = io.StringIO()
    configure_logs("info", form, stream)

    def connect(password):
        raise ConnectionError(f"no route, {len(password)}")

    try:
        connect("2retnuh"[::-1])
    except ConnectionError:
        structlog.get_logger().exception("store_failed")
        logging.getLogger("lib").exception("lib_failed")
    text = stream.getvalue()
    assert text.count("no route, 7") >= 2
    assert text.count("connect") >= 2
    assert "hunter2" not in text


def test_auto_is_a_console_on_a_terminal_and_json_elsewhere():
    terminal, pipe = Terminal(), io.StringIO()
    configure_logs("info", "auto", terminal)
    structlog.get_logger().info("hello", port=1)
    configure_logs("info", "auto", pipe)
    structlog.get_logger().info("hello", port=1)
    assert "\x1b[" in terminal.getvalue()
    assert lines(pipe)[0]["port"] == 1


def test_values_that_json_does_not_know_are_written_as_text():
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    structlog.get_logger().info("x", where={1}, what=object)
    assert len(lines(stream)) == 1
