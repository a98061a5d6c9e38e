"""How a run ended, in words or with what --json adds to its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from benchmarks.hints import as_typed
from commands.output import echo

if TYPE_CHECKING:
    from benchmarks.run.reporting import Outcome
    from benchmarks.verdict import Verdict
    from results.record import Point, Record


def with_derived(record: Record, verdict: Verdict) -> dict[str, Any]:
    """A record as --json prints it: with what is derived from it."""
    from results.record.canonical import to_builtins

    content: dict[str, Any] = to_builtins(record)
    derived = {"results": record.results, "restarts": record.restarts, "seeds": record.seeds, "verdict": verdict}
    return content | derived


def print_outcome(outcome: Outcome, verdict: Verdict) -> None:
    """The result, how it was chosen and what it comes to, and where everything is."""
    from results.weights import LARGEST

    record = outcome.record
    echo(f"{record.benchmark}: {record.outcome} after {len(record.curve.epoch)} epochs")
    if record.results is not None:
        point, counted, places = record.results.declared, record.results.counted, record.target.decimals + 1
        chosen = _chosen(record, point)
        binomial = (
            f"{verdict.standard_error or 0:.{places}f} (binomial standard error on {counted.test_images:,} images)"
        )
        click.echo(f"  test error {counted.test_error:.{places}f} % +- {binomial} at epoch {point.epoch}, {chosen}")
        if record.curve.train_error:
            click.echo(f"  training error {record.curve.train_error[point.epoch - 1]:.{places}f} % at that epoch")
        if counted.test_images != point.test_images:
            click.echo(
                f"  over all {point.test_images:,} test images, where the authors count {counted.test_images:,}:"
                f" {point.test_error:.{places}f} %"
            )
        click.echo(f"  {_beside_the_result(record, places)}")
    if outcome.comparison:
        click.echo(f"  {outcome.comparison}")
    judged = verdict.word not in ("not scored", "no published target")
    provisional = " (provisional)" if verdict.provisional and judged else ""
    mixed = "".join(f"; mixed {kind}: its sittings had different ones" for kind in record.mixtures)
    echo(f"  verdict: {verdict.word}{provisional}: {verdict.explanation}{mixed}")
    click.echo(f"  record: {outcome.registered or outcome.folder.record_path}")
    curve, log = (outcome.folder.path / name for name in ("learning-curve.png", "tensorboard"))
    drawn = f"learning curve: {curve}; " if record.curve.epoch else ""
    click.echo(f"  {drawn}TensorBoard log: {log}")
    if outcome.registered:
        click.echo(as_typed("  to have it in results/table.csv and the README: python cli.py table --write"))
    if record.published_weights and outcome.registered:
        click.echo(as_typed(
            f"  weights: {record.published_weights.bytes:,} bytes beside the record, published when both are committed;"
            f" to evaluate them: python cli.py evaluate --pretrained {record.id}"
        ))  # fmt: skip
    elif outcome.registered and record.outcome == "finished":
        why = record.unpublished_reason or f"results/README.md says which are, of at most {LARGEST:,} bytes"
        echo(f"  weights: not published; {why}")


def _chosen(record: Record, declared: Point) -> str:
    """How the declared epoch was chosen."""
    from results.record import BEST_OF_TEST

    if record.recipe.selection == "last":
        return "the last"
    if record.recipe.selection in BEST_OF_TEST:
        return "the best on the test images, as the claim was chosen"
    return f"the best on validation ({declared.valid_error:.2f} %)"


def _beside_the_result(record: Record, places: int) -> str:
    """The errors of the last and of the best epoch on the test images, and whether one of them is the result."""
    assert record.results is not None
    declared = record.results.declared.epoch
    others = {"last epoch": record.results.last, "lowest ever seen": record.results.best_test}
    texts = [
        f"{name} {point.test_error:.{places}f} %{' (the result)' if point.epoch == declared else ''}"
        for name, point in others.items()
    ]
    neither = all(point.epoch != declared for point in others.values())
    return ", ".join(texts) + (" (neither is the result)" if neither else "")
