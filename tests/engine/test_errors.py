"""The hierarchy of errors: whose fault each is, and a message that needs no context."""

import pytest

from taskmill.engine import errors
from taskmill.engine.errors import AuthorError, CallerError, OperatorError, TaskmillError, TaskNotFound

KINDS = [getattr(errors, name) for name in errors.__all__]
INTERNAL = {errors.FenceLost, errors.IllegalMove}
GROUPS = {TaskmillError, CallerError, AuthorError, OperatorError}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_default_message_in_a_whole_sentence(kind: type[TaskmillError]) -> None:
    message = str(kind())

    assert message == kind.__doc__
    assert message.endswith(".")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - INTERNAL - GROUPS, key=str), ids=lambda kind: kind.__name__)
def test_every_error_is_the_fault_of_exactly_one_party(kind: type[TaskmillError]) -> None:
    assert [issubclass(kind, group) for group in (CallerError, AuthorError, OperatorError)].count(True) == 1


def test_an_error_carries_facts_as_data_and_not_in_its_text() -> None:
    error = TaskNotFound(task_id="secret-handle")

    assert error.facts == {"task_id": "secret-handle"}
    assert "secret-handle" not in str(error)
