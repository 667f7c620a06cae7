"""From episodes to gradient steps."""
