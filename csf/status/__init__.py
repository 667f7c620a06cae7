"""The state of the runs in a folder, read from what they leave on disk."""
