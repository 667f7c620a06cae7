"""HTML pages of runs: load, statistics, figures, page."""
