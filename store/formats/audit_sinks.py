"""Reads `TASKMILL_AUDIT`: the sinks of the audit trail. Opens none."""

__all__ = ["FILE", "LOG", "REDIS", "sinks_of"]

LOG, FILE, REDIS = "log", "file", "redis"


def sinks_of(text: str) -> list[tuple[str, str]]:
    """Kind and path of each sink in `log,file:PATH,redis`; the path is empty but for a file.

    Raises:
        ValueError: there is no such sink, a file has no path, or two are the same.
    """
    sinks: list[tuple[str, str]] = []
    for word in (part.strip() for part in text.split(",")):
        if not word:
            continue
        kind, _, path = word.partition(":")
        if kind not in (LOG, FILE, REDIS) or (kind == FILE) != bool(path):
            raise ValueError("each must be log, file:PATH or redis, separated by commas")
        if (kind, path) in sinks:
            raise ValueError(f"{word} is there twice")
        sinks.append((kind, path))
    return sinks
