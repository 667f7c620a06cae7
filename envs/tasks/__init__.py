"""Downstream tasks: existing environments with a reward, for controllers over skills and for plain agents."""
