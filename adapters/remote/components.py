"""Resources, templates and prompts of a server behind Taskmill, listed as the server itself lists them.

FastMCP's own proxies add `_meta` and a MIME type, and leave out sizes and titles.
"""

from typing import Any, Self

from fastmcp.server.providers.proxy import ProxyPrompt, ProxyResource, ProxyTemplate
from mcp_types import Prompt, Resource, ResourceTemplate
from pydantic import PrivateAttr

__all__ = ["RemotePrompt", "RemoteResource", "RemoteTemplate"]


class RemoteResource(ProxyResource):
    """A resource. Its URI and name may have a prefix here."""

    _listed: Resource = PrivateAttr()

    @classmethod
    def of(cls, listed: Resource, client: Any) -> Self:
        """The resource that the server lists. `client`: makes the session it is read on."""
        made = cls.from_mcp_resource(client, listed)
        assert isinstance(made, cls)
        made._listed = listed
        return made

    def to_mcp_resource(self, **overrides: Any) -> Resource:
        """As it is listed."""
        return self._listed.model_copy(update={"uri": str(self.uri), "name": self.name})


class RemoteTemplate(ProxyTemplate):
    """A template of resources. Its URI and name may have a prefix here."""

    _listed: ResourceTemplate = PrivateAttr()

    @classmethod
    def of(cls, listed: ResourceTemplate, client: Any) -> Self:
        """The template that the server lists."""
        made = cls.from_mcp_template(client, listed)
        assert isinstance(made, cls)
        made._listed = listed
        return made

    def to_mcp_template(self, **overrides: Any) -> ResourceTemplate:
        """As it is listed."""
        return self._listed.model_copy(update={"uri_template": self.uri_template, "name": self.name})


class RemotePrompt(ProxyPrompt):
    """A prompt. Its name may have a prefix here."""

    _listed: Prompt = PrivateAttr()

    @classmethod
    def of(cls, listed: Prompt, client: Any) -> Self:
        """The prompt that the server lists."""
        made = cls.from_mcp_prompt(client, listed)
        assert isinstance(made, cls)
        made._listed = listed
        return made

    def to_mcp_prompt(self, **overrides: Any) -> Prompt:
        """As it is listed."""
        return self._listed.model_copy(update={"name": self.name})
