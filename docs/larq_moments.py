"""The error of Larq's tutorial network at many moments of its training (docs/findings.md).

    python docs/larq_moments.py gluon SEED [DATA]   (requirements.txt)
    python docs/larq_moments.py larq SEED [DATA]    (requirements-larq.txt; h5py)

Trains as larq-mnist says, from the run's own first weights and in its own order with gluon; `larq` is Larq itself, with
the tutorial's cells. Ten times in each epoch the test images are evaluated. Rows for docs/larq_moments.csv, images of
10,000 that are classified wrongly:

- running: by the running statistics of the batch normalization, as everybody evaluates;
- batch: by the statistics of the evaluated batch of 1,000 images, of Larq alone;
- held: by the running statistics, too, when 500 more batches have moved them and nothing else; in the last epoch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402

from benchmarks.recipe import load_recipe  # noqa: E402
from benchmarks.run.data import load_data  # noqa: E402

RECIPE = load_recipe("larq-mnist")
BATCH, LR, EPOCHS = RECIPE.train.batch_size, RECIPE.train.lr_start, RECIPE.train.epochs
PART = 94 * BATCH  # of 938 batches
HELD = 500 * BATCH
EVALUATED = 1000


class Gluon:
    """This harness, with the numbers of a run of the same seed."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int) -> None:
        from benchmarks.engine import open_engine

        self._images, self._labels, self._seed = images, labels, seed
        self._engine = open_engine("gluon", RECIPE.model, RECIPE.image_shape, seed, device="cpu", threads=1)

    def order(self, epoch: int) -> np.ndarray:
        from benchmarks.run.protocol import next_order

        return next_order(RECIPE.train.shuffle, np.arange(len(self._labels)), self._seed, epoch)

    def train(self, rows: np.ndarray, lr: float = LR) -> None:
        self._engine.train_epoch(self._images, self._labels, rows, BATCH, lr, keep_remainder=True)

    def scores(self, images: np.ndarray) -> np.ndarray:
        return self._engine.scores(images, EVALUATED)

    def scores_by_batch(self, images: np.ndarray) -> None:
        """Not by this engine."""

    def scores_when_held(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        kept = self._engine.state()
        self.train(rows, lr=0.0)
        found = self.scores(images)
        self._engine.load_state(kept)
        return found


class Larq:
    """Larq itself, with random numbers of Keras and NumPy."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int) -> None:
        import larq_runs
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.keras.utils.set_random_seed(seed)
        self._images, self._labels = images.transpose(0, 2, 3, 1), labels
        self._generator = np.random.default_rng(seed)
        self._model = larq_runs.tutorial()

    def order(self, epoch: int) -> np.ndarray:
        return self._generator.permutation(len(self._labels))

    def train(self, rows: np.ndarray) -> None:
        self._model.fit(self._images[rows], self._labels[rows], batch_size=BATCH, verbose=0, shuffle=False)

    def scores(self, images: np.ndarray, *, training: bool = False) -> np.ndarray:
        parts = np.split(images.transpose(0, 2, 3, 1), len(images) // EVALUATED)
        return np.concatenate([self._model(part, training=training).numpy() for part in parts])

    def scores_by_batch(self, images: np.ndarray) -> np.ndarray:
        kept = self._model.get_weights()
        found = self.scores(images, training=True)
        self._model.set_weights(kept)
        return found

    def scores_when_held(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        kept = self._model.get_weights()
        for start in range(0, len(rows), BATCH):
            self._model(self._images[rows[start : start + BATCH]], training=True)
        found = self.scores(images)
        self._model.set_weights(kept)
        return found


def main(program: str, seed: int, root: Path) -> None:
    """Print a row a moment."""
    data = load_data(RECIPE, root, seed)
    images, labels = data.train.images[:], data.train.labels
    trained: Any = {"gluon": Gluon, "larq": Larq}[program](images, labels, seed)

    def wrong(scores: np.ndarray | None) -> int | str:
        return "" if scores is None else int(np.count_nonzero(scores.argmax(1) != data.test.labels))

    test = data.test.images[:]
    for epoch in range(1, EPOCHS + 1):
        order = trained.order(epoch)
        for start in range(0, len(order), PART):
            trained.train(order[start : start + PART])
            held = trained.scores_when_held(test, order[:HELD]) if epoch == EPOCHS else None
            batches = -(-min(start + PART, len(order)) // BATCH)
            found = (trained.scores(test), trained.scores_by_batch(test), held)
            print(program, seed, epoch, batches, *map(wrong, found), sep=",", flush=True)


if __name__ == "__main__":
    folder = sys.argv[3] if len(sys.argv) > 3 else os.environ.get("BNN_DATA", ROOT / "data")
    main(sys.argv[1], int(sys.argv[2]), Path(folder))
