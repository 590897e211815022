"""One fault under load, and what came of it."""

import asyncio
import time
from dataclasses import dataclass

from tests.chaos.load import Load
from tests.chaos.reconcile import Balance, settled

AROUND = 10
"""Acknowledgements of each writer before the fault, and after it is over."""


@dataclass(frozen=True)
class Outcome:
    """What came of a fault.

    Attributes:
        fault: What was done.
        acknowledged: Samples whose push was acknowledged.
        failures: Attempts to push that failed.
        balance: What became of the acknowledged samples.
        silence_s: The longest time in which a writer had no acknowledgement.
        stale: Predictions answered from memory.
        unanswered: Questions for predictions that failed.
        wrong: Predictions that were of another link, or not from the newest sample.
        interruptions: Of subscriptions.
        limit_s: The longest that `silence_s` may be.
    """

    fault: str
    acknowledged: int
    failures: int
    balance: Balance
    silence_s: float
    stale: int
    unanswered: int
    wrong: int
    interruptions: int
    limit_s: float

    @property
    def faults(self):
        """What is wrong with it, a sentence each."""
        found = [f"{self.fault}: {count} samples {kind}" for kind, count in vars(self.balance).items() if count]
        if self.wrong:
            found.append(f"{self.fault}: {self.wrong} predictions of other links or older samples")
        if self.silence_s > self.limit_s:
            found.append(f"{self.fault}: a writer waited {self.silence_s:.1f} s, more than {self.limit_s:g} s")
        return found


async def under_load(fault, target, find_clients, inject, *, name, limit_s, writers=12):
    """Injects a fault while clients push, ask and follow; returns its `Outcome`.

    Args:
        fault: What it is called.
        target: Where the service is.
        find_clients: Finds clients of the servers that take writes.
        inject: Breaks something and mends it again.
        name: What the ids of the links begin with.
        limit_s: How long a writer may wait.
        writers: How many.
    """
    async with Load(target, name, writers=writers) as load:
        await load.more(AROUND)
        began_s = time.monotonic()
        await inject()
        await load.more(AROUND)
        await load.followed()
        await load.stop()
    return Outcome(
        fault=fault,
        acknowledged=load.acknowledged(),
        failures=load.failures(),
        balance=await settled(load.writers, find_clients),
        silence_s=max(writer.longest_silence_s(began_s) for writer in load.writers),
        stale=sum(reader.stale for reader in load.readers),
        unanswered=sum(reader.failed for reader in load.readers),
        wrong=load.wrong(),
        interruptions=sum(one.interruptions for one in load.subscribers),
        limit_s=limit_s,
    )


async def for_a_while(seconds, begin, end):
    """Begins something, waits, and ends it."""
    begin()
    await asyncio.sleep(seconds)
    end()
