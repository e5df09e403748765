"""The model that a server asks itself, where its client has none: which one it is, and how it is called.

An API of a vendor is one module each beside this one; what an author gives is called as it is.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, Protocol

import structlog
from mcp_types import CreateMessageRequestParams, CreateMessageResult, CreateMessageResultWithTools, TextContent

from taskmill.engine.errors import SettingsError
from taskmill.server.sampling.failures import SamplingFailed
from taskmill.server.sampling.request import Answer, text_of, wants_tools
from taskmill.server.settings import SamplingSettings
from taskmill.store.settings import read_settings

__all__ = ["OwnModel", "SamplingHandler", "SamplingSource"]

SamplingSource = Literal["client", "server"]
log = structlog.get_logger()
_NO_MODEL = SamplingFailed(
    "TASKMILL_SAMPLING_FROM is server, and the server has no model: set TASKMILL_SAMPLING_MODEL=anthropic/NAME or "
    "openai/NAME.",
    reason="bad_setting",
)
_APIS = {"anthropic": "AnthropicModel", "openai": "OpenAIModel"}


class SamplingHandler(Protocol):
    """Answers a sampling request: a function of the author's, or one of Taskmill's."""

    async def __call__(self, request: CreateMessageRequestParams, /) -> str | Answer:
        """The model's answer; a `str` is its text.

        What it raises fails the tool like an error of its own; `SamplingFailed` is shown to the caller.
        """


class OwnModel:
    """Which model a server asks, by what its author wrote, else by `TASKMILL_SAMPLING_MODEL`."""

    def __init__(self, given: SamplingHandler | str | None, source: SamplingSource | None) -> None:
        """`given`: a handler, or `anthropic/NAME` or `openai/NAME`.

        Raises:
            SettingsError: it is neither.
        """
        if source not in (None, "client", "server"):
            raise SettingsError(f'sampling_from is "client" or "server", not {source!r}')
        self._name = given if isinstance(given, str) else None
        if isinstance(given, str):
            given = _vendor_of(given)
        elif given is not None and not callable(given):
            raise SettingsError("sampling is anthropic/NAME, openai/NAME, or an async function of the request")
        self._given = given
        self._source = source
        self._known: SamplingSettings | None = None

    @property
    def is_first(self) -> bool:
        """Whether it is asked although the client has a model.

        Raises:
            SamplingFailed: the settings cannot work.
        """
        return self.is_set and (self._source or self._settings().sampling_from) == "server"

    @property
    def is_set(self) -> bool:
        """Whether there is one.

        Raises:
            SamplingFailed: the settings cannot work.
        """
        return self._given is not None or self._settings().sampling_model is not None

    @property
    def name(self) -> str | None:
        """What it is called; None = there is none."""
        return self._name or ("a function of the server's" if self._given else self._settings().sampling_model)

    def check(self) -> SamplingFailed | None:
        """Why it could not be asked, as far as that is known without asking it; None = nothing is known.

        Raises:
            SettingsError: a setting has a value that cannot work.
        """
        if self._known is None:
            self._known = read_settings(SamplingSettings)
        if not self.is_set:
            return _NO_MODEL if (self._source or self._known.sampling_from) == "server" else None
        handler = self._given or _vendor_of(self._known.sampling_model or "")
        fault: SamplingFailed | None = handler.fault() if hasattr(handler, "fault") else None
        return fault

    def check_at_start(self) -> None:
        """Report in the log why it could not be asked: before its first use, and for a process that may never use it.

        Raises:
            SettingsError: a setting has a value that cannot work.
        """
        if (fault := self.check()) is not None:
            log.warning("sampling.not_ready", model=self.name, reason=fault.reason, detail=fault.text)

    async def ask(self, request: CreateMessageRequestParams) -> Answer:
        """Its answer, with tool calls if the request has tools.

        Raises:
            SamplingFailed: it cannot be asked; the text says why.
        """
        if self._given is None:
            self._given = _vendor_of(self._settings().sampling_model or "")
        answer = await self._given(request)
        if isinstance(answer, str):
            answer = CreateMessageResult(role="assistant", content=TextContent(type="text", text=answer), model="own")
        if not isinstance(answer, CreateMessageResult | CreateMessageResultWithTools):
            raise TypeError(f"A sampling handler returns text or a CreateMessageResult, not {type(answer).__name__}.")
        return answer if wants_tools(request) else _plain(answer)

    def _settings(self) -> SamplingSettings:
        if self._known is None:
            try:
                self._known = read_settings(SamplingSettings)
            except SettingsError as exc:
                raise SamplingFailed(str(exc), reason="bad_setting") from None
        return self._known


def _vendor_of(name: str) -> SamplingHandler:
    vendor, _, model = name.partition("/")
    if vendor not in _APIS or not model:
        raise SettingsError(f"A model is named anthropic/NAME or openai/NAME, not {name!r}")
    made: Callable[[str], Any] = getattr(import_module(f"{__package__}.{vendor}_api"), _APIS[vendor])
    handler: SamplingHandler = made(model)
    return handler


def _plain(answer: Answer) -> Answer:
    """The answer to a request without tools, whose content is one block."""
    if isinstance(answer, CreateMessageResult):
        return answer
    content = TextContent(type="text", text=text_of(answer))
    return CreateMessageResult(role="assistant", content=content, model=answer.model, stop_reason=answer.stop_reason)
