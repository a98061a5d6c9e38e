"""The leaderboard as a static site: complete pages that work without a script, from a folder, without any host."""

from __future__ import annotations

from results.views.html.site import site, write_site

__all__ = ["site", "write_site"]
