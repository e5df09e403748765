"""Findings of `taskmill doctor` about the model that a server asks itself. It is not called: that may cost money."""

from collections.abc import Iterator

from taskmill.engine.errors import SettingsError
from taskmill.server.sampling.own_model import OwnModel
from taskmill.server.tool_host import ToolHost
from taskmill.store.connection.checks import Finding

__all__ = ["model_findings"]


def model_findings(server: ToolHost | None) -> Iterator[Finding]:
    """Whether its library, key and address are there; nothing where there is no such model."""
    own = getattr(server, "own_model", None) or OwnModel(None, None)
    try:
        fault = own.check()
    except SettingsError as exc:
        yield Finding("model", "unfit", str(exc), "correct the variable it names")
        return
    if fault is not None:
        yield Finding("model", "warning", fault.text, "in the environment of the server and of its workers")
    elif own.name is not None:
        yield Finding("model", "ok", f"{own.name}, which was not asked")
