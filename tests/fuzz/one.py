"""One target under atheris, led by coverage: `python -m tests.fuzz.one NAME [libFuzzer options]`."""

import sys

import atheris

with atheris.instrument_imports(include=["pba_service", "google.protobuf", "jwt"]):
    from tests.fuzz.targets import TARGETS, try_one


def main():
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    atheris.Setup([sys.argv[0], *options], lambda data: try_one(target, data))
    atheris.Fuzz()


main()
