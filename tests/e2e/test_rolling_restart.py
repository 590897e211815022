"""Three replicas behind a client that balances are restarted one after the other, and no caller notices."""

import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from pba_client import Client, PbaClientError, Sample
from tests.process import ServiceProcess
from tests.servers import free_ports, standalone, wait_until

REPLICAS = 3
STREAMED = [f"streamed-{i}" for i in range(8)]
PUSHED = [f"pushed-{i}" for i in range(8)]
LINKS = STREAMED + PUSHED
CALLERS = 3
SUBSCRIBERS = 3
STEP = timedelta(seconds=5)
HISTORY = 30
PACE_S = 0.05
LIMIT_S = 60
ENVIRONMENT = {"PBA_MAX_CLOCK_SKEW": "1h", "PBA_COLLECT_INTERVAL": f"{STEP.total_seconds():g}s"}


class Worker(threading.Thread):
    """Does one thing again and again with a client of its own; counts, and keeps errors.

    Attributes:
        done: Calls that were answered.
        failures: Errors of those that were not.
    """

    def __init__(self, target, over, act):
        super().__init__(daemon=True)
        self.done, self.failures = 0, []
        self._target, self._over, self._act = target, over, act
        self.start()

    def run(self):
        with Client(self._target) as client:  # its own deadlines and retries are what is tested
            while not self._over.wait(PACE_S):
                try:
                    self._act(client, self.done)
                    self.done += 1
                except (PbaClientError, AssertionError) as error:
                    self.failures.append(error)


class Streamer(threading.Thread):
    """Pushes over one stream, and keeps what the stream promised of each batch."""

    def __init__(self, target, over, start):
        super().__init__(daemon=True)
        self.promised = []
        self._target, self._over, self._start_time = target, over, start
        self.start()

    @property
    def done(self):
        return len(self.promised)

    def run(self):
        with Client(self._target) as client, client.stream() as batches:
            while not self._over.wait(PACE_S):
                rows = [sample(link, HISTORY + self.done, self._start_time) for link in STREAMED]
                self.promised.append((rows, batches.push(rows)))

    @property
    def failures(self):
        return [error for _, future in self.promised if (error := future.exception(LIMIT_S))]


class Subscriber(threading.Thread):
    """Keeps the newest prediction of each link that a subscription told, and its interruptions."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.newest, self.interruptions, self.failure = {}, [], None
        self._client = Client(target)
        self._watch = self._client.watch(
            all_links=True, on_interruption=lambda cause, delay_s: self.interruptions.append((cause, delay_s))
        )
        self.start()

    def run(self):
        try:
            for update in self._watch:
                self.newest |= {one.link_id: one.made_at for one in update.predictions}
        except PbaClientError as error:
            self.failure = error

    def close(self):
        self._watch.close()
        self.join(LIMIT_S)
        self._client.close()


class Load:
    """Callers, pushers and subscribers on all replicas; leaving the context ends what is left of them."""

    def __init__(self, target):
        self.start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
        self.pushed = {}
        with Client(target) as client:
            client.push([sample(link, count, self.start) for link in LINKS for count in range(HISTORY)])
        self._over = threading.Event()
        self.subscribers = [Subscriber(target) for _ in range(SUBSCRIBERS)]
        self.streamer = Streamer(target, self._over, self.start)
        self.callers = [Worker(target, self._over, ask) for _ in range(CALLERS)]
        self.callers.append(Worker(target, self._over, self._push))
        self.everyone = [*self.callers, self.streamer]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        for subscriber in self.subscribers:
            subscriber.close()

    def _push(self, client, done):
        rows = [sample(link, HISTORY + done, self.start) for link in PUSHED]
        result = client.push(rows)
        assert result.stored + result.duplicates == len(rows)
        self.pushed |= {row.link_id: row.measured_at for row in rows}

    def goes_on(self, calls):
        """Returns when each has made so many more calls."""
        wanted = [one.done + calls for one in self.everyone]
        wait_until(
            lambda: all(one.done >= enough for one, enough in zip(self.everyone, wanted, strict=True)),
            LIMIT_S,
            "more calls",
        )

    def ends(self):
        """Ends calls and pushes; the newest sample of each link, all of them acknowledged."""
        self._over.set()
        for one in self.everyone:
            one.join(LIMIT_S)
            assert not one.is_alive()
        rows, _ = self.streamer.promised[-1]
        return self.pushed | {row.link_id: row.measured_at for row in rows}


def ask(client, done):
    link = LINKS[done % len(LINKS)]
    client.parameters(link)
    assert [one.error for one in client.batch_predict(LINKS[:4])] == [None] * 4
    client.predict(link)


def sample(link_id, count, start):
    return Sample(
        link_id, measured_at=start + count * STEP, bandwidth_mbps=50.0 + count * 7 % 11, latency_ms=20.0 + count % 3
    )


@pytest.fixture
def replicas(tmp_path):
    with standalone() as store, ExitStack() as stack:
        running = [
            ServiceProcess(
                tmp_path / str(port), redis_url=store.url, environment={**ENVIRONMENT, "PBA_GRPC_PORT": port}
            )
            for port in map(str, free_ports(REPLICAS))
        ]
        for replica in running:
            stack.enter_context(replica)
        yield running


def test_a_rolling_restart_fails_no_call_and_subscribers_end_with_the_newest_of_every_link(replicas):
    with Load("ipv4:" + ",".join(replica.target for replica in replicas)) as load:
        load.goes_on(3)
        for subscriber in load.subscribers:
            wait_until(lambda one=subscriber: one.newest.keys() == set(LINKS), LIMIT_S, "the first predictions")
        for replica in replicas:
            assert replica.stop() == 0
            replica.start()
            load.goes_on(3)
        newest = load.ends()

        failures = [f"{type(error).__name__}: {error}" for one in load.everyone for error in one.failures]
        assert not failures, (
            f"{len(failures)} of {sum(one.done for one in load.everyone)} failed, such as {failures[:3]}"
        )
        for subscriber in load.subscribers:
            wait_until(lambda one=subscriber: one.newest == newest or one.failure, LIMIT_S, "the newest of every link")
            assert subscriber.failure is None
            assert subscriber.interruptions, "a subscription was never cut off: nothing was tested"
            cause, _ = subscriber.interruptions[0]
            assert cause is None, "a replica that is told to stop ends its streams in good order"
    for replica in replicas:
        assert "Traceback" not in replica.log.read_text()
