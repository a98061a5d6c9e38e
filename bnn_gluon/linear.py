"""The linear layers: MXNet's, but for products of signs, with signs, of images of few channels, and gradients below a
max pooling."""

from __future__ import annotations

import functools
from collections.abc import Set
from typing import Any

import numpy as np
from mxnet import context, gluon, nd, symbol

from benchmarks.recipe.architecture import Conv, Dense, LayerShape
from bnn_gluon import filters
from bnn_gluon.kernels import binary_products, choice, few_channels, parallel, table_convolutions
from bnn_gluon.kernels.dense_tables import DenseTables, Pack, pack_written
from bnn_gluon.kernels.padding import fold_edge, pad_edge
from bnn_gluon.kernels.sign_bits import bits_of
from bnn_gluon.kernels.sparse_gradients import SparseGradients, applies_to
from bnn_gluon.kernels.table_convolutions import ConvolutionTables
from bnn_gluon.memory import buffer, shaped_view, view
from bnn_gluon.unwritten_weights import UnwrittenWeights


class Linear:
    """A convolution or fully connected layer between NDArrays.

    Its output is computed with bits where all inputs and all weights are -1 or +1, with the same result, by
    `few_channels` where its input has few, else by MXNet; its gradients by MXNet, or by `few_channels`, or by
    `sparse_gradients` where most of its output's gradient are zeros. Products with one operand of two values are made
    by `dense_tables` and `table_convolutions` where that is faster. With BNN_KERNELS=mxnet MXNet computes all of it.

    Attributes:
        weight, bias: Gluon parameters; bias is None if the layer has none.
    """

    def __init__(
        self,
        shape: LayerShape,
        *,
        add_bias: bool,
        moved_bias: bool = False,
        edge: bool = False,
        pooled: bool = False,
        differentiates_input: bool = False,
    ) -> None:
        """Without values.

        Args:
            shape: of the layer.
            add_bias: whether a bias is added to the output.
            moved_bias: whether there is a bias that is not added, because it moves the mean of what follows instead:
                its gradient is set.
            edge: a convolution's input is padded with its outermost pixels, not with zeros.
            pooled: what follows its output is max pooling.
            differentiates_input: give inputs that have no gradient one.
        """
        self._edge, self._padding, self._output_shape = 0, 0, shape.output_shape
        if isinstance(shape.layer, Conv):
            self._padding, channels = shape.layer.padding, shape.input_shape[0]
            if edge:
                self._padding, self._edge = 0, self._padding
            self._block = gluon.nn.Conv2D(
                shape.layer.filters, shape.layer.kernel, padding=self._padding, in_channels=channels, use_bias=add_bias
            )
        else:
            assert isinstance(shape.layer, Dense)
            self._block = gluon.nn.Dense(shape.layer.units, in_units=shape.fan_in, use_bias=add_bias)
        self._block.hybridize(static_alloc=True, static_shape=True)
        self.weight, self._added_bias = self._block.weight, self._block.bias
        self._parameters = [self.weight] if self._added_bias is None else [self.weight, self._added_bias]
        self._moved_bias = gluon.Parameter("bias", shape=shape.output_shape[:1]) if moved_bias else None
        self.bias = self._moved_bias if moved_bias else self._added_bias
        self._differentiates_input = differentiates_input
        self._padded: Any = None
        self._compiled, self._fused = choice.compiled(), choice.fused_loops()
        self._few_channels = self._compiled and few_channels.applies_to(shape)
        sparse = self._compiled and pooled and not add_bias and applies_to(shape)
        self._sparse_gradients = SparseGradients(self._padding) if sparse else None
        self._unwritten: UnwrittenWeights | None = None
        self._bits: np.ndarray | None = None  # of a convolution's input
        self._tables: DenseTables | ConvolutionTables | None = None
        if self._compiled and isinstance(shape.layer, Dense):
            self._tables = DenseTables()
        elif self._compiled and table_convolutions.applies_to(shape):
            self._tables = ConvolutionTables(self._padding)

    def use(self, weights: UnwrittenWeights | None) -> bool:
        """Use these weights from now on, and write them only when something needs them; None: they are written.

        Returns:
            Whether it will; otherwise they are to be written now.
        """
        takes = weights is not None and weights.binary and isinstance(self._tables, DenseTables)
        self._unwritten = weights if takes else None
        return takes

    def forward(self, x: Any) -> Any:
        """The output in training, made over by the next; `x` must have a gradient if `backward` is to give one, or
        `differentiates_input`."""
        self._take(x)
        if not self._set_product(self._padded, self._executor.outputs[0], training=True):
            self._weights()
            self._executor.forward(is_train=True)
        return self._executor.outputs[0]

    def backward(self, gradient: Any) -> Any | None:
        """Set the gradients of weights and bias, and that of the input if it has one; returns the latter."""
        self._set_moved_bias(gradient)
        left = self._arguments(self._padded)[1].keys() - self._set_by_tables(gradient)
        if left and self._sparse_gradients is not None:
            self._set_sparse_gradients(gradient, left)
        elif left == {self.weight.name} and self._few_channels:
            of_weights = _values(self.weight.grad())
            few_channels.gradient_of_weights(_values(self._padded), _values(gradient), self._padding, of_weights)
        elif left:
            if "x" in left:
                self._weights()
            self._executor_of(left).backward([gradient])
        self._fold_edges()
        return self._x.grad

    def _set_by_tables(self, gradient: Any) -> set[str]:
        """Set those gradients that tables are for; returns their names, MXNet's."""
        if self._tables is None:
            return set()
        gradient.wait_to_read()
        values, x = _values(gradient), _values(self._padded)
        of_x = None if self._padded.grad is None else _values(self._padded.grad)
        done = {"x"} if of_x is not None and self._set_gradient_of_input(self._tables, values, of_x) else set()
        if self._set_gradient_of_weights(self._tables, x, values, _values(self.weight.grad())):
            done.add(self.weight.name)
            if self._added_bias is not None:
                self._set_gradient_of_bias(self._added_bias, gradient)
                done.add(self._added_bias.name)
        return done

    def _set_gradient_of_input(
        self, tables: DenseTables | ConvolutionTables, gradient: np.ndarray, of_x: np.ndarray
    ) -> bool:
        if isinstance(tables, DenseTables):
            return tables.gradient_of_input(self._packing(), gradient, of_x.reshape(len(of_x), -1))
        return tables.gradient_of_input(self._weights(), gradient, of_x)

    def _set_gradient_of_weights(
        self, tables: DenseTables | ConvolutionTables, x: np.ndarray, gradient: np.ndarray, of_weights: np.ndarray
    ) -> bool:
        if isinstance(tables, DenseTables):
            return tables.gradient_of_weights(x.reshape(len(x), -1), gradient, of_weights)
        return tables.gradient_of_weights(x, gradient, of_weights, self._bits)

    def _set_moved_bias(self, gradient: Any) -> None:
        if self._moved_bias is not None:
            self._set_gradient_of_bias(self._moved_bias, gradient)

    def _set_gradient_of_bias(self, bias: gluon.Parameter, gradient: Any) -> None:
        values = _values(gradient)
        view(bias.grad())[:] = self._fused.channel_sums(values.reshape(*values.shape[:2], -1))

    def _set_sparse_gradients(self, gradient: Any, wanted: Set[str]) -> None:
        assert self._sparse_gradients is not None
        self._sparse_gradients.set(
            _values(self._padded),
            self._weights(),
            _values(gradient),
            _values(self.weight.grad()) if self.weight.name in wanted else None,
            _values(self._padded.grad) if "x" in wanted else None,
        )

    def _take(self, x: Any) -> None:
        """Pad the coming input, and bind MXNet's executor to it if it is another array than the last."""
        if self._differentiates_input and x.grad is None:
            x.attach_grad()
        self._x, padded = x, self._pad(x)
        if padded is not self._padded:
            self._padded = padded
            self._executor = self._bind(padded)

    def _fold_edges(self) -> None:
        """Set the gradient of the input from that of the padded one."""
        if self._edge and self._x.grad is not None:
            padded = self._padded.grad
            padded.wait_to_read()
            fold_edge(_values(padded), self._edge, _values(self._x.grad))

    def evaluate(self, x: Any) -> Any:
        """The output in evaluation."""
        padded = self._pad(x)
        product = nd.empty((len(x), *self._output_shape))
        if self._set_product(padded, product, training=False):
            return product
        self._weights()
        return self._block(padded)

    def _weights(self) -> np.ndarray:
        """The weights, written if they were not yet."""
        values = _values(self.weight.data())
        if self._unwritten is not None:
            self._unwritten.write(values.reshape(-1))
            self._unwritten = None
        return values

    def _packing(self) -> Pack:
        """What packs the weights of a fully connected layer for its products."""
        if self._unwritten is None:
            return functools.partial(pack_written, self._weights())
        return functools.partial(self._unwritten.pack, self.weight.shape)

    def _executor_of(self, gradients: Set[str]) -> Any:
        """MXNet's executor that sets these gradients and no others. There is one at a time: each has an output."""
        if gradients != self._bound_gradients:
            self._executor = self._with_gradients(gradients)
        return self._executor

    def _bind(self, x: Any) -> Any:
        """MXNet's executor of the layer for this very input. Its gradients do not need what its forward pass gives."""
        x.wait_to_read()
        gradients: Set[str] = self._arguments(x)[1].keys()
        if isinstance(self._tables, ConvolutionTables):
            expected = self._tables.gradients_to_expect(_values(x), self._weights())
            ours = {"x"} if "x" in expected else set()
            if "weight" in expected:
                ours |= {parameter.name for parameter in self._parameters}
            gradients = gradients - ours
        return self._with_gradients(gradients)

    def _with_gradients(self, names: Set[str]) -> Any:
        values, gradients = self._arguments(self._padded)
        self._bound_gradients = names
        return self._bound(context.cpu(), values, {name: gradients[name] for name in names})

    def _bound(self, device: Any, values: dict[str, Any], gradients: dict[str, Any]) -> Any:
        kinds = {name: "write" if name in gradients else "null" for name in values}
        return self._block(symbol.Variable("x")).bind(device, values, gradients, kinds)

    def _arguments(self, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Input and parameters, and the gradients that are wanted, by MXNet's names."""
        values = {"x": x} | {parameter.name: parameter.data() for parameter in self._parameters}
        gradients = {parameter.name: parameter.grad() for parameter in self._parameters}
        return values, gradients if x.grad is None else gradients | {"x": x.grad}

    def _set_product(self, x: Any, product: Any, *, training: bool) -> bool:
        """Set `product` without MXNet where that can be done; tells whether it was."""
        x.wait_to_read()
        if not self._compiled:
            return False
        values, target = _values(x), _values(product)
        if isinstance(self._tables, DenseTables):
            values = values.reshape(len(x), -1)
            self._tables.begin(gradient_of_input=training and x.grad is not None)
            found = self._tables.output(values, self._packing(), target)
        else:
            found = self._set_convolution(values, target)
        if found and self._added_bias is not None:
            _add_bias(target, self._added_bias)
        return found

    def _set_convolution(self, x: np.ndarray, product: np.ndarray) -> bool:
        weights, self._bits = self._weights(), bits_of(x)
        if self._bits is not None and binary_products.convolution_of_bits(self._bits, weights, self._padding, product):
            return True
        if isinstance(self._tables, ConvolutionTables) and self._tables.output(x, weights, product):
            return True
        if self._few_channels:
            few_channels.convolution(x, weights, self._padding, product)
        return self._few_channels

    def _pad(self, x: Any) -> Any:
        if not self._edge:
            return x
        n, channels, rows, columns = x.shape
        padded = buffer(self, "_padding_of_x", (n, channels, rows + 2 * self._edge, columns + 2 * self._edge))
        x.wait_to_read()
        pad_edge(_values(x), self._edge, _values(padded))
        return padded


class ScaledLinear:
    """A layer whose weights are a scale times their signs.

    Products are made with the signs: sums of binary activations are whole numbers, and tie in a pooling window whatever
    the scale. The gradient of the weights is with respect to scale times sign.

    Attributes:
        weight, bias: as `Linear`; the weights are the signs.
        scale: float32 (scales,).
    """

    def __init__(self, linear: Linear, *, adds_bias: bool, scales: int = 1) -> None:
        """`linear` adds no bias. `adds_bias`: if it has one, that is added, behind the scale."""
        self.weight, self.bias, self.scale = linear.weight, linear.bias, np.ones(scales, np.float32)
        self._linear, self._added_bias = linear, linear.bias if adds_bias else None

    def use(self, weights: UnwrittenWeights | None) -> bool:
        """As `Linear`."""
        return self._linear.use(weights)

    def forward(self, x: Any) -> Any:
        """As `Linear`."""
        return self._scaled(self._linear.forward(x))

    def backward(self, gradient: Any) -> Any | None:
        """As `Linear`."""
        of_x = self._linear.backward(gradient)
        return None if of_x is None else self._multiplied(of_x)

    def evaluate(self, x: Any) -> Any:
        """As `Linear`."""
        return self._scaled(self._linear.evaluate(x))

    def _scaled(self, sums: Any) -> Any:
        values = _values(self._multiplied(sums))
        if self._added_bias is not None:
            _add_bias(values, self._added_bias)
        return sums

    def _multiplied(self, array: Any) -> Any:
        array.wait_to_read()
        _multiply(view(array), self.scale[0])
        return array


class FilterScaledLinear(ScaledLinear):
    """As `ScaledLinear`, with a scale for each filter, float32 (filters,)."""

    def backward(self, gradient: Any) -> Any | None:
        """As `Linear`; the gradient of the output is worked on in place.

        The input's is one of scaled signs, so that of the output is multiplied; it is taken off the others again.
        """
        of_x = self._linear.backward(self._multiplied(gradient))
        for parameter in [self.weight] if self.bias is None else [self.weight, self.bias]:
            values = _values(parameter.grad())
            values /= self.scale.reshape(-1, *(1,) * (values.ndim - 1))
        return of_x

    def _multiplied(self, array: Any) -> Any:
        array.wait_to_read()
        filters.multiply(_values(array).reshape(*array.shape[:2], -1), self.scale)
        return array


@parallel.loop
def _multiply(part: Any, values: np.ndarray, factor: np.float32) -> None:
    for i in parallel.share(part, values.size):
        values[i] *= factor


def _add_bias(sums: np.ndarray, bias: gluon.Parameter) -> None:
    sums += view(bias.data()).reshape(-1, *(1,) * (sums.ndim - 2))


def _values(array: nd.NDArray) -> np.ndarray:
    return shaped_view(array)
