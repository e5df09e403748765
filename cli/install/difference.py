"""Shows the change of a host's file without what may be secret in it: variables, headers, tokens among arguments."""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from taskmill.cli.install.entries import HEADERS_VARIABLE
from taskmill.cli.install.host_file import HostFile
from taskmill.cli.terminal.escaping import printable

__all__ = ["difference"]

_CONTEXT = 3
"""Lines around a change."""
_MASK = "***"
_HOLDERS = re.compile(r"env|environment|.*headers", re.IGNORECASE)
"""Members whose values are all secret, as far as anyone but their author knows."""
_NAMES = re.compile(r"token|secret|passw|api.?key|credential|authorization|bearer|private.?key", re.IGNORECASE)
_OPTION = re.compile(r"(--?[\w-]+)=(.+)", re.DOTALL)
_HEADER = re.compile(r"([A-Za-z][\w-]*: *)(.+)", re.DOTALL)
_REFERENCE = re.compile(r"(?:(?:Bearer|Basic|Token) +)?(?:\$\{[^}]+\}|\$[A-Z_]+|\{env:[^}]+\})", re.IGNORECASE)
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')


def difference(file: HostFile, changed: str) -> str:
    """The lines that are different, as `diff -u` has them, with `***` in the place of secrets."""
    old, new = file.config.text.splitlines(), changed.splitlines()
    secrets = {**_secrets_in(file.parsed(file.config.text)), **_secrets_in(file.parsed(changed))}
    name = str(file.config.path)
    lines = [f"--- {name if file.config.data is not None else os.devnull}", f"+++ {name}"]
    for group in SequenceMatcher(None, old, new).get_grouped_opcodes(_CONTEXT):
        (_, a, _, c, _), (_, _, b, _, d) = group[0], group[-1]
        lines.append(f"@@ -{_range(a, b)} +{_range(c, d)} @@")
        for tag, old_start, old_end, new_start, new_end in group:
            if tag == "equal":
                lines += [f" {_masked(line, secrets)}" for line in old[old_start:old_end]]
                continue
            lines += [f"-{_masked(line, secrets)}" for line in old[old_start:old_end]]
            lines += [f"+{_masked(line, secrets)}" for line in new[new_start:new_end]]
    return "".join(f"{printable(line)}\n" for line in lines)


def _secrets_in(value: Any) -> dict[str, str]:
    """Texts of a parsed file that may be secret, and what is shown in their place."""
    return {text: shown for text, shown in _found(value) if text != shown}


def _masked(line: str, secrets: Mapping[str, str]) -> str:
    """One line of the file, JSON or TOML, with those texts in it replaced; names of members stay."""

    def shown(match: re.Match[str]) -> str:
        text = _decoded(match[0])
        if text is None or text not in secrets or line[match.end() :].lstrip()[:1] == ":":
            return match[0]
        return json.dumps(secrets[text], ensure_ascii=False)

    return _LITERAL.sub(shown, line)


def _found(value: Any, name: str = "", *, is_held: bool = False) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _found(item, str(key), is_held=is_held or _HOLDERS.fullmatch(str(key)) is not None)
    elif isinstance(value, list):
        before = ""
        for item in value:
            yield from _found_in_word(item, before) if isinstance(item, str) else _found(item, name, is_held=is_held)
            before = item if isinstance(item, str) else ""
    elif isinstance(value, str):
        if (is_held or _NAMES.search(name)) and not _REFERENCE.fullmatch(value):
            has_lines = name == HEADERS_VARIABLE
            yield value, "\n".join(_shown_header(line) for line in value.split("\n")) if has_lines else _MASK
        elif value.startswith(("http://", "https://")):
            yield value, _shown_address(value)


def _found_in_word(word: str, before: str) -> Iterator[tuple[str, str]]:
    """A secret among the arguments of a command."""
    if _REFERENCE.fullmatch(word):
        return
    if before.startswith("-") and "=" not in before and _NAMES.search(before):
        yield word, _MASK
    elif (option := _OPTION.fullmatch(word)) and (_NAMES.search(option[1]) or "://" in option[2]):
        yield word, f"{option[1]}={_shown_address(option[2]) if '://' in option[2] else _MASK}"
    elif (header := _HEADER.fullmatch(word)) and _NAMES.search(header[1]):
        yield word, _shown_header(word)
    elif "://" in word:
        yield word, _shown_address(word)


def _shown_header(line: str) -> str:
    header = _HEADER.fullmatch(line)
    if header is None:
        return _MASK
    return line if _REFERENCE.fullmatch(header[2]) else header[1] + _MASK


def _shown_address(url: str) -> str:
    shown = re.sub(r"//[^/?#@]+@", f"//{_MASK}@", url)
    return re.sub(r"\?.+", f"?{_MASK}", shown, flags=re.DOTALL)


def _decoded(literal: str) -> str | None:
    try:
        return str(tomllib.loads(f"x = {literal}")["x"]) if literal[0] == "'" else str(json.loads(literal))
    except (tomllib.TOMLDecodeError, ValueError):
        return None


def _range(start: int, end: int) -> str:
    """Lines as `diff -u` counts them."""
    length = end - start
    begin = start + 1 if length else start
    return f"{begin}" if length == 1 else f"{begin},{length}"
