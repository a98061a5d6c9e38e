"""What an engine is, and how one is opened: the only door through which the rest of the house reaches a framework."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from benchmarks.errors import EngineError
from benchmarks.machine import environment
from benchmarks.machine.facts import nvidia_gpus
from benchmarks.recipe.networks import NETWORKS

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.engine.augmentation import Crops
    from benchmarks.recipe import ModelSettings

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


class Engine(Protocol):
    """A network with its training rule on one device.

    Images are float32 (N, channels, rows, columns), labels int (N,). An engine may keep what it is given on its device,
    and take it from there when it is given the same object again: do not change arrays in place between calls.
    """

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of all parameters by name: "dense1.weight" float32 (out, in), real-valued, "dense1.bias" (out,),
        "bn1.gamma", "bn1.beta" and the running statistics (channels,); layers are numbered from 1 in network order."""

    def load_parameters(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Set all parameters; the optimizer's state is kept.

        Raises:
            ValueError: a name missing or unknown, or another shape.
        """

    def train_step(
        self, images: np.ndarray, labels: np.ndarray, lr: float, uniforms: Mapping[str, np.ndarray] | None = None
    ) -> float:
        """One minibatch, one update; returns its loss before the update.

        `uniforms` gives the uniform draws in [0, 1) of each stochastic weight instead of the engine's own, by parameter
        name.
        """

    def gradients(self) -> dict[str, np.ndarray]:
        """Gradients of the last `train_step`; those of weights are with respect to the binary weights that it used."""

    def train_epoch(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        order: np.ndarray,
        batch_size: int,
        lr: float,
        on_batch: Callable[[int, float], None] | None = None,
        *,
        crops: Crops | None = None,
        keep_remainder: bool = False,
    ) -> np.ndarray:
        """Train on images[order], changed by `crops`, as `train_step` batch by batch, but faster.

        Images that do not fill a last batch are dropped, or make a smaller one with `keep_remainder`. Returns the loss
        of every batch, float32 (batches,). `on_batch(done, loss)` tells how many
        batches are done and the loss of the last of them: after each batch on a CPU; on a GPU, which is not stopped to
        be asked, now and then and after the last.
        """

    def scores(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        """Network outputs in evaluation mode, float32 (N, classes)."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything that a bit-exact continuation needs, as named arrays; copies."""

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state()`."""

    def describe(self) -> dict[str, object]:
        """What computes, as `results.record.Engine` has it."""


def epoch_batches(
    images: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    batch_size: int,
    crops: Crops | None = None,
    keep_remainder: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and labels of each batch of an epoch, made as they are asked for: see `Engine.train_epoch`."""
    end = len(order) if keep_remainder else len(order) // batch_size * batch_size
    for start in range(0, end, batch_size):
        part = slice(start, min(start + batch_size, end))
        batch = images[order[part]]
        yield batch if crops is None else crops[part].apply(batch), labels[order[part]]


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


def open_engine(
    name: str,
    model: ModelSettings,
    input_shape: tuple[int, ...],
    seed: int,
    device: str = "cpu",
    threads: int | None = None,
    precision: str = "float32",
    compile: str = "auto",
) -> Engine:
    """Open an engine with freshly initialized parameters.

    Args:
        name: one of ENGINES.
        model: network and training rule.
        input_shape: of one image, (channels, rows, columns).
        seed: of initialization and of every random draw of training.
        device: "cpu" or "gpu".
        threads: CPU threads; the number of usable cores if None.
        precision: of products: "float32", "tf32" (GPU) or "bf16"; gluon has float32 alone.
        compile: whether torch compiles its step: "on", "off", or "auto" for where that works. Gluon ignores it.

    Raises:
        EngineError: unknown engine, one that is not installed, or a device or precision that it cannot use.
    """
    check_engine(name, precision, model.architecture)
    options = {"precision": precision, "compile": compile} if name == "torch" else {}
    try:
        module = importlib.import_module(ENGINES[name])
    except ImportError as error:
        raise EngineError(f"engine {name!r} is not installed ({error}): run `{PACKAGES[name][1]}`") from error
    engine: Engine = module.open(model, input_shape, seed, device, threads, **options)
    _say_what_was_ignored()
    return engine


@functools.cache
def _say_what_was_ignored() -> None:
    """Once a process."""
    if ignored := environment.taken_out():
        print(f"note: not used, a run is defined by its options alone: {', '.join(ignored)}", file=sys.stderr)


def compile_option(engine: Engine) -> str:
    """The `compile` with which `open_engine` makes the same engine again: "on" or "off"."""
    features = engine.describe()["features"]
    assert isinstance(features, list)
    return "on" if "torch.compile" in features else "off"
