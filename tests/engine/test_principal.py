"""Owners and ids: no caller can be taken for another one, and no id can be guessed."""

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from taskmill.engine.principal import ANONYMOUS, as_task_id, new_task_id, principal_of

PART = st.none() | st.text(st.characters(codec="utf-8"), max_size=4)
IDENTITY = st.tuples(PART, PART, PART)


def test_a_principal_is_the_digest_of_canonical_json() -> None:
    """Every replica and every release must compute the same one."""
    assert principal_of("https://a", None, "ü") == hashlib.sha256('["https://a",null,"ü"]'.encode()).hexdigest()


def test_a_missing_part_is_not_an_empty_one() -> None:
    parts = (None, "")
    identities = [(a, b, c) for a in parts for b in parts for c in parts]

    assert len({principal_of(*identity) for identity in identities}) == 8


@given(IDENTITY, IDENTITY)
def test_different_identities_are_different_principals(
    one: tuple[str | None, str | None, str | None], other: tuple[str | None, str | None, str | None]
) -> None:
    assert (principal_of(*one) == principal_of(*other)) is (one == other)


def test_half_a_surrogate_pair_in_a_claim_makes_a_principal_too() -> None:
    """JSON can hold it: the request of such a token was an internal error."""
    assert len({principal_of("iss", "app", subject) for subject in ("ada\ud800", "ada\ud801", "ada?", "ada")}) == 4


def test_no_identity_can_be_taken_for_the_anonymous_owner() -> None:
    assert principal_of(None, None, None) != ANONYMOUS
    assert len(ANONYMOUS) != 64


def test_a_task_id_is_256_random_bits_in_url_safe_letters() -> None:
    ids = [new_task_id() for _ in range(1000)]

    assert {len(base64.urlsafe_b64decode(task_id + "=")) for task_id in ids} == {32}
    assert len(set(ids)) == 1000
    # Every bit is used: none is the same in all ids.
    seen = [int.from_bytes(base64.urlsafe_b64decode(task_id + "="), "big") for task_id in ids]
    always, never = seen[0], 0
    for bits in seen:
        always, never = always & bits, never | bits
    assert (always, never) == (0, 2**256 - 1)


def test_no_task_id_looks_like_an_option_on_a_command_line() -> None:
    """One in 64 would: base64 for URLs has a dash."""
    ids = {new_task_id() for _ in range(2000)}

    assert len(ids) == 2000
    assert {len(task_id) for task_id in ids} == {43}
    assert not [task_id for task_id in ids if task_id.startswith("-")]
    assert as_task_id(b"\xf8" + bytes(31)) == "_" + "A" * 42
