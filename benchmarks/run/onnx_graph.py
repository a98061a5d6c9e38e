"""A published network as an ONNX graph, from its `.safetensors` file alone.

Operators are standard ones. Weights that are stored in bits stay packed in the graph, eight a byte, and are unpacked in
it, once, when a session is opened. For QONNX (arXiv 2206.07527, qonnx.readthedocs.io) binary and whole-number weights
and binary activations are its nodes BipolarQuant and Quant instead, on float32 tensors, as its tools expect them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from results.packed_weights import decode
from results.weights_file import metadata_of

INPUT, OUTPUT = "images", "scores"
OPSET, IR_VERSION = 18, 9  # the first opset with BitwiseAnd, and the format of its time
QONNX = "qonnx.custom_op.general"


class NoGraphError(ValueError):
    """The network has no such graph; the message is the reason."""


def to_onnx(content: bytes, *, qonnx: bool = False, batch: int | None = None) -> Any:
    """The ONNX model of a network: "images", float32 (N, channels, rows, columns), give "scores", (N, classes).

    Args:
        content: of its `.safetensors` file.
        qonnx: with QONNX's nodes.
        batch: N; None: any number.

    Raises:
        NoGraphError: the network is no chain of steps, or, with `qonnx`, an activation is 0 at 0.
    """
    from onnx import TensorProto, checker, helper
    from safetensors.numpy import load

    about = metadata_of(content)
    if "network" not in about:
        raise NoGraphError(about["no_network"])
    steps = json.loads(about["network"])
    graph = _Graph(load(content), about, qonnx=qonnx)
    value = INPUT
    for step in steps:
        value = graph.add_step(step, value)
    value = value if graph.is_flat else graph.add("Flatten", [value], axis=1)
    graph.add("Identity", [value], OUTPUT)
    n, classes = batch or "N", graph.shape_of(steps_weight(steps))[0]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            about["benchmark"],
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [n, *json.loads(about["image_shape"])])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [n, classes])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET), *([helper.make_opsetid(QONNX, 1)] if qonnx else [])],
        ir_version=IR_VERSION,
        producer_name="bnn-reproducibility",
    )
    told = {name: text for name, text in about.items() if name not in ("network", "tensors", "levels")}
    helper.set_model_props(model, told)
    checker.check_model(model)
    return model


def steps_weight(steps: list[dict[str, Any]]) -> str:
    """The name of the last linear layer's weights."""
    return str([step["weight"] for step in steps if "weight" in step][-1])


class _Graph:
    """Nodes and constants, to which steps are added in order.

    Attributes:
        nodes, constants: of the graph so far.
        is_flat: whether images have become vectors.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], about: Mapping[str, str], *, qonnx: bool) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._tensors, self._qonnx, self._names = tensors, qonnx, set[str]()
        self._levels: dict[str, list[int]] = json.loads(about["levels"])
        self._forms = {name: (tuple(shape), kind) for name, shape, kind in json.loads(about["tensors"])}
        self.is_flat = False  # whether images have become vectors

    def shape_of(self, parameter: str) -> tuple[int, ...]:
        return self._forms[parameter][0]

    def add(self, operator: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        """A node; the name of what it gives."""
        from onnx import helper

        name = name or f"{operator}_{len(self.nodes)}"
        domain = QONNX if operator in ("BipolarQuant", "Quant") else ""
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"node_{name}", domain=domain, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        """A constant tensor, once by its name."""
        from onnx import numpy_helper

        if name not in self._names:
            self._names.add(name)
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(f"number_{value:g}", np.array(value, np.float32))

    # -- steps: see benchmarks/engine/inference.py ---------------------------------------------------------------------

    def add_step(self, step: Mapping[str, Any], x: str) -> str:
        """What the step makes of x."""
        word = step["op"]
        pools = dict.fromkeys(("max_pool", "mean_pool"), self._pool)
        made = {"conv": self._conv, "dense": self._dense, "normalize": self._normalize, **pools}
        return made[word](step, x) if word in made else self._activation(word, x)

    def _dense(self, step: Mapping[str, Any], x: str) -> str:
        x = x if self.is_flat else self.add("Flatten", [x], axis=1)
        self.is_flat = True
        return self.add("Gemm", [x, self._weights(step["weight"]), *self._bias(step)], transB=1)

    def _pool(self, step: Mapping[str, Any], x: str) -> str:
        size, stride = step["size"], step.get("stride", step["size"])
        windows: dict[str, Any] = {"kernel_shape": [size] * 2, "strides": [stride] * 2}
        if step.get("padding"):
            windows["pads"] = [step["padding"]] * 4
        if step["op"] == "mean_pool":
            return self.add("AveragePool", [x], **windows, count_include_pad=1)
        return self.add("MaxPool", [x], **windows)

    def _normalize(self, step: Mapping[str, Any], x: str) -> str:
        centered = self.add("Sub", [x, self._by_channel(f"{step['norm']}.center")])
        scaled = self.add("Mul", [centered, self._by_channel(f"{step['norm']}.scale")])
        return self.add("Add", [scaled, self._by_channel(f"{step['norm']}.shift")])

    def _activation(self, word: str, x: str) -> str:
        """An activation, or what is done to the pixels first."""
        if word == "relu":
            return self.add("Relu", [x])
        if word.startswith("images_"):
            x = self.add("Sub", [self.add("Mul", [x, self.number(2)]), self.number(1)])
        if word in ("int2", "images_int2"):
            return self._rounded(x, 1, 2, narrow=True)
        if word == "images_int8":
            return self._rounded(x, 128, 8, narrow=False)
        return self._qonnx_sign(word, x) if self._qonnx else self._sign(word, x)

    def _rounded(self, x: str, steps: int, bits: int, *, narrow: bool) -> str:
        """x in whole numbers of 1 / steps, halves to even, kept to signed numbers of so many bits."""
        if self._qonnx:
            inputs = [x, self.number(1 / steps), self.number(0), self.number(bits)]
            return self.add("Quant", inputs, signed=1, narrow=int(narrow), rounding_mode="ROUND")
        half = 2 ** (bits - 1)
        rounded = self.add("Round", [self.add("Mul", [x, self.number(steps)])])
        kept = self.add("Clip", [rounded, self.number(narrow - half), self.number(half - 1)])
        return self.add("Mul", [kept, self.number(1 / steps)])

    def _conv(self, step: Mapping[str, Any], x: str) -> str:
        padding = step["padding"]
        if step["mode"] == "edge" and padding:
            pads = self.constant(f"pads_{padding}", np.array([0, 0, padding, padding] * 2, np.int64))
            x, padding = self.add("Pad", [x, pads], mode="edge"), 0
        return self.add("Conv", [x, self._weights(step["weight"]), *self._bias(step)], pads=[padding] * 4)

    def _bias(self, step: Mapping[str, Any]) -> list[str]:
        return [self.constant(step["bias"], self._tensors[step["bias"]])] if "bias" in step else []

    def _by_channel(self, name: str) -> str:
        return self.constant(name, self._tensors[name].reshape(-1, *(() if self.is_flat else (1, 1))))

    def _sign(self, word: str, x: str) -> str:
        if word == "torch_sign":
            return self.add("Sign", [x])
        if word in ("sign", "images_sign"):
            above = self.add("Greater" if word == "sign" else "GreaterOrEqual", [x, self.number(0)])
        else:  # as the original rounds (x + 1) / 2
            half = self.add("Mul", [self.add("Add", [x, self.number(1)]), self.number(0.5)])
            above = self.add("GreaterOrEqual", [half, self.number(0.5)])
        return self.add("Where", [above, self.number(1), self.number(0 if word == "binary_sigmoid" else -1)])

    def _qonnx_sign(self, word: str, x: str) -> str:
        """BipolarQuant gives +1 at 0. "sign" gives -1 there: it is that of -x, turned around."""
        if word == "torch_sign":
            raise NoGraphError("its activation is 0 at 0, and QONNX's BipolarQuant is -1 or +1")
        if word == "sign":
            return self.add("Neg", [self.add("BipolarQuant", [self.add("Neg", [x]), self.number(1)])])
        bipolar = self.add("BipolarQuant", [x, self.number(1)])
        if word == "binary_sigmoid":
            bipolar = self.add("Mul", [self.add("Add", [bipolar, self.number(1)]), self.number(0.5)])
        return bipolar

    # -- weights -------------------------------------------------------------------------------------------------------

    def _weights(self, name: str) -> str:
        shape, kind = self._forms[name]
        if kind == "float32":
            return self.constant(name, self._tensors[name])
        if kind == "float16":
            return self.add("Cast", [self.constant(name, self._tensors[name])], to=1)
        scale = self._tensors[f"{name}.scale"]
        scale = scale.reshape(-1, *(1,) * (len(shape) - 1)) if scale.size > 1 else scale.reshape(())
        return self._quantized(name, scale) if self._qonnx else self._unpacked(name, scale)

    def _unpacked(self, name: str, scale: np.ndarray) -> str:
        """Bytes to bits, bits to codes, codes to levels, times the scale."""
        shape, kind = self._forms[name]
        levels = self._levels[kind]
        width = (len(levels) - 1).bit_length()
        shifts = self.constant("shifts", np.arange(8, dtype=np.uint8)[::-1].reshape(1, 8))
        packed = self.constant(name, self._tensors[name].reshape(-1, 1))
        shifted = self.add("BitShift", [packed, shifts], direction="RIGHT")
        bits = self.add("BitwiseAnd", [shifted, self.constant("one_bit", np.array(1, np.uint8))])
        flat = self.add("Reshape", [bits, self._sizes(-1)])
        kept = self.add("Slice", [flat, self._sizes(0), self._sizes(math.prod(shape) * width)])
        codes = self.add("Cast", [kept], to=1)
        if width > 1:
            rows = self.add("Reshape", [codes, self._sizes(-1, width)])
            powers = (2.0 ** np.arange(width)[::-1]).astype(np.float32).reshape(width, 1)
            codes = self.add("MatMul", [rows, self.constant(f"powers_{width}", powers)])
        step = levels[1] - levels[0]
        spread = codes if step == 1 else self.add("Mul", [codes, self.number(step)])
        values = self.add("Add", [spread, self.number(levels[0])])
        shaped = self.add("Reshape", [values, self._sizes(*shape)])
        return self.add("Mul", [shaped, self.constant(f"{name}.scale", scale)], f"{name}.unpacked")

    def _sizes(self, *values: int) -> str:
        return self.constant(f"sizes_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def _quantized(self, name: str, scale: np.ndarray) -> str:
        """QONNX's node on the values themselves, which it leaves as they are."""
        shape, kind = self._forms[name]
        values = self.constant(name, decode(self._tensors[name].tobytes(), shape, kind) * scale)
        scaled = self.constant(f"{name}.scale", scale)
        if kind == "signs":
            return self.add("BipolarQuant", [values, scaled], f"{name}.quantized")
        width = (len(self._levels[kind]) - 1).bit_length()
        inputs = [values, scaled, self.number(0), self.number(width)]
        return self.add("Quant", inputs, f"{name}.quantized", signed=1, narrow=0, rounding_mode="ROUND")
