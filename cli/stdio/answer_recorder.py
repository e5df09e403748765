"""Keeps the first answers of a loaded server for the next start, where they cannot become wrong unnoticed."""

import asyncio
import sys
import threading
from types import ModuleType

import structlog

from taskmill.adapters.remote.target import is_remote
from taskmill.cli.loading import main_file
from taskmill.cli.processes.file_changes import SourceFiles
from taskmill.cli.stdio.early_start import HostConnection
from taskmill.cli.stdio.fixed_handshake import is_fixed
from taskmill.server.tool_host import ToolHost

__all__ = ["AnswerRecorder"]

log = structlog.get_logger()


class AnswerRecorder:
    """Sees the messages of one server to its host."""

    def __init__(self, host: HostConnection, server: ToolHost) -> None:
        """Must be made in the event loop."""
        self._host = host
        self._server = server
        self._recorded = 0
        self._recording: asyncio.Task[None] | None = None
        self._lock = threading.Lock()

    def passes(self, text: str) -> bool:
        """Whether a message goes to the host: not the answer to a request that was answered before."""
        handshake = self._host.handshake
        passes = handshake.send(text)
        if handshake.differs and self._host.answers is not None:
            handshake.differs = False
            self._host.answers.remove()
            log.error("stdio.answer_outdated", hint="the server answers differently now: start it again")
        if len(handshake.learned) > self._recorded and self._host.answers is not None:
            self._recorded = len(handshake.learned)
            self._recording = asyncio.create_task(asyncio.to_thread(self._record))
        return passes

    async def close(self) -> None:
        """Wait until what is being kept is kept."""
        if self._recording is not None:
            await asyncio.wait([self._recording])

    def _record(self) -> None:
        # The answer to a probe may still be written when that to `initialize` comes.
        with self._lock:
            self._record_all()

    def _record_all(self) -> None:
        answers, target = self._host.answers, self._server.import_path
        if answers is None or target is None:
            return
        known = {**self._host.known, **self._host.handshake.learned}
        if is_remote(target):
            files = {file for module in _modules() if (file := _file(module))}
            named = {str(path)} if (path := main_file(target)) else set()
            log.debug("stdio.answers_kept", kept=answers.write(known, files | named, ()))
            return
        main = str(main_file(target))
        modules = _modules()
        authored = {str(path) for path in SourceFiles.loaded(main_file(target)).stamps}
        if not is_fixed(self._server, main, [module for module in modules if _file(module) in authored]):
            answers.remove()
            return
        folders = {path.rpartition("/")[0] for path in authored}
        files = {file for module in modules if (file := _file(module))} | authored
        log.debug("stdio.answers_kept", kept=answers.write(known, files, folders))


def _modules() -> list[ModuleType]:
    return [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]


def _file(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None
