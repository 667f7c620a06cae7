"""Reads and writes the files of runs."""
