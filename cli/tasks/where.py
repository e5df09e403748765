"""Which tasks a command is about: the words of `--where`, checked before anything is sent."""

from collections.abc import Sequence

from taskmill.cli.errors import UsageError
from taskmill.engine.errors import BadArguments
from taskmill.store.formats.filters import FILTER_WORDS, filter_of

__all__ = ["where_of"]


def where_of(words: Sequence[str], **options: str | None) -> dict[str, str]:
    """The words of a filter by name, from `KEY=VALUE` words and from options that stand for one of them each.

    Raises:
        UsageError: a word that makes no sense, or two for the same; the message says what to write.
    """
    found = {name: value.strip() for name, value in options.items() if value and value.strip(" ,")}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value.strip() or name not in FILTER_WORDS:
            raise UsageError(f"--where takes KEY=VALUE, with one of these keys: {', '.join(FILTER_WORDS)}.")
        if name in found:
            raise UsageError(f"{name} is given twice; several values of status and outcome are separated by commas.")
        found[name] = value.strip()
    try:
        filter_of(found)
    except BadArguments as exc:
        raise UsageError(f"--where: {exc}" if words else f"--{exc}") from None
    return found
