"""The environment of tool processes: the author's variables, and nothing of the operator's that is not named."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from taskmill.workers.isolation.secrets import OURS, addresses_of, secrets_of
from taskmill.workers.settings import WorkerSettings

__all__ = ["environment_of_tools"]

_ALWAYS = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "PYTHON*", "VIRTUAL_ENV",
           "LD_LIBRARY_PATH", "DYLD_*", "SSL_CERT_*", "_TASKMILL_*")  # fmt: skip
"""What an interpreter needs to be the same one, whatever the setting names."""
_BUCKET = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE",
           "AWS_CONTAINER_*", "AWS_PROFILE")  # fmt: skip
"""With artifacts in a bucket these open it, and with it what all callers have there."""


def environment_of_tools(environment: Mapping[str, str], settings: WorkerSettings) -> tuple[dict[str, str], list[str]]:
    """What they get of this environment, and the names of the author's variables that are withheld as secrets."""
    patterns = [word.strip() for word in settings.isolation_env.split(",") if word.strip()]
    excluded = [word[1:] for word in patterns if word.startswith("!")]
    named = [word for word in patterns if not word.startswith("!")]
    secrets = secrets_of(settings, environment) | addresses_of(settings)
    given: dict[str, str] = {}
    withheld: list[str] = []
    for name, value in environment.items():
        if _matches(name, excluded):
            continue
        if name in named or _matches(name, _ALWAYS):
            given[name] = value
        elif _matches(name, named) and not name.startswith(OURS):
            if any(secret in value for secret in secrets) or (_uses_bucket(settings) and _matches(name, _BUCKET)):
                withheld.append(name)
            else:
                given[name] = value
    return given, sorted(withheld)


def _matches(name: str, patterns: "list[str] | tuple[str, ...]") -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _uses_bucket(settings: WorkerSettings) -> bool:
    return settings.artifacts.startswith("s3:")
