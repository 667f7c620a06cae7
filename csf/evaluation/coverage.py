"""State coverage: how many places do the skills reach?"""

from __future__ import annotations

from csf.types import Episodes


def coverage(episodes: Episodes, cell: float) -> int:
    """Number of distinct cells of side `cell` visited, over all steps and episodes (METRA, arXiv 2310.08887)."""
    return len((episodes.visited() / cell).floor().unique(dim=0))
