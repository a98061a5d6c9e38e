"""Which engines there are, which of them are installed, and which one "auto" stands for here; nothing is imported."""

from __future__ import annotations

import importlib.util
import platform
import sys
from typing import NamedTuple

from benchmarks.errors import EngineError
from benchmarks.machine.facts import nvidia_gpus
from benchmarks.recipe.networks import NETWORKS

# Engine name -> module with open(model, input_shape, seed, device, threads), and for some two options more: see
# open_engine. Imported only when opened.
ENGINES = {"gluon": "bnn_gluon.engine", "torch": "bnn_torch.engine"}
# Engine name -> the package whose presence says that it is installed, and what installs it.
PACKAGES = {
    "gluon": ("mxnet", "python -m pip install -r requirements.txt"),
    "torch": ("torch", "python -m pip install -r requirements-torch.txt"),
}
# What mxnet 1.9.1 has packages for: (system, machine) as `platform` names them.
MXNET_SYSTEMS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64")}
DEVICES = ("cpu", "gpu")
AUTO = "auto"
PRECISIONS = ("float32", "tf32", "bf16")
COMPILE = ("auto", "on", "off")
# Why something is chosen.
ON_EVERY_GPU = "the torch engine runs on every NVIDIA GPU"
NO_TORCH = "torch is not installed"


def installed_engines() -> list[str]:
    """Engines whose framework is installed; nothing is imported."""
    return [name for name, (package, _) in PACKAGES.items() if importlib.util.find_spec(package) is not None]


class Choice(NamedTuple):
    """An engine, a device that it can use here, and why it was chosen."""

    engine: str
    device: str
    reason: str


def choose(engine: str = AUTO, device: str = AUTO, architecture: str = "") -> Choice:
    """What "auto" stands for here, by what is installed and which GPUs there are; anything else is left as it is.

    An NVIDIA GPU is for the torch engine, which runs on all of them; the gluon engine uses one when it is asked to.
    Without one, or without torch, the engine is gluon where mxnet is installed, else torch, on the CPU. GluonCV's
    networks, an `architecture` of NETWORKS, are for gluon alone. Nothing is imported.

    Raises:
        EngineError: neither framework is installed.
    """
    installed = installed_engines()
    if engine == AUTO and not installed:
        raise EngineError(f"no engine is installed: run `{'` or `'.join(mend for _, mend in PACKAGES.values())}`")
    if engine == AUTO and architecture in NETWORKS:
        return Choice("gluon", "cpu" if device == AUTO else device, "GluonCV's networks are for MXNet")
    gpus = [] if device == "cpu" else nvidia_gpus()
    if engine == AUTO and device == "gpu":
        return Choice("torch", "gpu", ON_EVERY_GPU) if "torch" in installed else Choice("gluon", "gpu", NO_TORCH)
    if engine in (AUTO, "torch") and device == AUTO and gpus and "torch" in installed:
        return Choice("torch", "gpu", f"there is a GPU, {gpus[0].name}, and {ON_EVERY_GPU}")
    not_asked = "the gluon engine uses a GPU with --device gpu only"
    seen = "no NVIDIA GPU" if not gpus else NO_TORCH if "torch" not in installed else not_asked
    wanted = "cpu" if device == AUTO else device
    why = "as asked" if device == "cpu" else seen
    if engine != AUTO:
        return Choice(engine, wanted, why)
    name = "gluon" if "gluon" in installed else "torch"
    return Choice(name, wanted, f"{why}; mxnet is {'' if name == 'gluon' else 'not '}installed")


def check_engine(name: str, precision: str, architecture: str = "") -> None:
    """Refuse early, importing nothing, what `open_engine` would refuse later.

    Raises:
        EngineError: unknown engine, one that is not installed, or a precision or network that it has not.
    """
    if name not in ENGINES:
        raise EngineError(f"unknown engine {name!r}: expected {' or '.join(ENGINES)}")
    if name != "torch" and precision != "float32":
        raise EngineError(f"engine {name!r} computes in float32: precision {precision!r} needs --engine torch")
    if name == "torch" and architecture in NETWORKS:
        raise EngineError(f"{architecture} is a network of GluonCV's, for MXNet: expected --engine gluon")
    if name not in installed_engines():
        raise EngineError(f"engine {name!r} is not installed: {_mend_missing(name, architecture)}")


def _mend_missing(name: str, architecture: str) -> str:
    """What to do without an engine, by what can be installed here."""
    install = f"run `{PACKAGES[name][1]}`"
    if name != "gluon":
        return install
    system, machine = platform.system(), platform.machine().lower()
    has_packages = (system, machine) in MXNET_SYSTEMS and sys.version_info[:2] == (3, 11)
    needs = "it needs MXNet, which has packages for Python 3.11 on Linux and on Macs with Intel processors"
    if architecture in NETWORKS:
        return f"{needs}; GluonCV's networks are for it alone{f'; {install}' if has_packages else ''}"
    instead = "--engine torch computes the same" if "torch" in installed_engines() else ""
    return "; ".join([needs, *([install] if has_packages else []), *([instead] if instead else [])])
