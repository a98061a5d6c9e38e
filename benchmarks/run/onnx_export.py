"""A published network for other programs, as ONNX or QONNX: written only if it is the network of the record.

That is so if what runs it elsewhere, onnxruntime or qonnx's executor, gets the very same test images right as the
record says, each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.errors import EngineError, RunError
from benchmarks.recipe import recipe_from_settings
from benchmarks.run.data import load_data
from benchmarks.run.onnx_graph import INPUT, OUTPUT, NoGraphError, to_onnx
from benchmarks.run.published_file import content_of
from data_prep import Split
from results import registry as records
from results.files import write_atomically
from results.record import Record, unpack_bits
from results.weights import read_packed

BATCH = 500  # images at a time: qonnx's executor opens a session for each node


def export(path: Path, out: Path | None, *, registry: Path, data_root: Path, qonnx: bool = False) -> tuple[Path, int]:
    """Write the network of a record as ONNX; the file, and how many images it got right as recorded, which is all.

    Args:
        path: of the record.
        out: None: "<benchmark>-<id>.onnx", or ".qonnx.onnx", in the present folder.
        qonnx: with QONNX's nodes, for a batch of one image.

    Raises:
        RegistryError: the record has no published weights, or they are damaged.
        RunError: the network has no such graph, or another outcome there; nothing is written.
        EngineError: a package is not installed.
        DataError: as `runner.reproduce`.
    """
    record = records.read(path)
    scores_of = _qonnx_scores if qonnx else _onnxruntime_scores
    _check_packages(("onnx", "qonnx") if qonnx else ("onnx", "onnxruntime"), qonnx=qonnx)
    content = content_of(record, read_packed(record, registry))
    try:
        model = to_onnx(content, qonnx=qonnx, batch=1 if qonnx else None)
        checked = to_onnx(content, qonnx=qonnx, batch=BATCH) if qonnx else model
    except NoGraphError as error:
        raise RunError(f"record {record.id} of {record.benchmark} has no such graph: {error}") from None
    test = _test_images(record, data_root)
    _check_outcome(record, test, scores_of(checked), "qonnx's executor" if qonnx else "onnxruntime")
    out = out or Path(f"{record.benchmark}-{record.id}{'.qonnx' if qonnx else ''}.onnx")
    write_atomically(out.resolve(), model.SerializeToString())
    return out, len(test.labels)


def _check_packages(packages: tuple[str, ...], *, qonnx: bool) -> None:
    for package in packages:
        try:
            __import__(package)
        except ImportError:
            command = f"python -m pip install -r requirements-{'qonnx' if qonnx else 'onnx'}.txt"
            where = ", in an environment of requirements-torch.txt: it needs a newer NumPy than MXNet takes"
            option = "--qonnx" if qonnx else "--onnx"
            raise EngineError(
                f"export {option} needs the package {package}: `{command}`{where if qonnx else ''}"
            ) from None


def _test_images(record: Record, data_root: Path) -> Split:
    recipe = recipe_from_settings(record.benchmark, record.recipe.named_settings, {})
    test = load_data(recipe, data_root, record.seed).test
    if test.digest != record.data.test.digest:
        raise RunError(
            f"record {record.id} was measured on other test images: found digest {test.digest[:16]}, not"
            f" {record.data.test.digest[:16]}"
        )
    return test


def _check_outcome(record: Record, test: Split, scores: Callable[[np.ndarray], np.ndarray], by: str) -> None:
    """Raises RunError unless each image comes out as recorded."""
    assert record.test_correct is not None
    recorded = unpack_bits(record.test_correct, len(test.labels))
    parts = [
        scores(np.ascontiguousarray(test.images[start : start + BATCH], np.float32))
        for start in range(0, len(test.labels), BATCH)
    ]
    differing = np.count_nonzero((np.concatenate(parts).argmax(1) == test.labels) != recorded)
    if differing:
        raise RunError(
            f"{by} has {differing} of {len(test.labels):,} test images otherwise than record {record.id}; none may be,"
            " so nothing is written: another version of it, or another processor, adds up in another order"
        )


def _onnxruntime_scores(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def scores(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run([OUTPUT], {INPUT: images})[0]
        return found

    return scores


def _qonnx_scores(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    wrapped = ModelWrapper(model).transform(InferShapes())

    def scores(images: np.ndarray) -> np.ndarray:
        filled = np.concatenate([images, np.zeros((BATCH - len(images), *images.shape[1:]), np.float32)])
        found: np.ndarray = execute_onnx(wrapped, {INPUT: filled})[OUTPUT]
        return found[: len(images)]

    return scores
