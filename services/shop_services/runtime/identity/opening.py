"""From the settings to the keys that they name, and what to tell the operator where one is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from shop_services.runtime.identity.directory import KeyDirectory
from shop_services.runtime.identity.keys import Keys, MissingKey, PrivateKey
from shop_services.runtime.settings import SettingError, Settings

_VARIABLE = "SHOP_KEYS_DIR"


def key_directory(settings: Settings, clock: Callable[[], float]) -> KeyDirectory:
    """The keys that the settings name; those in SHOP_DATA are made where they are missing.

    Raises:
        SettingError: SHOP_KEYS_DIR names no directory.
    """
    if settings.keys_dir is not None and not settings.keys_dir.is_dir():
        raise SettingError(_VARIABLE, f"there is no directory {settings.keys_dir}; `shop keys init` makes it")
    return KeyDirectory(settings.keys, make=settings.keys_dir is None, clock=clock)


def signing_key(keys: Keys, owner: str) -> PrivateKey:
    """The key of `owner` to sign with, whose absence is a reason not to start. Raises `SettingError`."""
    try:
        return keys.signing(owner)
    except MissingKey as error:
        raise SettingError(_VARIABLE, f"{error}; `shop keys init` makes what is missing") from error
    except OSError as error:
        raise SettingError(_VARIABLE, f"no key of {owner!r} can be made: {error.strerror}") from error


def check_keys(settings: Settings, owners: Iterable[str]) -> None:
    """Raise `SettingError` unless each of `owners` has a key to sign with, or is going to make it in SHOP_DATA."""
    if settings.keys_dir is not None:
        keys = key_directory(settings, time.time)
        for owner in owners:
            signing_key(keys, owner)
