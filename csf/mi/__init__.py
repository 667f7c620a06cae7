"""Mutual information: bounds and estimators used by the objectives."""
