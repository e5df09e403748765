"""The part `decoders`: every decoder with mutated samples, judged by what it may raise."""

from collections.abc import Iterable

from tests.fuzz.choices import Choices
from tests.fuzz.decoders import DECODERS, Decoder
from tests.fuzz.examples import drive
from tests.fuzz.mutation import mutated_bytes
from tests.fuzz.report import Report

__all__ = ["attack_decoders", "judged"]

_SIZE = 64


def attack_decoders(examples: int, *, only: Iterable[str] = (), is_random: bool = False) -> Report:
    """So many examples for each decoder."""
    report = Report("decoders")
    for name in only or DECODERS:
        decoder = DECODERS[name]

        def judge(data: bytes, name: str = name, decoder: Decoder = decoder) -> tuple[list[str], str]:
            text = mutated_bytes(decoder.samples, Choices(data))
            return judged(name, decoder, text), repr(text)

        drive(report, judge, examples=examples, size=_SIZE, is_random=is_random)
    return report


def judged(name: str, decoder: Decoder, data: bytes) -> list[str]:
    """What the decoder did wrong with these bytes, in words."""
    try:
        decoder.read(data)
    except decoder.may_raise:
        return []
    except Exception as exc:
        return [f"{name}: {type(exc).__name__}: {exc}"[:400]]
    return []
