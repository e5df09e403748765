"""`taskmill stdio` under lines of garbage, in both eras of the protocol."""

import pytest

from tests.fuzz.stdio_part import _of_answers, attack_stdio


@pytest.mark.timeout(240)
def test_garbage_on_standard_input_neither_ends_the_conversation_nor_is_told_of() -> None:
    report = attack_stdio(400)

    assert report.faults == [], "\n".join(report.lines())
    assert report.examples == 400


def test_what_must_not_stand_on_standard_output_is_seen() -> None:
    told = [b"hello\n", b'{"a": 1}\n', b'{"jsonrpc": "2.0", "error": "KeyError: x"}\n']
    assert _of_answers(iter(told), [], greets=True) == [
        "no JSON on standard output: b'hello\\n'",
        "no JSON-RPC on standard output: b'{\"a\": 1}\\n'",
        "reveals an internal: 'KeyError'",
        'no greeting: b\'{"jsonrpc": "2.0", "error": "KeyError: x"}\\n\'',
    ]
