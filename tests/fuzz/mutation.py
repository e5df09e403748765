"""Good bytes made bad: a sample with a few things done to it that transport, disks and people do to bytes."""

from collections.abc import Sequence

from tests.fuzz.choices import Choices

__all__ = ["mutated_bytes"]

_ODD = (
    *(b"", b"\x00", b"\n", b"|", b"=", b"-", b".", b"\xff", b"\x80", b"\xed\xa0\x80", b"\xf0\x9f", b"\xef\xbb\xbf"),
    *(
        b"\\ud800",
        b"0",
        b"-1",
        b"1e999",
        b"nan",
        b"inf",
        b"-inf",
        b"1_0",
        b" 1",
        b"1.5",
        b"0x10",
        b"\xd9\xa1",
        b"-\xc2\xb2",
    ),
    *(b"9" * 25, b"9" * 5000, b"[" * 3000, b'{"a":' * 2000, b"null", b"true", b"[]", b"{}", b'""', b"NaN", b"Infinity"),
    *(b"'", b'"', b"//", b"/*", b"create", b"complete", b"running", b"completed", b"input_required", b"timeout"),
    *(b"returned", b"status", b"move", b"LEASE=nan", b"REDIS_URL=x", b"REDIS_URL=redis://[", b"HOME=\x00"),
    *(b"RETENTION_LIMIT=1e300", b"SESSION_IDLE=1e300"),
)


def mutated_bytes(samples: Sequence[bytes], choices: Choices) -> bytes:
    """One of the samples, mutated up to four times; once in a while nothing but noise."""
    if choices.chance(5):
        return choices.rest
    data = choices.pick(samples)
    for _ in range(choices.number(5)):
        data = _mutated(data, samples, choices)
    return data


def _mutated(data: bytes, samples: Sequence[bytes], choices: Choices) -> bytes:
    at = _place(data, choices)
    end = min(len(data), at + 1 + choices.number(16))
    match choices.number(8):
        case 0:
            return data[:at] + bytes([choices.number(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:at] + choices.pick(_ODD) + data[at:]
        case 3:
            return data[:at] + choices.pick(_ODD) + data[end:]
        case 4:
            return data[:end] + data[at:]
        case 5:
            return data[:at]
        case 6:
            other = choices.pick(samples)
            return data[:at] + other[_place(other, choices) :]
        case _:
            return _word_replaced(data, choices)


def _word_replaced(data: bytes, choices: Choices) -> bytes:
    words = data.split(b"\n")
    words[choices.number(min(len(words), 256))] = choices.pick(_ODD)
    return b"\n".join(words)


def _place(data: bytes, choices: Choices) -> int:
    return choices.number(min(len(data) + 1, 65_536))
