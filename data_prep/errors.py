"""What can go wrong with data, each said in one line that ends with what mends it."""

from __future__ import annotations


class DataError(Exception):
    """Data cannot be prepared or used as asked; the message is for the user."""

    exit_code = 1


class MissingDataError(DataError):
    """The data set was never prepared in this data folder."""


class DamagedDataError(DataError):
    """Stored data is not what was stored, or was stored by another version: it must be prepared again.

    `reason` is the message without the command that mends it.
    """

    def __init__(self, reason: str, dataset: str, variant: str | None = None) -> None:
        super().__init__(f"{reason}: {preparing(dataset, variant)}")
        self.reason = reason


class SourceError(DataError):
    """One source did not give the right bytes; another one may."""


class StorageError(DataError):
    """The data folder cannot be written: full disk, no permission, not a folder."""


def preparing(dataset: str, variant: str | None = None) -> str:
    """The end of an error message that `prepare` mends."""
    return f"run `python cli.py prepare {dataset}{f' --variant {variant}' if variant else ''}`"
