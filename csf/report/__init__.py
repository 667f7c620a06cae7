"""Creates HTML reports of runs."""
