"""Logs: one line an event, the same shape from us and from libraries."""

import io
import json
import logging

import pytest
import structlog

from pba_service.observability.limited import AT_ONCE, MAX_KINDS, WINDOW_S, RateLimit
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


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


def test_equal_lines_are_bounded_and_the_next_says_how_many_were_left_out():
    stream, clock = io.StringIO(), Clock()
    configure_logs("info", "json", stream, clock)
    log = structlog.get_logger("x")
    for number in range(50):
        log.warning("store_failed", number=number)
        clock.now_s += 0.001
    log.warning("something_else")
    assert [line.get("number") for line in lines(stream)] == [*range(AT_ONCE), None]
    clock.now_s += WINDOW_S
    log.warning("store_failed")
    log.warning("store_failed")
    assert [line.get("suppressed") for line in lines(stream)[-2:]] == [50 - AT_ONCE, None]


def test_a_level_of_its_own_is_a_kind_of_its_own_and_libraries_are_bounded_too():
    stream, clock = io.StringIO(), Clock()
    configure_logs("info", "json", stream, clock)
    for _ in range(50):
        structlog.get_logger("x").info("same")
        logging.getLogger("a.library").error("lost %s", clock.now_s)
        clock.now_s += 0.001
    clock.now_s += WINDOW_S
    logging.getLogger("a.library").error("lost %s", "again")
    assert lines(stream)[-1]["suppressed"] == 50 - AT_ONCE
    assert [line["level"] for line in lines(stream)].count("info") == AT_ONCE
    assert [line["level"] for line in lines(stream)].count("error") == AT_ONCE + 1


def test_a_flood_of_kinds_is_bounded_in_memory_and_in_lines():
    clock = Clock()
    limit = RateLimit(clock)
    written = 0
    for number in range(3 * MAX_KINDS):
        try:
            limit(None, "", {"event": f"connection {number} is lost", "level": "warning"})
            written += 1
        except structlog.DropEvent:
            pass
    assert written <= MAX_KINDS + AT_ONCE
    clock.now_s += WINDOW_S
    assert limit(None, "", {"event": "new", "level": "info"}) == {"event": "new", "level": "info"}


def test_at_debug_everything_is_written():
    stream = io.StringIO()
    configure_logs("debug", "json", stream, Clock())
    for _ in range(50):
        structlog.get_logger("x").debug("rpc")
    assert len(lines(stream)) == 50
