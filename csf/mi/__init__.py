"""Mutual information: the estimators and bounds that the objectives are made of."""
