"""One decoder under atheris, which looks for inputs that take new branches: `python -m tests.fuzz.guided NAME ...`.

Everything behind the name is libFuzzer's. Run by `scripts/fuzz --part guided`.
"""

import sys

import atheris

with atheris.instrument_imports(include=["taskmill"]):
    from tests.fuzz.decoders import DECODERS
from tests.fuzz.decoders_part import judged

__all__ = ["main"]


def main() -> None:
    """Never returns: libFuzzer ends the process, with 0 where nothing was found."""
    name = sys.argv.pop(1)
    decoder = DECODERS[name]

    def one(data: bytes) -> None:
        if faults := judged(name, decoder, data):
            raise AssertionError(faults[0])

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
