"""Queue names in Redis: the author's name, qualified by whose tasks they are. A person is shown the author's name only.

`<app>/<queue>`: the queue of one server, shared by its replicas, its workers, and their releases.
`<app>~<source>/<queue>`: that of one file while it is developed (`taskmill stdio`).
`<app>~<source>+<stack>/<queue>`: that of one `taskmill run`, `dev` or `call`, with server and workers.

Why so: `docs/decisions/0028-a-queue-has-an-owner.md`. An app is letters, digits, `_`, `.` and `-`, so that it can have
none of the separators; it may be empty.
"""

import hashlib
import re

__all__ = [
    "app_of",
    "app_of_name",
    "app_of_source",
    "author_queue",
    "is_under_development",
    "qualified_queue",
    "shared_app",
    "source_of",
]

_LONGEST_SLUG = 40
_OTHER_LETTERS = re.compile(r"[^a-z0-9_.]+")
_DIGEST = 8


def app_of_name(name: str) -> str:
    """The app of a server that has no other: its name as a slug, `my-tools` of `My tools`."""
    slug = _OTHER_LETTERS.sub("-", name.lower()).strip("-")[:_LONGEST_SLUG]
    is_exact = len(slug) == len(name) and name.isascii()
    # Names in other alphabets, and long ones, would otherwise become one app.
    return slug if is_exact else f"{slug}-{_digest(name)}".strip("-")


def source_of(location: str) -> str:
    """The source of a server under development, by where its file is."""
    return _digest(location)


def app_of_source(app: str, source: str) -> str:
    """The app of a server under development."""
    return f"{app}~{source}"


def is_under_development(app: str) -> bool:
    """Whether it is the app of a file that is developed, and not of a deployment."""
    return "~" in app


def qualified_queue(app: str, queue: str) -> str:
    """A queue as Redis has it; `queue` is the author's name."""
    return f"{app}/{queue}" if app else queue


def author_queue(qualified: str) -> str:
    """The author's name of a queue."""
    return qualified.rpartition("/")[2]


def app_of(qualified: str) -> str:
    """Whose queue it is."""
    return qualified.rpartition("/")[0]


def shared_app(app: str) -> str:
    """The app without the stack: the same for all commands that develop one file."""
    return app.partition("+")[0]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
