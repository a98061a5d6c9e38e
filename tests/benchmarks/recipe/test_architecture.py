from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.recipe.architecture import Conv, Dense, Pool, layer_shapes, parse_architecture


def test_the_papers_networks():
    assert parse_architecture("3x2048FC-10FC") == (Dense(2048),) * 3 + (Dense(10),)
    layers = parse_architecture("2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-2x1024FC-10FC")
    assert layers[:4] == (Conv(128, 3), Conv(128, 3), Pool(2), Conv(256, 3))
    assert layers[-3:] == (Dense(1024), Dense(1024), Dense(10))


def test_shapes_of_the_cifar_network():
    layers = parse_architecture("2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-2x1024FC-10FC")
    shapes = layer_shapes(layers, (3, 32, 32))
    assert [shape.output_shape for shape in shapes if isinstance(shape.layer, Pool)] == [
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
    ]
    assert shapes[9].fan_in == 8192
    assert (shapes[0].fan_in, shapes[0].fan_out) == (27, 9 * 128)
    # A training step of 50 images is 185 GFLOP: forward, gradients of weights, gradients of all inputs but the images.
    forward = sum(shape.multiply_adds for shape in shapes)
    assert 50 * 2 * (3 * forward - shapes[0].multiply_adds) == pytest.approx(185e9, rel=0.01)


def test_shapes_of_networks_with_unpadded_convolutions():
    lenet = layer_shapes(parse_architecture("32C5-MP2-64C5v-MP2-512FC-10FC"), (1, 28, 28))
    assert [shape.output_shape[1:] for shape in lenet[:4]] == [(28, 28), (14, 14), (10, 10), (5, 5)]
    assert lenet[4].fan_in == 64 * 5 * 5
    text = "128C3v-128C3-MP2-2x256C3-MP2-2x512C3-MP2-2x1024FC-10FC"
    vgg = layer_shapes(parse_architecture(text), (3, 32, 32))
    assert vgg[0].layer == Conv(128, 3, valid=True)
    assert [shape.output_shape[1:] for shape in vgg[:9]] == [
        *[(30, 30)] * 2, (15, 15), *[(15, 15)] * 2, (7, 7), *[(7, 7)] * 2, (3, 3)
    ]  # fmt: skip
    assert vgg[9].fan_in == 512 * 3 * 3


def test_an_unpadded_kernel_may_be_even_and_as_large_as_the_image():
    assert layer_shapes(parse_architecture("8C2v-10FC"), (1, 3, 3))[0].output_shape == (8, 2, 2)
    assert layer_shapes(parse_architecture("8C3v-10FC"), (1, 3, 3))[0].output_shape == (8, 1, 1)
    with pytest.raises(ValueError, match="a 4x4 kernel finds only 3x3 pixels"):
        layer_shapes(parse_architecture("8C4v-10FC"), (1, 3, 3))
    with pytest.raises(ValueError, match="its size must be odd"):
        layer_shapes(parse_architecture("8C2-10FC"), (1, 3, 3))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "''"),
        ("3x-10FC", "'3x'"),
        ("0x8FC-10FC", "'0x8FC'"),
        ("32FCv-10FC", "'32FCv'"),
        ("32FC-MP2-10FC", "follows no convolution"),
        ("32FC-8C3-10FC", "follows a fully connected"),
        ("MP2-10FC", "follows no convolution"),
        ("8C3-MP2-MP2-10FC", "follows no convolution"),
        ("32C3-MP2", "last layer"),
        ("8C3-AP3s2p2", "at most 1 pixels around"),
        ("8C3-MP3s2-10FC", "'MP3s2'"),
        ("9999999999x8FC-10FC", "more than 1000 layers"),
    ],
)
def test_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_architecture(text)


def test_windows_that_overlap_and_means():
    layers = parse_architecture("8C3-MP3s2p1-8C3-AP3s2p1-10C1-AP8")
    assert layers[1::2] == (Pool(3, 2, 1), Pool(3, 2, 1, mean=True), Pool(8, mean=True))
    assert [pool.tiles for pool in (*layers[1::2], Pool(2))] == [False, False, False, True]
    assert parse_architecture("8C3-MP2s2p0-10FC")[1] == Pool(2)
    shapes = [shape.output_shape for shape in layer_shapes(layers, (3, 32, 32))]
    assert shapes == [(8, 32, 32), (8, 16, 16), (8, 16, 16), (8, 8, 8), (10, 8, 8), (10, 1, 1)]


def test_too_much_pooling_is_refused():
    with pytest.raises(ValueError, match="finds only 1x1"):
        layer_shapes(parse_architecture("8C3-MP28-8C3-MP2-10FC"), (1, 28, 28))


layer_texts = st.lists(
    st.integers(1, 4).flatmap(lambda n: st.sampled_from([f"{n}C3", f"{n}C2v", f"2x{n}C5-MP2"])), max_size=3
)


@given(layer_texts, st.integers(1, 9))
def test_what_a_layer_gives_is_what_the_next_takes(front, units):
    shapes = layer_shapes(parse_architecture("-".join([*front, f"{units}FC", "10FC"])), (3, 32, 32))
    assert shapes[0].input_shape == (3, 32, 32)
    assert all(one.output_shape == after.input_shape for one, after in itertools.pairwise(shapes))
