"""The HTML page of one or several runs: reading runs, grouping and aggregating them, figures, the page."""
