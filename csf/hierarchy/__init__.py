"""Skills as actions: the frozen policy of a pretrained run acts in the worlds; a controller says with which skill."""

from csf.hierarchy.one_world import SkillEnv
from csf.hierarchy.skill_env import SkillVectorEnv

__all__ = ["SkillEnv", "SkillVectorEnv"]
