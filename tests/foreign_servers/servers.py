"""The servers of other people: what starts each, what it works on, and one call of each of its tools."""

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.foreign_servers.installation import npm_server, python_server

__all__ = ["SERVERS", "ForeignServer"]

Json = dict[str, Any]
Call = tuple[str, Json]


@dataclass(frozen=True)
class ForeignServer:
    """One server. `{folder}` in a word, a value or an argument is the folder that it works on."""

    words: Callable[[], list[str]]
    """Installs it; the words that start it."""
    calls: Sequence[Call]
    """One call or more of each tool, in an order in which they make sense."""
    prepare: Callable[[Path], None] = lambda folder: None
    """Makes what it works on, in an empty folder."""
    more_words: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    http_words: Sequence[str] = ()
    """The words behind `words` that make it serve over HTTP, at the port of the variable PORT; () = a bridge does."""
    alone: Mapping[str, str] = field(default_factory=dict)
    """Tools that are not called beside the others -> why."""
    toggles: Sequence[str] = ()
    """Tools that answer by what the session did before: each way needs sessions of its own."""
    asks_roots: Sequence[str] = ()
    """Tools that ask for roots: a call that is handed off cannot be asked for any."""
    own_tasks: Sequence[str] = ()
    """One tool that the server itself runs as a task, and in no other way."""
    completion: tuple[str, str, str] | None = None
    """A prompt, one of its arguments, and the beginning of a value."""


def _files(folder: Path) -> None:
    (folder / "shelf").mkdir()
    (folder / "shelf" / "jam.txt").write_text("plum\npear\napple\n")
    (folder / "shelf" / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def _repository(folder: Path) -> None:
    repository = folder / "repository"
    repository.mkdir()
    for words in (
        ["init", "-q", "-b", "main"],
        ["config", "user.name", "Ada"],
        ["config", "user.email", "ada@x.example"],
    ):
        subprocess.run(["git", *words], cwd=repository, check=True)
    (repository / "jam.txt").write_text("plum\n")
    subprocess.run(["git", "add", "jam.txt"], cwd=repository, check=True)
    dates = {f"GIT_{who}_DATE": "2026-01-02T03:04:05Z" for who in ("AUTHOR", "COMMITTER")}
    git = shutil.which("git") or "git"
    subprocess.run([git, "commit", "-qm", "First"], cwd=repository, check=True, env=dates)
    (repository / "jam.txt").write_text("plum\npear\n")


def _entity(name: str) -> Json:
    return {"name": name, "entityType": "jar", "observations": ["full"]}


_PLUM_TO_PEAR = {"relations": [{"from": "plum", "to": "pear", "relationType": "beside"}]}
_JAM = {"path": "{folder}/shelf/jam.txt"}
_REPOSITORY = {"repo_path": "{folder}/repository"}
SERVERS: Mapping[str, ForeignServer] = {
    "everything": ForeignServer(
        lambda: npm_server("server-everything"),
        [
            ("echo", {"message": "hello"}),
            ("get-annotated-message", {"messageType": "error", "includeImage": True}),
            ("get-resource-links", {"count": 3}),
            ("get-resource-reference", {"resourceType": "Text", "resourceId": 1}),
            ("get-structured-content", {"location": "Chicago"}),
            ("get-sum", {"a": 2, "b": 3.5}),
            ("get-sum", {"a": "no number"}),
            ("get-tiny-image", {}),
            ("gzip-file-as-resource", {"name": "a.gz", "data": "data:text/plain;base64,aGVsbG8="}),
            ("toggle-simulated-logging", {}),
            ("toggle-subscriber-updates", {}),
            ("trigger-long-running-operation", {"duration": 2, "steps": 4}),
            ("get-roots-list", {}),
            ("trigger-elicitation-request", {}),
            ("trigger-sampling-request", {"prompt": "a jar", "maxTokens": 5}),
            ("simulate-research-query", {"topic": "jam"}),
        ],
        http_words=["streamableHttp"],
        alone={
            "get-env": "each process has an environment of its own",
            "trigger-url-elicitation": "no client here opens an address",
            "trigger-sampling-request-async": "for clients that run tasks themselves",
            "trigger-elicitation-request-async": "for clients that run tasks themselves",
        },
        toggles=["toggle-simulated-logging", "toggle-subscriber-updates"],
        asks_roots=["get-roots-list"],
        own_tasks=["simulate-research-query"],
        completion=("completable-prompt", "department", "E"),
    ),
    "filesystem": ForeignServer(
        lambda: npm_server("server-filesystem"),
        [
            ("read_file", _JAM),
            ("read_text_file", _JAM | {"head": 1}),
            ("read_media_file", {"path": "{folder}/shelf/dot.png"}),
            ("read_multiple_files", {"paths": ["{folder}/shelf/jam.txt", "{folder}/absent"]}),
            ("write_file", {"path": "{folder}/new.txt", "content": "new"}),
            ("edit_file", {"path": "{folder}/new.txt", "edits": [{"oldText": "new", "newText": "newer"}]}),
            ("create_directory", {"path": "{folder}/made"}),
            ("move_file", {"source": "{folder}/new.txt", "destination": "{folder}/made/new.txt"}),
            ("list_directory", {"path": "{folder}"}),
            ("list_directory_with_sizes", {"path": "{folder}/shelf"}),
            ("directory_tree", {"path": "{folder}"}),
            ("search_files", {"path": "{folder}", "pattern": "**/*.txt"}),
            ("list_allowed_directories", {}),
            ("read_text_file", {"path": "/etc/passwd"}),
        ],
        prepare=_files,
        more_words=["{folder}"],
        alone={"get_file_info": "its times are those of each run"},
    ),
    "memory": ForeignServer(
        lambda: npm_server("server-memory"),
        [
            ("create_entities", {"entities": [_entity("plum"), _entity("pear")]}),
            ("create_relations", _PLUM_TO_PEAR),
            ("add_observations", {"observations": [{"entityName": "plum", "contents": ["sweet"]}]}),
            ("read_graph", {}),
            ("search_nodes", {"query": "pl"}),
            ("open_nodes", {"names": ["pear"]}),
            ("add_observations", {"observations": [{"entityName": "absent", "contents": []}]}),
            ("delete_observations", {"deletions": [{"entityName": "plum", "observations": ["sweet"]}]}),
            ("delete_relations", _PLUM_TO_PEAR),
            ("delete_entities", {"entityNames": ["plum"]}),
            ("read_graph", {}),
        ],
        environment={"MEMORY_FILE_PATH": "{folder}/memory.jsonl"},
    ),
    "time": ForeignServer(
        lambda: python_server("mcp-server-time"),
        [
            ("get_current_time", {"timezone": "Etc/UTC"}),
            ("convert_time", {"source_timezone": "Etc/UTC", "time": "12:30", "target_timezone": "Asia/Tokyo"}),
            ("get_current_time", {"timezone": "Nowhere/At_All"}),
        ],
    ),
    "git": ForeignServer(
        lambda: python_server("mcp-server-git"),
        [
            ("git_status", _REPOSITORY),
            ("git_diff_unstaged", _REPOSITORY),
            ("git_add", _REPOSITORY | {"files": ["jam.txt"]}),
            ("git_diff_staged", _REPOSITORY),
            ("git_reset", _REPOSITORY),
            ("git_log", _REPOSITORY),
            ("git_show", _REPOSITORY | {"revision": "HEAD"}),
            ("git_diff", _REPOSITORY | {"target": "HEAD"}),
            ("git_create_branch", _REPOSITORY | {"branch_name": "other"}),
            ("git_branch", _REPOSITORY | {"branch_type": "local"}),
            ("git_checkout", _REPOSITORY | {"branch_name": "other"}),
            ("git_add", _REPOSITORY | {"files": ["jam.txt"]}),
            ("git_commit", _REPOSITORY | {"message": "Second"}),
            ("git_show", _REPOSITORY | {"revision": "absent"}),
        ],
        prepare=_repository,
        environment={
            "GIT_AUTHOR_DATE": "2026-01-02T03:04:06Z",
            "GIT_COMMITTER_DATE": "2026-01-02T03:04:06Z",
            "HOME": "{folder}",
        },
    ),
}  # fmt: skip
