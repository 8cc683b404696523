"""`--data DIR`, for commands that look into the data directory of a shop."""

from __future__ import annotations

import argparse

from shop_services.runtime.settings import Settings, environment


def add_data_flag(*parsers: argparse.ArgumentParser) -> None:
    """Give each command the flag, which goes before SHOP_DATA."""
    for parser in parsers:
        parser.add_argument("--data", metavar="DIR", help="the shop's data directory (SHOP_DATA, or .shop)")


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings of this process, with the flag's value. Raises `SettingError`."""
    given = {} if options.data is None else {"SHOP_DATA": options.data}
    return Settings.from_environment({**environment(), **given})
