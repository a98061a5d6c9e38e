"""Digests of images that are a function of published bytes alone: what a record of them must say.

Of MNIST, and of mnist-small that ships with data_prep: the splits of 50,000 and 10,000 (2,000 and 200) images and all
of both together, as "unit", "signed", "centered" and "normalized" give them, computed from the official files. These
preprocessings are divisions and subtractions of float32 numbers, with the same bits on every machine.

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
    ("mnist", "normalized", "train", 50_000): "35aa61bf5d9032aee82a050234c2b2fcb894bba975ad56775994ea52429d1dbb",
    ("mnist", "normalized", "valid", 10_000): "f24e7760d07bea31b63d2431ed51b2d33599993bc878252d9de8398078961015",
    ("mnist", "normalized", "test", 10_000): "cb74b0700a63c10166db87fc87d131fd175cd8d39c5377c18fa74dc6fd4a698b",
    ("mnist", "normalized", "train", 60_000): "3926b2f35e5653fc08e8dffbc9187c5c1b455807d168aafa2bbc81a4b67f8eee",
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
    ("mnist-small", "normalized", "train", 2_000): "bf91a7c926300b4a3eb1ee4f1f6842402feb8c534794af0a1fc7bf419079f6d6",
    ("mnist-small", "normalized", "valid", 200): "1755cb534a60ead21f919c175971c7deb94cb0e1de27657b0abe894cea74cb39",
    ("mnist-small", "normalized", "test", 200): "ca97294049ccddda3c7d3336c4c50ae8c903ac83fbf6fafc367345d2755b3169",
    ("mnist-small", "normalized", "train", 2_200): "378db982f6582e32a29f22cb78c4911ee998864e3be1f25d21829f8e05df65b7",
    ("mnist", "unit", "valid", 0): EMPTY,
    ("mnist", "signed", "valid", 0): EMPTY,
    ("mnist", "centered", "valid", 0): EMPTY,
    ("mnist", "normalized", "valid", 0): EMPTY,
    ("mnist-small", "unit", "valid", 0): EMPTY,
    ("mnist-small", "signed", "valid", 0): EMPTY,
    ("mnist-small", "centered", "valid", 0): EMPTY,
    ("mnist-small", "normalized", "valid", 0): EMPTY,
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
