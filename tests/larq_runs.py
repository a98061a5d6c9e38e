"""The network of Larq's tutorial, trained for three steps by Larq itself: what the engines are compared with.

Larq and Keras are run as they are, but that layers are narrower, and parameters are drawn by `larq_cases.initial`.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

# Larq's layers are those of Keras 2.
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import larq
import numpy as np
import tensorflow as tf
from larq_cases import BATCH, FILTERS, IMAGES, LR, UNITS, batches, initial

KNOWN = 1e-3  # of which part of the largest float32 knows a gradient
KINDS = {"kernel": "weight", "beta": "beta", "moving_mean": "running_mean", "moving_variance": "running_var"}


class Run(NamedTuple):
    """What is recorded, and how near a value came to where a decision is taken."""

    arrays: dict[str, np.ndarray]
    nearest: float


def tutorial(filters: tuple[int, ...] = (32, 64, 64), units: int = 64) -> Any:
    """The network of its notebook, compiled as there; layers have our names."""
    quantized = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}
    both = quantized | {"input_quantizer": "ste_sign"}
    layers, norm = tf.keras.layers, tf.keras.layers.BatchNormalization
    model = tf.keras.models.Sequential()
    model.add(larq.layers.QuantConv2D(filters[0], (3, 3), **quantized, input_shape=(28, 28, 1), name="conv1"))
    model.add(layers.MaxPooling2D((2, 2)))
    model.add(norm(scale=False, name="bn1"))
    model.add(larq.layers.QuantConv2D(filters[1], (3, 3), **both, name="conv2"))
    model.add(layers.MaxPooling2D((2, 2)))
    model.add(norm(scale=False, name="bn2"))
    model.add(larq.layers.QuantConv2D(filters[2], (3, 3), **both, name="conv3"))
    model.add(norm(scale=False, name="bn3"))
    model.add(layers.Flatten())
    model.add(larq.layers.QuantDense(units, **both, name="dense1"))
    model.add(norm(scale=False, name="bn4"))
    model.add(larq.layers.QuantDense(10, **both, name="dense2"))
    model.add(norm(scale=False, name="bn5"))
    model.add(layers.Activation("softmax"))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def run(seed: int) -> Run:
    """An epoch from the parameters of a seed, and the test images behind it."""
    model, data = tutorial(FILTERS, UNITS), batches()
    model.optimizer.learning_rate = LR
    variables = {ours(variable): variable for variable in model.variables}
    drawn = initial({name: to_ours(name, variable).shape for name, variable in variables.items()}, seed)
    for name, value in drawn.items():
        variables[name].assign(to_theirs(name, value, variables[name].shape))
    losses, nearest, found = [], [], []
    arrays = {"seed": np.array(seed)}
    for rows in np.array_split(np.arange(IMAGES), [BATCH, 2 * BATCH]):
        images, labels = data.images[rows].transpose(0, 2, 3, 1), data.labels[rows]
        nearest.append(nearness(model, images))
        found.append(gradients_of(model, images, labels))
        losses.append(model.train_on_batch(images, labels)[0])
        nearest += [np.abs(v).min() for name, v in variables.items() if name.endswith(".weight")]
    largest = {name: np.abs(gradient).max() for name, gradient in found[0].items()}
    arrays |= {f"gradient/{name}": gradient for name, gradient in found[0].items()}
    arrays |= {
        f"held/{name}": np.all([np.abs(step[name]) > KNOWN * largest[name] for step in found], axis=0)
        for name in largest
    }
    arrays |= {f"after/{name}": to_ours(name, variable) for name, variable in variables.items()}
    scores = tf.keras.Model(model.inputs, model.get_layer("bn5").output)
    arrays["scores"] = scores(data.test_images.transpose(0, 2, 3, 1), training=False).numpy()
    return Run(arrays | {"losses": np.float32(losses)}, float(min(nearest)))


def gradients_of(model: Any, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Of the loss of a batch, by our names; the model is left as it was."""
    kept = model.get_weights()
    with tf.GradientTape() as tape:
        loss = tf.keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True))
        mean = tf.reduce_mean(loss)
    gradients = tape.gradient(mean, model.trainable_variables)
    model.set_weights(kept)
    return {ours(v): to_ours(ours(v), g) for v, g in zip(model.trainable_variables, gradients, strict=True)}


def nearness(model: Any, images: np.ndarray) -> float:
    """How near an input of a sign comes to 0 or +-1, and the maxima of a pooling window to one another."""
    kept = model.get_weights()
    names = ["conv1", "bn1", "bn2", "bn3", "bn4"]
    values = tf.keras.Model(model.inputs, [model.get_layer(name).output for name in names])(images, training=True)
    model.set_weights(kept)
    pooled, *signed = (value.numpy() for value in values)
    n, side, _, filters = pooled.shape
    windows = pooled.reshape(n, side // 2, 2, side // 2, 2, filters).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 4)
    first, second = np.sort(windows, axis=1)[:, :-3:-1].T
    return min(float((first - second).min()), *(float(np.abs(np.abs(v) - at).min()) for v in signed for at in (0, 1)))


def ours(variable: Any) -> str:
    """The name of a variable here."""
    layer, kind = variable.name.split(":")[0].split("/")
    return f"{layer}.{KINDS[kind]}"


def to_ours(name: str, value: Any) -> np.ndarray:
    """A variable as it is here: theirs have the outputs last, and flatten channels last."""
    array = np.asarray(value)
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if name == "dense1.weight":
        side = int((array.shape[0] // FILTERS[2]) ** 0.5)
        return array.reshape(side, side, FILTERS[2], -1).transpose(3, 2, 0, 1).reshape(array.shape[1], -1)
    return array.T if array.ndim == 2 else array


def to_theirs(name: str, value: np.ndarray, shape: Any) -> np.ndarray:
    """The inverse of `to_ours`."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if name == "dense1.weight":
        side = int((value.shape[1] // FILTERS[2]) ** 0.5)
        return value.reshape(-1, FILTERS[2], side, side).transpose(2, 3, 1, 0).reshape(tuple(shape))
    return value.T if value.ndim == 2 else value
