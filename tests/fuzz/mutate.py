"""Hostile inputs: messages that their type admits, and bytes that something good was spoilt into."""

import struct

from google.protobuf.descriptor import FieldDescriptor

NOW_S = 1_800_000_000

TEXTS = (
    "",
    "a",
    "b",
    "fuzz/1",
    "fuzz/2",
    "x" * 128,
    "x" * 129,
    "ü" * 64,
    "}",
    "%7D}:m{",
    "*",
    "a\0b",
    "a\nb",
    "\u202e",
    "../../etc/passwd",
    "pba:links",
    "!unreadable",
    "'; return redis.call('FLUSHALL') --",
    "\U0010ffff",
)
INTEGERS = (0, 1, 2, 10, 59, 127, 128, 255, 65_535, 10_001, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, -1, -(2**63))
FLOATS = (0.0, -0.0, 1.0, 0.5, -1.0, 1e-45, 1e-320, 1e8, 3.4e38, 1e300, float("inf"), float("-inf"), float("nan"))
_DEEPEST = 4

_WIDTH = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}


def message(random, kind, now_s=NOW_S, depth=0):
    """A message of a type: each field absent, hostile, or such as a caller would send it.

    Args:
        random: A `random.Random`, or hypothesis's.
        kind: The type.
        now_s: The time around which timestamps lie.
        depth: Of the message in another.
    """
    made = kind()
    name = kind.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp" and random.random() < 0.8:
        made.seconds = int(now_s) - random.randrange(4_000)
        return made
    for described in kind.DESCRIPTOR.fields:
        if random.random() < 0.35 or depth > _DEEPEST:
            continue
        if described.is_repeated:
            count = random.choice((0, 1, 1, 2, 3, 12, 60)) if depth < 2 else random.choice((0, 1, 3))
            values = [_value(random, described, now_s, depth) for _ in range(count)]
            getattr(made, described.name).extend(value for value in values if value is not None)
        elif described.message_type is not None:
            part = _value(random, described, now_s, depth)
            getattr(made, described.name).CopyFrom(part)
        else:
            setattr(made, described.name, _value(random, described, now_s, depth))
    return made


def _value(random, described, now_s, depth):
    if described.message_type is not None:
        return message(random, described.message_type._concrete_class, now_s, depth + 1)
    if described.cpp_type in _WIDTH:
        return _integer(random, described, now_s)
    if described.type == FieldDescriptor.TYPE_BYTES:
        return bytes(random.randrange(256) for _ in range(random.randrange(20)))
    if described.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return random.choice(TEXTS)
    if described.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    value = random.choice(FLOATS) if random.random() < 0.3 else random.uniform(0, 100)
    return value if described.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else _float32(value)


def _integer(random, described, now_s):
    if described.name == "measured_at_ms" and random.random() < 0.8:
        return int(now_s) * 1_000 - random.randrange(4_000_000)
    low, high = _WIDTH[described.cpp_type]
    value = random.choice(INTEGERS) if random.random() < 0.4 else random.randrange(4)
    return min(max(value, low), high)


def _float32(value):
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return float("inf")


_SPICE = (b"\0", b"\xff", b"\x80", b"\xff" * 10, b"\x80" * 9 + b"\x01", b"\x0a\x00", b"\x0b", b"\xfa\x07\x00")


def spoilt(random, data, other=b""):
    """Bytes with some of them changed, taken out, doubled, cut off or mixed with others."""
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        where = random.randrange(len(data) + 1)
        what = random.randrange(7)
        if what == 0 and data:
            data[where % len(data)] ^= 1 << random.randrange(8)
        elif what == 1:
            data[where:where] = random.choice(_SPICE)
        elif what == 2:
            del data[where : where + random.choice((1, 2, 8, 64))]
        elif what == 3:
            data[where:where] = data[where : where + random.choice((1, 8, 200))]
        elif what == 4 and data:
            data[where % len(data)] = random.randrange(256)
        elif what == 5:
            del data[where:]
        else:
            data[where:] = other[random.randrange(len(other) + 1) :]
    return bytes(data[: 1 << 20])
