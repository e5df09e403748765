"""The servers in a host's own file, be it JSON or TOML: read, and changed as text. Nothing here writes the file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskmill.cli.install.config_file import ConfigFile, ConfigSyntaxError
from taskmill.cli.install.entries import Change
from taskmill.cli.install.hosts import Host
from taskmill.cli.install.json_editor import member_text, remove_member, set_member, set_member_text, value_at
from taskmill.cli.install.toml_editor import (
    remove_key,
    remove_table,
    set_table,
    set_table_text,
    table_at,
    table_text,
    toml_of,
)

__all__ = ["HostFile"]


@dataclass(frozen=True)
class HostFile:
    """One host's file, as it was when it was read. What changes it gives another text; all raise `ConfigSyntaxError`
    if the text is not valid, or cannot be changed here."""

    host: Host
    config: ConfigFile
    path: tuple[str, ...]
    """Where in it the servers are."""

    @property
    def unreadable(self) -> str:
        """How a message about a file that is not valid begins."""
        return f"{self.config.path} is not what {self.host.title} reads, so it is left alone"

    def parsed(self, text: str, path: Sequence[str] = ()) -> Any:
        """What a text of this file has at a path."""
        if self.host.is_toml:
            return table_at(text, path, {})
        return value_at(text if text.strip() else "{}", path, {}, allow_comments=self.host.allows_comments)

    def servers(self) -> dict[str, Any]:
        """The entries by their names."""
        servers = self.parsed(self.config.text, self.path)
        if not isinstance(servers, dict):
            raise ConfigSyntaxError(f'"{".".join(self.path)}" is not an object')
        return servers

    def with_entry(self, name: str, entry: Mapping[str, Any]) -> str:
        """The text with another entry."""
        return self._with_value(self.config.text, (*self.path, name), dict(entry))

    def with_members(self, name: str, members: Mapping[str, Any]) -> str:
        """The text with these members of an entry that is there; its others stay, and so do its variables."""
        return self.with_change(name, Change(members))

    def with_change(self, name: str, change: Change) -> str:
        """The text with a change of an entry that is there."""
        text = self.config.text
        for key in change.removed:
            text = self._without(text, (*self.path, name, key))
        for key, value in change.members.items():
            text = self._with_value(text, (*self.path, name, key), value)
        return text

    def without_entry(self, name: str) -> str:
        """The text without an entry."""
        path = (*self.path, name)
        return remove_table(self.config.text, path) if self.host.is_toml else self._without(self.config.text, path)

    def entry_text(self, name: str) -> str:
        """An entry as it is written."""
        path = (*self.path, name)
        if self.host.is_toml:
            return table_text(self.config.text, path)
        return member_text(self.config.text, path, allow_comments=self.host.allows_comments)

    def with_entry_text(self, name: str, written: str) -> str:
        """The text with an entry that is there written so."""
        path = (*self.path, name)
        if self.host.is_toml:
            return set_table_text(self.config.text, path, written)
        return set_member_text(self.config.text, path, written, allow_comments=self.host.allows_comments)

    def snippet(self, name: str, entry: Mapping[str, Any]) -> str:
        """The entry as text, to be pasted."""
        if self.host.is_toml:
            return toml_of((*self.path, name), dict(entry))
        return json.dumps({self.host.key: {name: entry}}, indent=2)

    def _without(self, text: str, path: tuple[str, ...]) -> str:
        if self.host.is_toml:
            return remove_key(text, path)
        return remove_member(text, path, allow_comments=self.host.allows_comments)

    def _with_value(self, text: str, path: tuple[str, ...], value: Any) -> str:
        if self.host.is_toml:
            return set_table(text, path, value)
        return set_member(text if text.strip() else "{}\n", path, value, allow_comments=self.host.allows_comments)
