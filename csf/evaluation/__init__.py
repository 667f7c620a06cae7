"""Evaluation of skills: metrics, plots, videos and diagnostics."""
