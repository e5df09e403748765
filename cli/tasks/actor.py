"""Who types a command: the user of the operating system, who may work on a Redis directly."""

import os
import pwd
import socket
from dataclasses import dataclass

from taskmill.store.audit.records import ActorFacts, ActorKind, AuditRecord
from taskmill.store.audit.trail import AuditTrail

__all__ = ["CommandActor", "command_user"]


@dataclass(frozen=True, slots=True)
class CommandActor:
    """The sender of what a command does."""

    trail: AuditTrail

    def facts(self) -> ActorFacts:
        """See `Actor.facts`. The system's own name of the user: variables such as USER can say anything."""
        return ActorFacts(ActorKind.OPERATOR, command_user(), address=socket.gethostname(), via="cli")

    def leave(self, entry: AuditRecord) -> None:
        """See `Actor.leave`."""
        self.trail.leave(entry)


def command_user() -> str:
    """Who types the command."""
    return f"os:{_user()}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
