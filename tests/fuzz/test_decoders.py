"""Every decoder, with mutated samples: it reads them, or says in its own words that it cannot."""

import pytest

from tests.fuzz.decoders import DECODERS, Decoder
from tests.fuzz.decoders_part import attack_decoders, judged


@pytest.mark.parametrize("name", DECODERS)
def test_mutated_bytes_are_read_or_refused_in_the_decoders_own_words(name: str) -> None:
    report = attack_decoders(1000, only=[name])

    assert report.faults == [], "\n".join(report.lines())
    assert report.examples >= 500


@pytest.mark.parametrize("name", DECODERS)
def test_the_samples_themselves_are_good(name: str) -> None:
    decoder = DECODERS[name]
    assert decoder.samples
    for sample in decoder.samples:
        decoder.read(sample)


def test_an_error_that_a_decoder_may_not_raise_is_seen() -> None:
    sample = Decoder(lambda data: {b"known": 1}[data], (ValueError,), (b"known",))

    assert judged("sample", sample, b"known") == []
    assert judged("sample", sample, b"other") == ["sample: KeyError: b'other'"]


def test_a_flaw_that_few_bytes_reach_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes) -> None:
        assert not data.endswith(b"\x00")
        DECODERS["cursors"].read(data)

    monkeypatch.setitem(DECODERS, "sample", Decoder(read, DECODERS["cursors"].may_raise, DECODERS["cursors"].samples))

    assert attack_decoders(1000, only=["sample"]).faults
