"""The secrets that webhooks are signed with: from the settings, or from a file that is read again when it changes."""

import structlog

from taskmill.engine.errors import SettingsError
from taskmill.store.formats.key_texts import parse_webhook_secrets
from taskmill.store.setting_names import setting_name
from taskmill.store.settings import StoreSettings

__all__ = ["WebhookSecrets"]

log = structlog.get_logger()


class WebhookSecrets:
    """The secrets of one process."""

    def __init__(self, settings: StoreSettings) -> None:
        """Read them.

        Raises:
            SettingsError: they cannot be read; the message shows none of them.
        """
        self._file = settings.webhook_secret_file
        self._known = settings.webhook_secret
        self._state: object = None
        self._warned: str | None = None
        if self._file is not None:
            self._read()

    def current(self) -> tuple[bytes, ...]:
        """The secrets now. Of a file that cannot be read any more, those that were read last; that is logged once."""
        if self._file is not None:
            try:
                self._read()
                self._warned = None
            except SettingsError as exc:
                if str(exc) != self._warned:
                    hint = "those that were read before stay in use"
                    log.error("webhook.secrets_unreadable", why=str(exc), hint=hint)
                self._warned = str(exc)
        return self._known

    def _read(self) -> None:
        assert self._file is not None
        name = f"{setting_name('webhook_secret_file')}: {self._file}"
        try:
            found = self._file.stat()
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if state == self._state:
                return
            known = parse_webhook_secrets(self._file.read_text(encoding="ascii"))
        except OSError as exc:
            raise SettingsError(f"{name} cannot be read: {exc.strerror}.") from exc
        except ValueError as exc:
            why = "secrets must be whsec_ and base64" if isinstance(exc, UnicodeError) else exc
            raise SettingsError(f"{name}: {why}.") from exc
        if not known:
            raise SettingsError(f"{name} has no secret. Put one on a line: echo whsec_$(openssl rand -base64 32).")
        self._known, self._state = known, state
