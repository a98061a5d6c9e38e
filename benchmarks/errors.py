"""What can go wrong in a way that a user can mend: each error is one line and carries the command line's exit code."""

from __future__ import annotations

from results.escape import for_terminal


class OneLineError(Exception):
    """An error whose message is one printable line, whatever a user typed into it."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(for_terminal(message))


class RecipeError(OneLineError):
    """A benchmark or setting that does not exist or cannot be: the message says what was expected."""

    exit_code = 2


class EngineError(OneLineError):
    """An engine or device that cannot be had here: the message says what to do instead."""


class RunError(OneLineError):
    """A run folder that is absent, damaged or in use: the message says what to do."""


class CodeError(RunError):
    """The code cannot be read, or is no longer what the command began with: the message says how to go on."""
