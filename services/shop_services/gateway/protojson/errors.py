"""What can be wrong with a value, told with the path of the field, as `google.rpc.BadRequest` spells it."""

from __future__ import annotations


class FieldError(ValueError):
    """A value does not fit its field. `path` is made of proto names (`items[2].unit_price`), `""` for the whole."""

    def __init__(self, path: str, description: str) -> None:
        super().__init__(f"{path}: {description}" if path else description)
        self.path = path
        self.description = description

    def within(self, parent: str) -> FieldError:
        """The same error as seen from the message, list or map that holds `parent`."""
        separator = "." if self.path and not self.path.startswith("[") else ""
        return FieldError(f"{parent}{separator}{self.path}", self.description)


class Unprintable(ValueError):
    """A message holds what JSON cannot say, for example a Timestamp of the year 10,000."""
