"""Adaptation of a skill to a task: the choice of the skill, what is transferred, and reference scores."""
