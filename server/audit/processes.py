"""Who acts where no HTTP request says it: the user of this machine, or the server itself."""

from dataclasses import dataclass

from taskmill.store.audit.records import ActorFacts, ActorKind, AuditRecord
from taskmill.store.audit.trail import AuditTrail

__all__ = ["ProcessActor"]


@dataclass(frozen=True, slots=True)
class ProcessActor:
    """The sender of all that is done outside a request over HTTP."""

    trail: AuditTrail
    over_http: bool
    """Whether the process serves HTTP: then it is the server itself, else the host that started it."""

    def facts(self) -> ActorFacts:
        """See `Actor.facts`."""
        return ActorFacts(ActorKind.SYSTEM) if self.over_http else ActorFacts(ActorKind.LOCAL, via="stdio")

    def leave(self, entry: AuditRecord) -> None:
        """See `Actor.leave`."""
        self.trail.leave(entry)
