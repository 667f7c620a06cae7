"""Examines this machine."""
