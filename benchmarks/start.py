"""What must hold before anything else is loaded: a Python that is new enough, the packages, streams to print to.

Every Python from 3.6 on understands this file, which imports the standard library alone: so that who has the wrong
environment is told so in one line.
"""

import codecs
import os
import signal
import sys

PYTHON = (3, 11)
LEAST_MEMORY = 512 << 20  # bytes; with 200 MB of address space OpenBLAS has been seen to wait for a buffer for ever
INTERRUPTED = 130  # what shells report of a command that Ctrl-C ended
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Where the README's commands and an error of this module make an environment, relative to the repository.
ENVIRONMENTS = (".tox/reproduce", ".venv", ".tox/tests", ".tox/torch")
NEEDED = ("click", "msgspec", "yaml", "rich")  # what the command line itself imports


def check_python():  # type: () -> None
    """End with one line where Python is too old for this code, or the system has no locks of files (fcntl).

    Or where Python was told to take away all docstrings.
    """
    if os.name == "nt":
        _refuse("this is Windows, expected Linux or macOS; Windows' own Linux (WSL) is one")
    if sys.version_info < PYTHON:
        found, wanted = (".".join(map(str, version)) for version in (sys.version_info[:2], PYTHON))
        _refuse(f"this is Python {found}, expected {wanted} or later: {_mend()}")
    if sys.flags.optimize > 1:
        _refuse("this is `python -OO`, or PYTHONOPTIMIZE=2, which takes away texts that MXNet needs: start without it")


def check_memory_limit():  # type: () -> None
    """End with one line where so little memory is allowed that OpenBLAS would wait for it without end."""
    limit = memory_limit()
    if limit is not None and limit < LEAST_MEMORY:
        _refuse(f"memory is limited to {limit >> 20} MiB, this program needs {LEAST_MEMORY >> 20}: {more_memory()}")


def memory_limit():  # type: () -> int | None
    """Bytes of address space that this process may have; None: no limit is set."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def more_memory():  # type: () -> str
    """The end of an error message: what gives this process more memory."""
    if memory_limit() is not None:
        return "expected a higher limit of this shell's, `ulimit -v unlimited` takes it away"
    return "expected more of it to be free, or a smaller network or batch"


def refuse_import(error):  # type: (ImportError) -> None
    """End with one line that says which package is missing, and which environment has it."""
    _refuse(f"{error}, in the environment of {sys.executable}: {_mend()}")


def _refuse(reason):  # type: (str) -> None
    sys.stderr.write(f"error: {reason}\n")
    sys.exit(1)


def _mend():  # type: () -> str
    """An environment of this checkout that has the packages, or else how to make one."""
    for name in ENVIRONMENTS:
        folder = os.path.join(REPOSITORY, name)
        python = os.path.join(folder, "bin", "python")
        if os.path.exists(python) and all(_has(folder, package) for package in NEEDED):
            return f"use {relative(python)} in place of python"
    folder, lock = (relative(os.path.join(REPOSITORY, name)) for name in (".venv", "requirements.txt"))
    return f"make an environment with `python3.11 -m venv {folder} && {folder}/bin/python -m pip install -r {lock}`"


def _has(folder, package):  # type: (str, str) -> bool
    library = os.path.join(folder, "lib")
    versions = os.listdir(library) if os.path.isdir(library) else []
    return any(os.path.isdir(os.path.join(library, version, "site-packages", package)) for version in versions)


def relative(path):  # type: (str) -> str
    """The path as it is typed in the current folder, where that is shorter."""
    try:
        return min(os.path.relpath(path), path, key=len)
    except (OSError, ValueError):  # the current folder is gone, or on another drive
        return path


def end_at_once_on_ctrl_c():  # type: () -> None
    """While modules are loaded and commands are defined nothing has begun: Ctrl-C ends that without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, or somebody's own
        signal.signal(signal.SIGINT, _end_at_once)


def interrupt_on_ctrl_c():  # type: () -> None
    """Ctrl-C is KeyboardInterrupt again, which each command answers in its way."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at_once(*_):  # type: (object) -> None
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def settle_streams():  # type: () -> None
    """Standard streams that are closed become the null device; what an encoding lacks is escaped, not an error.

    A closed one would else be the next file that is opened, and get what libraries print.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    codecs.register_error("bnn_escape", _escape)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for good
        else:
            stream.reconfigure(errors="bnn_escape")


def _escape(error):  # type: (UnicodeError) -> tuple[str, int]
    r"""As \u00b1, which JSON understands too; the plus-minus sign of the tables as +-."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    codes = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
    return "".join("+-" if code == "00b1" else "\\u" + code for code in codes), error.end
