"""What is kept of an exception: class, text and causes; one that cannot be read harms no attempt."""

from taskmill.workers.attempts.errors import describe


class Unreadable(Exception):
    """Raises whatever is asked of it."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __repr__(self) -> str:
        raise SystemExit("no repr")


class Elusive(Unreadable):
    """Has no cause that could be read."""

    @property
    def __cause__(self) -> None:  # type: ignore[override]
        raise RuntimeError("no cause")


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    secret = "a value of a variable"
    try:
        raise error from cause
    except BaseException as exc:
        assert secret
        return exc


def test_an_error_is_kept_with_its_causes_and_groups_and_without_values() -> None:
    inner = raised(LookupError("inner"), raised(OSError("innermost")))
    kept = describe(raised(ExceptionGroup("both", [inner, ValueError("beside")])), "12ab")

    assert (kept.type, kept.text, kept.reference) == ("ExceptionGroup", "both (2 sub-exceptions)", "12ab")
    for text in ("LookupError: inner", "OSError: innermost", "ValueError: beside"):
        assert text in kept.traceback
    assert "= 'a value of a variable'" not in kept.traceback


def test_an_exception_that_cannot_be_read_is_kept_by_its_class() -> None:
    for kind in (Unreadable, Elusive):
        kept = describe(kind(), "12ab")
        assert kept.type == f"{__name__}.{kind.__name__}"
        assert kept.text
        assert kept.reference == "12ab"


def test_a_chain_of_thousands_of_causes_is_kept() -> None:
    error: BaseException = ValueError("first")
    for number in range(3000):
        error = raised(ValueError(str(number)), error)

    assert describe(error).type == "ValueError"
