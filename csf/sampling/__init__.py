"""Collection of experience."""
