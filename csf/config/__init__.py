"""Configuration: Hydra composes yaml files, which are validated and converted to frozen dataclasses."""
