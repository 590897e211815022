"""The short form of fuzzing what reads bytes: the seeds, and some hundred spoilt ones. `make fuzz` goes on for long."""

import random

import pytest

from tests.fuzz.mutate import spoilt
from tests.fuzz.targets import TARGETS, try_one

TRIES = 150


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_are_more_than_a_fault(name):
    target = TARGETS[name]
    for seed in target.seeds:
        try_one(target, seed)
    seeds = target.seeds or (b"",)
    for number in range(TRIES):
        chance = random.Random(f"{name} {number}")
        data = spoilt(chance, chance.choice(seeds), chance.choice(seeds))
        try:
            try_one(target, data)
        except BaseException as error:
            error.add_note(f"input {number}: {data[:2_000]!r}")
            raise
