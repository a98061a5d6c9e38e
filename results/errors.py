"""The errors of the results registry, each with the exit code that the command line ends with."""

from __future__ import annotations

from pathlib import Path


class RegistryError(Exception):
    """A record or the registry is not what it must be; the message names the file and the field."""

    exit_code = 7

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class RegistryFileError(RegistryError):
    """A file could not be read or written: no space, no permission, not there. It says nothing about the records."""

    exit_code = 1


class NewerSchemaError(RegistryError):
    """A record that a later version wrote: it is passed over, with a word about it."""


def field_and_message(error: RegistryError, path: Path) -> tuple[str, str]:
    """The field that an error of a file is about, and what is wrong with it, without the names of file and field."""
    field = error.field or "content"
    return field, str(error).removeprefix(f"{path}: ").removeprefix(f"{field}: ")
