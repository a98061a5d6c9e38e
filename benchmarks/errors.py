"""What can go wrong in a way that a user can mend: each error is one line and carries the command line's exit code."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line that any stream takes: what cannot be printed in it is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class OneLineError(Exception):
    """An error whose message is one printable line, whatever a user typed into it."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RecipeError(OneLineError):
    """A benchmark or setting that does not exist or cannot be: the message says what was expected."""

    exit_code = 2


class EngineError(OneLineError):
    """An engine or device that cannot be had here: the message says what to do instead."""


class RunError(OneLineError):
    """A run folder that is absent, damaged or in use: the message says what to do."""


class CodeError(RunError):
    """The code cannot be read, or is no longer what the command began with: the message says how to go on."""
