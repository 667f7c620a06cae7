"""Shared basics: devices, optimizers and conversion of inputs."""
