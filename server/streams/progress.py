"""Progress notifications: figures that rise with every one, and the notification itself."""

from collections.abc import Mapping
from typing import Any

from taskmill.engine.record import Progress

__all__ = ["RisingProgress", "progress_notification"]

_STEP = 1e-6


class RisingProgress:
    """Progress figures of one call, which must rise with every notification (progress, "Progress Flow").

    For a heartbeat, or a tool that reports something new without having got further, the figure rises a very little.
    """

    def __init__(self) -> None:
        self._last: float | None = None

    def next(self, done: float | None) -> float:
        """The figure to send for a tool that has reported `done`, None = it has reported no figure."""
        value = done if done is not None else (self._last or 0.0)
        if self._last is not None and value <= self._last:
            value = self._last + _STEP * max(1.0, abs(self._last))
        self._last = value
        return value


def progress_notification(
    token: str | int, figure: float, progress: Progress, text: str, *, meta: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`notifications/progress` as a JSON-RPC message. `figure`: sent as `progress`. An empty text is left out."""
    params: dict[str, Any] = {
        "progressToken": token,
        "progress": figure,
        **({} if progress.total is None else {"total": progress.total}),
        **({"message": text} if text else {}),
        **({} if meta is None else {"_meta": dict(meta)}),
    }
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
