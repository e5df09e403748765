"""Settings of the store: what is refused, in words that name the variable and show no secret."""

import base64
from datetime import timedelta
from typing import Any

import pytest

from taskmill.engine.errors import SettingsError
from taskmill.store.settings import StoreSettings, read_settings

KEY, OTHER = b"k" * 32, b"o" * 32


def in_base64(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


@pytest.mark.parametrize(
    ("setting", "variable"),
    [
        ({"prefix": "a b"}, "TASKMILL_PREFIX"),
        ({"prefix": "{a}"}, "TASKMILL_PREFIX"),
        ({"prefix": "a'b"}, "TASKMILL_PREFIX"),
        ({"prefix": ""}, "TASKMILL_PREFIX"),
        ({"prefix": "a\n"}, "TASKMILL_PREFIX"),
        ({"lease": 0.29}, "TASKMILL_LEASE"),
        ({"lease": 3601}, "TASKMILL_LEASE"),
        ({"lease": float("nan")}, "TASKMILL_LEASE"),
        ({"crash_limit": -1}, "TASKMILL_CRASH_LIMIT"),
        ({"open_limit": -1}, "TASKMILL_OPEN_LIMIT"),
        ({"max_arguments": 0}, "TASKMILL_MAX_ARGUMENTS"),
        ({"command_timeout": 0}, "TASKMILL_COMMAND_TIMEOUT"),
        ({"retention_limit": 0.5}, "TASKMILL_RETENTION_LIMIT"),
    ],
    ids=str,
)
def test_a_value_that_cannot_work_is_refused_and_its_variable_named(setting: dict[str, Any], variable: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}: "):
        read_settings(StoreSettings, **setting)


def test_settings_come_from_the_environment_and_what_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKMILL_LEASE", "20")
    monkeypatch.setenv("TASKMILL_CRASH_LIMIT", "5")
    monkeypatch.setenv("TASKMILL_SEAL_KEYS", in_base64(KEY, OTHER))

    settings = read_settings(StoreSettings, lease=30, prefix=None)

    assert (settings.lease_ms, settings.crash_limit, settings.prefix) == (30_000, 5, "taskmill")
    assert settings.seal_keys == (KEY, OTHER)


@pytest.mark.parametrize(
    ("keys", "advice"),
    [("secret-but-not-base64!", "keys must be base64"), (in_base64(b"short-secret"), "every key must be 32 bytes")],
)
def test_a_seal_key_that_is_none_is_refused_and_not_shown(keys: str, advice: str) -> None:
    with pytest.raises(SettingsError, match=advice) as refused:
        read_settings(StoreSettings, seal_keys=keys)
    assert "TASKMILL_SEAL_KEYS" in str(refused.value)
    assert keys not in str(refused.value)


def test_a_seal_key_given_as_bytes_must_have_the_right_length_too() -> None:
    with pytest.raises(SettingsError, match="every key must be 32 bytes"):
        read_settings(StoreSettings, seal_keys=(b"short",))


def test_seal_keys_may_be_spaced_and_end_with_a_comma() -> None:
    assert read_settings(StoreSettings, seal_keys=f" {in_base64(KEY)} , {in_base64(OTHER)},").seal_keys == (KEY, OTHER)


def test_the_retention_is_cut_to_the_limit() -> None:
    settings = StoreSettings(retention_limit=60)

    assert settings.kept_for(timedelta(seconds=59)) == timedelta(seconds=59)
    assert settings.kept_for(timedelta(days=1)) == timedelta(minutes=1)


@pytest.mark.parametrize("name", ["RETENTION_LIMIT", "SESSION_IDLE", "COMMAND_TIMEOUT"])
@pytest.mark.parametrize("value", ["inf", "1e300", "nan"])
def test_a_length_that_no_clock_can_count_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TASKMILL_{name}", value)
    with pytest.raises(SettingsError, match=f"TASKMILL_{name}"):
        read_settings(StoreSettings)
