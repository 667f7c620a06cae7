"""Configuration: yaml composed by Hydra, checked, and turned into frozen dataclasses."""
