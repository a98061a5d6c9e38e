"""Files like those of SVHN, in any size up to the true one, made of real small images; and what preparing them costs.

    python -m tests.data_prep.svhn_files write DIR [SHARE]      # SHARE of the true number of images, 1 by default
    python -m tests.data_prep.svhn_files measure DIR [SHARE]    # prepare them in DIR/data: time, memory, disk, reading

The images are those of the package's CIFAR-10 fixture, shifted and changed in brightness and contrast at random: they
have the statistics of natural images, and no two are the same. Nobody but its authors can make SVHN's own files.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from rich.console import Console

from data_prep import RichProgress
from data_prep.cifar10.records import parse_sheet
from data_prep.fetch.download import Artifact
from data_prep.storage.files import sha256_of
from data_prep.svhn import dataset as svhn
from data_prep.svhn.release import MatFile, Release

FIXTURE = Path(svhn.__file__).parents[1] / "fixtures" / "cifar10_small.npz"
TRUE_SIZES = svhn.OFFICIAL.sizes
_PIECE = 2000


def images(count: int, seed: int) -> Iterator[np.ndarray]:
    """`count` images in pieces, uint8 (n, 3, 32, 32)."""
    with np.load(FIXTURE, allow_pickle=False) as file:
        base = parse_sheet(file["sheet"].tobytes(), FIXTURE.name, 700)
    generator = np.random.default_rng(seed)
    for start in range(0, count, _PIECE):
        n = min(_PIECE, count - start)
        shift = generator.integers(-8, 9, 2)
        piece = np.roll(base, shift, (2, 3))[generator.integers(0, len(base), n)].astype(np.float32)
        piece *= generator.uniform(0.5, 1.2, (n, 1, 1, 1)).astype(np.float32)
        piece += generator.uniform(-40, 80, (n, 3, 1, 1)).astype(np.float32)
        yield np.clip(piece, 0, 255).astype(np.uint8)


def digits(count: int, seed: int) -> np.ndarray:
    """Labels 1..10, each as often as the others as far as that goes, in random order."""
    return np.random.default_rng(seed).permutation(np.arange(count) % 10 + 1)


def element(kind: int, data: bytes) -> bytes:
    if len(data) <= 4:
        return struct.pack("<HH", kind, len(data)) + data.ljust(4, b"\0")
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(name: str, shape: tuple[int, ...], mx_class: int, stored: int, size: int) -> tuple[bytes, bytes]:
    """What comes before and behind `size` bytes of values of type `stored` in an uncompressed variable."""
    head = element(6, struct.pack("<II", mx_class, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    head += element(1, name.encode())
    short = size <= 4
    head += struct.pack("<HH", stored, size) if short else struct.pack("<II", stored, size)
    tail = bytes(4 - size if short else -size % 8)
    return struct.pack("<II", 14, len(head) + size + len(tail)) + head, tail


def write_variable(stream: BinaryIO, head: bytes, values: Iterable[bytes], tail: bytes, level: int | None) -> None:
    """Write a variable: compressed with zlib's `level`, or as it is with None."""
    if level is None:
        for piece in (head, *values, tail):
            stream.write(piece)
        return
    packer, start = zlib.compressobj(level), stream.tell()
    stream.write(struct.pack("<II", 15, 0))
    for piece in (head, *values, tail):
        stream.write(packer.compress(piece))
    stream.write(packer.flush())
    end = stream.tell()
    stream.seek(start + 4)
    stream.write(struct.pack("<I", end - start - 8))
    stream.seek(end)


def write_mat(
    path: Path,
    pieces: Iterable[np.ndarray],
    labels: np.ndarray,
    *,
    level: int | None = 1,
    labels_first: bool = False,
    labels_as: str = "uint8",
) -> None:
    """A MATLAB 5 file with X, uint8 (32, 32, 3, N), and y, (N, 1).

    Args:
        pieces: the images, uint8 (n, 3, 32, 32) each.
        labels_as: "uint8", "double", or "short double": a double stored as bytes, as MATLAB does with such values.
    """
    count = len(labels)
    mx_class, stored, dtype = {"uint8": (9, 2, "u1"), "double": (6, 9, "<f8"), "short double": (6, 2, "u1")}[labels_as]
    y = labels.astype(dtype).tobytes()
    x = (piece.transpose(0, 1, 3, 2).tobytes() for piece in pieces)
    head_y, tail_y = matrix("y", (count, 1), mx_class, stored, len(y))
    head_x, tail_x = matrix("X", (32, 32, 3, count), 9, 2, count * 3072)
    variables = [(head_x, x, tail_x), (head_y, [y], tail_y)]
    with open(path, "wb") as stream:
        stream.write(b"MATLAB 5.0 MAT-file, made for a test".ljust(116) + bytes(8) + b"\x00\x01IM")
        for head, values, tail in reversed(variables) if labels_first else variables:
            write_variable(stream, head, values, tail, level)


def artifact_of(path: Path) -> Artifact:
    return Artifact(path.name, path.stat().st_size, sha256_of(path))


def release_of(folder: Path, sizes: tuple[int, ...], held_out: tuple[int, int]) -> Release:
    """The files in `folder` as a release, with nothing known of them but their checksums."""
    files = [
        MatFile(artifact_of(folder / official.artifact.name), count)
        for official, count in zip(svhn.OFFICIAL.files, sizes, strict=True)
    ]
    return Release(*files, held_out=held_out, known={})


def write(folder: Path, sizes: tuple[int, ...], **options: object) -> None:
    """The three files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (official, count) in enumerate(zip(svhn.OFFICIAL.files, sizes, strict=True)):
        write_mat(folder / official.artifact.name, images(count, seed), digits(count, seed), **options)  # type: ignore[arg-type]


def sizes_at(share: float) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Images of each file, and how many of each class are held out, at a share of the true numbers."""
    train, extra, test = (round(count * share) for count in TRUE_SIZES)
    return (train, extra, test), (round(400 * share), round(200 * share))


# -- the command -------------------------------------------------------------------------------------------------------


def peak_memory_mib() -> float:
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def disk_mb(folder: Path) -> float:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*")) / 1e6


def evict(path: Path) -> None:
    """Take a file out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def measure(folder: Path, share: float) -> None:
    sizes, held_out = sizes_at(share)
    release, root = release_of(folder, sizes, held_out), folder / "data"
    progress = RichProgress(Console(stderr=True))
    for variant in (None, *svhn.VARIANTS):
        started, processor = time.perf_counter(), time.process_time()
        if variant is None:
            prepared = svhn.prepare("svhn", root, folder, progress, release)
        else:
            prepared = svhn.prepare_variant("svhn", root, variant, folder, progress, release)
        seconds, busy = time.perf_counter() - started, time.process_time() - processor
        print(
            f"{variant or 'svhn'}: {seconds:.1f} s, {busy:.1f} s of processor, {prepared.bytes / 1e6:,.0f} MB,"
            f" peak memory of the process so far {peak_memory_mib():,.0f} MiB, {disk_mb(root):,.0f} MB on disk"
        )
        print("   ", prepared.statistics, flush=True)
    for preprocessing in ("signed", *svhn.VARIANTS):
        read_epoch(root, preprocessing, release)


def read_epoch(root: Path, preprocessing: str, release: Release) -> None:
    """Read the training images in random order, in batches of 50: some with nothing in the page cache, then all."""
    started = time.perf_counter()
    counts = release.counts
    train = svhn.load("svhn", root, preprocessing, counts["train"], counts["valid"], release).train
    loaded = time.perf_counter() - started
    order = np.random.default_rng(0).permutation(len(train.labels))
    batches = order[: len(order) // 50 * 50].reshape(-1, 50)
    evict(root / ("svhn.h5" if preprocessing == "signed" else f"svhn-{preprocessing}.h5"))
    print(f"{preprocessing}: loaded in {loaded:.2f} s", end="")
    for name, some in (("cold", batches[:200]), ("first epoch", batches), ("second epoch", batches)):
        started = time.perf_counter()
        for batch in some:
            train.images[batch]
        seconds = time.perf_counter() - started
        print(f"; {name}: {seconds / len(some) * 1e3:.2f} ms a batch, {some.size / seconds:,.0f} images/s", end="")
    print(f"; peak memory of the process so far {peak_memory_mib():,.0f} MiB", flush=True)


if __name__ == "__main__":
    command, target, *rest = sys.argv[1:]
    fraction = float(rest[0]) if rest else 1.0
    if command == "write":
        write(Path(target), sizes_at(fraction)[0])
    else:
        measure(Path(target), fraction)
