"""feed.xml: the latest records as an Atom feed (RFC 4287). Corrections have no date, and stand in changes.html.

A site does not know its own address: ids are URNs, links are relative to the feed.
"""

from __future__ import annotations

from markupsafe import escape

from results.views.leaderboard import Leaderboard, Run

MOST = 100  # entries
_BEGINNING = "2015-11-02T00:00:00Z"  # of a registry without records: the day of BinaryConnect


def atom(board: Leaderboard) -> str:
    """The feed's text."""
    runs = sorted(board.runs, key=lambda run: (run.started, run.id), reverse=True)[:MOST]
    updated = runs[0].started if runs else _BEGINNING
    entries = "".join(map(_entry, runs))
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
        "<title>Binary neural networks, reproduced: new records</title>\n<id>urn:bnn-reproducibility:records</id>\n"
        f'<updated>{escape(updated)}</updated>\n<link href="index.html"/>\n<link rel="self" href="feed.xml"/>\n'
        f"<author><name>bnn-reproducibility {escape(board.harness)}</name></author>\n{entries}</feed>\n"
    )


def _entry(run: Run) -> str:
    error = "no result" if run.test_error is None else f"{run.test_error:.3f} % test error"
    title = f"{run.benchmark}, seed {run.seed}: {error}"
    return (
        f"<entry>\n<title>{escape(title)}</title>\n<id>urn:bnn-reproducibility:record:{escape(run.id)}</id>\n"
        f'<updated>{escape(run.started)}</updated>\n<link href="record/{escape(run.id)}.html"/>\n'
        f"<summary>{escape(run.verdict)}; {escape(run.device)}, {escape(run.engine)}</summary>\n</entry>\n"
    )
