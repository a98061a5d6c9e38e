"""The words of settings that no engine computes: of data, training and protocol. See words.py, which has all."""

from __future__ import annotations

from benchmarks.recipe.word import BINARYNET, BREVITAS, RWTH, XNOR, Word

RUN_WORDS: dict[str, tuple[Word, ...]] = {
    "data.dataset": (
        Word("mnist", "Handwritten digits, 28x28 pixels: 60,000 training and 10,000 test images."),
        Word("mnist-small", "A small part of MNIST, for tests, with 200 test images."),
        Word("cifar10", "Color photographs of ten classes, 32x32 pixels: 50,000 training and 10,000 test images."),
        Word("cifar10-small", "A small part of CIFAR-10, for tests, with 200 test images."),
        Word("svhn", "Street View House Numbers, 32x32 pixels in color: 26,032 test images."),
    ),
    "data.preprocessing": (
        Word(
            "centered", "MNIST less the mean of each pixel, test images less that of the test images.",
            "x / 255 - mean", source="pylearn2, MNIST(center=True)",
        ),
        Word("unit", "Pixels are scaled to [0, 1].", "x / 255"),
        Word("signed", "Pixels are scaled to [-1, 1].", "2 x / 255 - 1", source="BinaryNet, cifar10.py"),
        Word(
            "normalized", "MNIST less the mean, divided by the standard deviation, of all training pixels, both to"
            " four digits.", "(x / 255 - .1307) / .3081", source=XNOR + "MNIST/main.py:135-138",
        ),
        Word(
            "gcn_zca", "Global contrast normalization, then ZCA whitening.",
            source="pylearn2@fe9beee, pylearn2/scripts/datasets/make_cifar10_gcn_whitened.py",
        ),
        Word(
            "gcn_lcn_red", "Global contrast normalization of the image, then local contrast normalization of red.",
            source="pylearn2 since c71be4b, LeCunLCN.transform",
        ),
        Word(
            "gcn_lcn", "Global contrast normalization, then local contrast normalization of every channel.",
            source="pylearn2@fe9beee, pylearn2/datasets/preprocessing.py, lecun_lcn",
        ),
        Word(
            "standardized", "Less the mean, divided by the standard deviation, of all pixels of the training split.",
            "(x - mean) / std", source=BINARYNET + "Data.lua; DataProvider.torch, Container.lua",
        ),
        Word(
            "torch7_zca", "Scaled to [0, 1], then whitened twice, both fitted to the training images alone.",
            source=BINARYNET + "Data.lua; nicholas-leonard/dp, preprocess/zca.lua; koraykv/unsup, whitening.lua",
        ),
        Word(
            "torch7_lcn", "Global contrast normalization by the deviation, then local contrast normalization.",
            source=BINARYNET + "Data.lua; nicholas-leonard/dp, preprocess/gcn.lua and preprocess/lecunlcn.lua",
        ),
    ),
    "data.split": (
        Word("published", "The validation images are those that the published code takes."),
        Word("random", "Drawn from all training images by the run's seed; the others are trained on, in file order."),
    ),
    "data.labels": (
        Word("true", "Labels are those of the data set."),
        Word("random", "Uniform, drawn once by the run's seed, for training, validation and test images."),
        Word("random_train_valid", "As \"random\", for training and validation images only."),
    ),
    "data.inputs": (
        Word("images", "The images of the data set."),
        Word(
            "noise", "The pixels of the training images, after preprocessing, are replaced by noise, drawn once as a"
            " function of the run's seed; validation and test images stay.", "N(0, variance .1)",
        ),
    ),
    "data.augmentation": (
        Word("none", "Images are used as they are."),
        Word(
            "flip_edge_crop", "Every image, whenever it is used, is mirrored left to right with probability 1/2, then"
            " padded by 4 pixels on each side, which repeat its edge, then cropped to its size at a uniformly drawn"
            " place.", source=RWTH + "util.py, load_raw_data",
        ),
        Word("flip_zero_crop", "As \"flip_edge_crop\", but the added pixels are 0 after preprocessing."),
    ),
    "data.augmented": (
        Word("train", "Training images are augmented."),
        Word("train_valid", "The validation images are augmented too.", source=RWTH + "util.py, load_raw_data"),
    ),
    "data.subset": (
        Word("all", "All images that the data set has for training."),
        Word("train_digits", "Of SVHN the digits of `train` alone, none of `extra`."),
    ),
    "train.lr_decay": (
        Word(
            "exponential", "Multiplied after each epoch so that it would be `lr_final` after the last one.",
            "lr *= (lr_final / lr_start)^(1 / epochs)",
        ),
        Word("halving", "Halved after every `lr_halving_epochs` epochs."),
        Word(
            "steps", "Multiplied by `lr_factor` before each epoch (counted from 1) of `lr_milestones`, those after the"
            " last having no effect.",
        ),
        Word("constant", "It stays."),
    ),
    "train.shuffle": (
        Word("cumulative", "The order of the last epoch, shuffled again."),
        Word("fresh", "In every epoch a new permutation of the images as they are stored."),
        Word("none", "The images as they are stored, in every epoch."),
    ),
    "protocol.selection": (
        Word("best_validation", "The epoch of the fewest validation errors, of several the last."),
        Word("first_best_validation", "The epoch of the fewest validation errors, of several the first."),
        Word("last", "The last epoch."),
        Word(
            "best_test", "The epoch of the fewest test errors, of several the last: as low as the luckiest of as many"
            " looks at the test images as there are epochs.",
            source=BREVITAS + "brevitas_examples/bnn_pynq/trainer.py:336",
        ),
        Word(
            "first_best_test", "As \"best_test\", of several the first.", source=XNOR + "MNIST/main.py:72-75",
        ),
    ),
    "protocol.remainder": (
        Word("dropped", "Training images that do not fill a last batch are not trained on in that epoch."),
        Word("kept", "They are trained on as a smaller batch."),
    ),
    "protocol.counted_test_images": (
        Word("all", "The verdict counts all test images."),
        Word("whole_batches", "The verdict counts only the test images of whole batches of `batch_size`.",
            source="BinaryConnect, binary_connect.py, val_epoch"),
    ),
}  # fmt: skip
