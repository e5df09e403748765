"""Events of tasks as text of an event stream, made once for all who follow the same task in this process."""

import json
from collections import OrderedDict

from taskmill.engine.events import Event
from taskmill.server.api.shapes import event_json

__all__ = ["Frames"]

_REMEMBERED = 256


class Frames:
    """The last frames that were made."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, int, int, bool], bytes] = OrderedDict()

    def of(self, task_id: str, event: Event, *, to_operator: bool) -> bytes:
        """The event with its number, its move and its JSON."""
        # The time stands for what a store that lost its last second may have put in the event's place.
        key = (task_id, event.seq, event.at_ms, to_operator)
        frame = self._made.get(key)
        if frame is None:
            data = json.dumps(event_json(event, to_operator=to_operator), separators=(",", ":"))
            frame = f"id: {event.seq}\r\nevent: {event.move.value}\r\ndata: {data}\r\n\r\n".encode()
            self._made[key] = frame
            if len(self._made) > _REMEMBERED:
                self._made.popitem(last=False)
        return frame
