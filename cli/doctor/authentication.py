"""Findings of `taskmill doctor` about who may use a server over HTTP. The issuer is asked; nothing is changed."""

import asyncio
from collections.abc import Iterator

from taskmill.cli.settings import settings_for
from taskmill.engine.errors import AuthenticationUnavailable, TaskmillError
from taskmill.server.auth.authentication import authentication_of
from taskmill.server.auth.operators import operators_of
from taskmill.server.http.auth_advice import auth_advice
from taskmill.server.settings import ServerSettings
from taskmill.server.tool_host import ToolHost
from taskmill.store.connection.checks import Finding

__all__ = ["authentication_findings"]


def authentication_findings(server: ToolHost) -> Iterator[Finding]:
    """Authentication and operators, as the settings and the author's code have them."""
    try:
        settings = settings_for(ServerSettings, server)
        by_settings = authentication_of(settings)
        operators = operators_of(settings)
    except TaskmillError as exc:
        yield Finding("authentication", "unfit", str(exc), "correct the variable it names")
        return
    for advice in auth_advice(server, settings, settings.host):
        yield Finding("authentication", "warning", advice.found, advice.remedy)
    if by_settings is None:
        how = (
            "the server's own code verifies tokens" if server.has_auth else "none: every caller over HTTP is anonymous"
        )
        yield Finding("authentication", "ok", how)
    else:
        try:
            asyncio.run(by_settings.check())
        except AuthenticationUnavailable as exc:
            yield Finding("authentication", "unfit", str(exc), "tokens cannot be checked: correct TASKMILL_AUTH_*")
        else:
            yield Finding("authentication", "ok", f"tokens of {by_settings.issuer}, which answers")
    if operators.has_tokens:
        yield Finding("operators", "ok", "there are operators' tokens")
