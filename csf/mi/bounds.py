"""Bounds on mutual information, and rewards derived from them, as functions of scores.

Scores [B, K] measure how well each of K candidates fits a transition: logarithms of densities or of density ratios, up
to a constant per row. `own` is the score of the candidate that belongs to the row, [B], or its column, [B] int64. Every
bound has one value per row, [B]; the loss is its negative mean.
"""

from __future__ import annotations

import math

from torch import Tensor


def contrast(own: Tensor, others: Tensor, weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """CSF: own - weight log sum_k exp(others_k), and the log-sum-exp, both [B]; as released, a sum, not a mean.

    Args:
        own: [B], score of the row's own skill, which need not be among the others.
        others: [B, K], scores of the negatives.
        weight: xi.
    """
    normalizer = others.logsumexp(-1)
    return own - weight * normalizer, normalizer


def classifier(scores: Tensor, own: Tensor) -> Tensor:
    """DIAYN: log softmax(scores)_own + log K, [B], at most log K; the candidates are K equally likely skills."""
    log_probs = scores.log_softmax(-1)
    return log_probs.gather(-1, own[:, None]).squeeze(-1) + math.log(scores.shape[-1])


def log_ratio(own: Tensor, others: Tensor, clip: float = 50.0) -> Tensor:
    """DADS: log (K + 1) exp(own) / (exp(own) + sum_k exp(others_k)), [B], at most log (K + 1).

    Args:
        own: [B], score of the row's own skill.
        others: [B, K], scores of skills from the prior.
        clip: limit of differences to the own score, which keeps the sum finite.
    """
    odds = (others - own[:, None]).clamp(-clip, clip).exp()
    return math.log(others.shape[-1] + 1) - (1 + odds.sum(-1)).log()


def noise_contrast(scores: Tensor, own: Tensor, largest: float, floor: float = 1e-6) -> Tensor:
    """CIC: log exp(own) / (sum_k exp(scores_k) - exp(largest)), [B], with the denominator kept above `floor`.

    As released, not the own term is subtracted but its upper bound, so the difference may be negative.

    Args:
        scores: [B, K], the own one included.
        own: [B] int64, column of the own score.
        largest: upper bound of a score.
        floor: lower limit of the denominator.
    """
    terms = scores.exp()
    rest = (terms.sum(-1) - math.exp(largest)).clamp(min=floor) + floor
    return (terms.gather(-1, own[:, None]).squeeze(-1) / rest).log()


def accuracy(scores: Tensor, own: Tensor) -> Tensor:
    """Fraction of rows in which the own candidate, column `own` [B], has the largest score; [], detached."""
    return (scores.detach().argmax(-1) == own).float().mean()
