"""Digests of images that are a function of published bytes alone: what a record of them must say.

Of MNIST, and of mnist-small that ships with data_prep: the splits of 50,000 and 10,000 (2,000 and 200) images and all
of both together, as "unit", "signed" and "centered" give them, computed from the official files. These preprocessings
are divisions and subtractions of float32 numbers, with the same bits on every machine.

Not listed, and so not compared: "standardized", whose mean is a product of whatever matrix library there is; CIFAR-10
and SVHN, whose whitenings are such products too; other numbers of images; and whatever is drawn by a run's seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

EMPTY = "d8bc748ee6bbd0b744dfd9be898b9ccd8367d6995a8c6715907bbe3959a468bc"  # no image of MNIST

# By data set, preprocessing, split and number of images.
DIGESTS: dict[tuple[str, str, str, int], str] = {
    ("mnist", "unit", "train", 50_000): "1ee7fdbe65d62c6f32701f54c6416ec5edd8786225efec806e5d7f0bebbab647",
    ("mnist", "unit", "valid", 10_000): "b52829b2b65b98718088dde7bc4b937074cc2d0913e3c2a246d458fea81d85bb",
    ("mnist", "unit", "test", 10_000): "00a47b0f2ffc42069a0ea9ade7701ff68c22f9225ed6dea30b44ea6016afe3b5",
    ("mnist", "unit", "train", 60_000): "d7ebd737185a5282370131be01670955f69165bc00a3f2d24de431104a679915",
    ("mnist", "signed", "train", 50_000): "63e65778904beb4c818961995b6ed02e8747da3f857c963d75322fd4de07a001",
    ("mnist", "signed", "valid", 10_000): "53a25fd95b00a8ccfacf89e7d92ec7f86b4df46b85fdbf77fab8782105954fdb",
    ("mnist", "signed", "train", 60_000): "89984f9d0964233783e279f284bc0e5c190fc76762408840eae8fb9a1aa9c1a5",
    ("mnist", "signed", "test", 10_000): "66a1b321b55a0955121255450732d154d0af116dd7dc42529dc23ab16303bccc",
    ("mnist", "centered", "train", 50_000): "04836217097257639825ff770b521b9b6006500212d893af091d29a59fbdc3a9",
    ("mnist", "centered", "valid", 10_000): "46617a28e53b467e6b234aa4f19676f6ddf65a4d99bbc0b7c4e6447fa0a5313e",
    ("mnist", "centered", "test", 10_000): "daec3980e2610d62496f063e99982ebc860725e37d6c05bd5d82158520292e4d",
    ("mnist", "centered", "train", 60_000): "33e3745ce1cfc947c6f2531520c3aeed7ef7d73a7524aa2ab4f8498e1ba83f9e",
    ("mnist-small", "unit", "train", 2_000): "23e8c849be02e47ac87922a4318485b25c83b2acba48ccb59f62e97abdf9e874",
    ("mnist-small", "unit", "valid", 200): "12e51f36bd52597abb090926f76d432edf3574d0f864d569cd585411f89636b7",
    ("mnist-small", "unit", "test", 200): "6c0e78c4a3f1d10e4dc68d66b47abc45f6cfec66896c02dd59cbd1c05cd4bfe9",
    ("mnist-small", "unit", "train", 2_200): "60a9b815ac08c13876a471b2baeaa85d531210c212f1539b4b35614fabf2b7f1",
    ("mnist-small", "signed", "train", 2_000): "5386ecc39efcab73943b8d001f92e6552e7220471f113f5988853fc75d0361f2",
    ("mnist-small", "signed", "valid", 200): "444fc16256382dfa6cfff32b3bcbed7bbe5a4543b5ee840f18e5df1f0b8fa68e",
    ("mnist-small", "signed", "test", 200): "bf151878761ff65b0307985afc92ba0e10616fcfd08fc1df832db0ad157a7e47",
    ("mnist-small", "signed", "train", 2_200): "706945e09fb256c7bd7ee7eafb679efa39b3a92523ef0691302f0b29795b9ee2",
    ("mnist-small", "centered", "train", 2_000): "f68b2848653aec66d1ac5e405fbc445e6bf347fc3942ce32d51cf72d2939c81a",
    ("mnist-small", "centered", "valid", 200): "56a7c2c4fd68493e0d07e4c3402d50b9996384ee3298b8b9b568261917ef38a3",
    ("mnist-small", "centered", "test", 200): "340c1d1e2a1c37dfeacf580f2c5441be926d1f1285e7a2e04ffca94850654297",
    ("mnist-small", "centered", "train", 2_200): "e7577a70e7fbee9bea84a1d6a19f4bbf58608d317cad5a9424a6e27a16b107a4",
    ("mnist", "unit", "valid", 0): EMPTY,
    ("mnist", "signed", "valid", 0): EMPTY,
    ("mnist", "centered", "valid", 0): EMPTY,
    ("mnist-small", "unit", "valid", 0): EMPTY,
    ("mnist-small", "signed", "valid", 0): EMPTY,
    ("mnist-small", "centered", "valid", 0): EMPTY,
}


def known_digest(settings: Mapping[str, Any], split: Literal["train", "valid", "test"], images: int) -> str | None:
    """The digest that a split of a recipe's data has; None where it is not known, or depends on the run's seed.

    Args:
        settings: the recipe's, of the group "data".
    """
    is_random_split = settings.get("split", "published") != "published" and split != "test"
    is_drawn = settings.get("labels", "true") != "true" or settings.get("inputs", "images") != "images"
    if is_random_split or is_drawn:
        return None
    return DIGESTS.get((settings.get("dataset", ""), settings.get("preprocessing", ""), split, images))
