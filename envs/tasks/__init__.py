"""Tasks on worlds that exist: what a controller above pretrained skills, or a plain agent, is rewarded for."""
