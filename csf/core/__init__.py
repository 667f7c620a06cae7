"""What every method stands on: optimizers and acceleration."""
