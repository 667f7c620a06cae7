"""Bounds on mutual information, and rewards derived from them, as functions of scores.

Scores [B, K] measure how well each of K candidates fits a transition: logarithms of densities or of density ratios.
`own` is the score of the candidate that belongs to the row, [B], or its column, [B] int64. Every bound has one value
per row, [B], in nats; the loss is its negative mean, and the reward is the value of the row.

Sources: Barber and Agakov 2003; Nguyen, Wainwright and Jordan 2010 (arXiv 0809.0853); van den Oord et al. 2018 (arXiv
1807.03748); Poole et al. 2019 (arXiv 1905.06922), which also has TUBA and I_alpha.
"""

from __future__ import annotations

import math

import torch
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


def info_nce(scores: Tensor, own: Tensor) -> Tensor:
    """InfoNCE: log softmax(scores)_own + log K, [B], at most log K; constants per row do not matter.

    If the candidates are all K skills, equally likely, this is the bound of Barber and Agakov with the softmax as
    q(z|s): the classifier of DIAYN.
    """
    return scores.log_softmax(-1).gather(-1, own[:, None]).squeeze(-1) + math.log(scores.shape[-1])


def smoothed(scores: Tensor, target: Tensor) -> Tensor:
    """As `info_nce`, for a distribution over the candidates, `target` [B, K], instead of one of them."""
    return (target * scores.log_softmax(-1)).sum(-1) + math.log(scores.shape[-1])


def tuba(scores: Tensor, own: Tensor, log_baseline: Tensor | float, population: bool = False) -> Tensor:
    """TUBA: 1 + own - log a - mean over the others of exp(score) / a, [B]; with a = e this is the bound NWJ.

    Args:
        scores: [B, K]; constants per row matter.
        own: [B] int64, column of the own score.
        log_baseline: log a, a number or [B].
        population: whether the candidates are all skills, equally likely. The mean then includes the own candidate,
            so that it is the expectation under the prior; otherwise the others are samples of the prior.
    """
    relative = scores - _column(log_baseline, scores)
    positive = relative.gather(-1, own[:, None]).squeeze(-1)
    return 1 + positive - _mean_exp_others(relative, own, population)


def interpolated(
    scores: Tensor, own: Tensor, log_baseline: Tensor | float, alpha: float, population: bool = False
) -> Tensor:
    """I_alpha: TUBA with the baseline alpha m + (1 - alpha) a, [B], where m is the mean of exp(score) in the row.

    The mean leaves one candidate out: the own one in the second expectation of the bound, each of the others in turn in
    the first. alpha = 0 is TUBA with baseline a, and alpha = 1 is InfoNCE over K - 1 candidates. With `population`,
    nothing has to be left out, and alpha = 1 is InfoNCE over K.

    Args:
        scores: [B, K]; constants per row matter.
        own: [B] int64, column of the own score.
        log_baseline: log a, a number or [B].
        alpha: in [0, 1].
        population: as in `tuba`.
    """
    constant = _column(log_baseline, scores)
    if population:
        mean = scores.logsumexp(-1, keepdim=True) - math.log(scores.shape[-1])
        return tuba(scores, own, _mixed(mean, constant, alpha).squeeze(-1), population)
    baselines = _mixed(leave_one_out(scores), constant, alpha)  # log b, [B, K]
    positive, at_own = (rows.gather(-1, own[:, None]) for rows in (scores, baselines))
    mean = baselines.scatter(-1, own[:, None], 0.0).sum(-1) / (scores.shape[-1] - 1)  # over the others
    return 1 + positive.squeeze(-1) - mean - _mean_exp_others(scores - at_own, own, population)


def leave_one_out(scores: Tensor) -> Tensor:
    """Logarithm of the mean of exp(scores) over the other candidates of the row, [B, K] -> [B, K], for K >= 2.

    Differences of sums would cancel where one score dominates its row, so that the sum over the others of the largest
    score is computed by itself.
    """
    largest, where = scores.max(-1, keepdim=True)
    mask = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, where, True)
    below = scores.masked_fill(mask, -math.inf).logsumexp(-1, keepdim=True)
    shift = largest.detach()
    terms = (scores - shift).exp()
    rest = (terms.sum(-1, keepdim=True) - terms).masked_fill(mask, 1.0)  # at least 1, the term of the largest score
    return torch.where(mask, below, rest.log() + shift) - math.log(scores.shape[-1] - 1)


def _column(log_baseline: Tensor | float, scores: Tensor) -> Tensor:
    """A baseline, a number or [B], as a column [1, 1] or [B, 1]."""
    return log_baseline[:, None] if isinstance(log_baseline, Tensor) else scores.new_full((1, 1), log_baseline)


def _mixed(mean: Tensor, constant: Tensor, alpha: float) -> Tensor:
    """Logarithm of alpha exp(mean) + (1 - alpha) exp(constant), [B, K] and [B, 1] or [1, 1] -> [B, K]."""
    if alpha in (0, 1):  # the logarithm of the other weight is infinite
        return mean if alpha else constant.expand_as(mean)
    return torch.logaddexp(mean + math.log(alpha), constant + math.log1p(-alpha))


def _mean_exp_others(scores: Tensor, own: Tensor, population: bool) -> Tensor:
    """Mean [B] of exp(scores) over all columns but the own one [B]; over all columns for a whole population."""
    if population:
        return scores.exp().mean(-1)
    # Masked before exp, because a term that overflows has no finite gradient even if its weight is 0.
    return scores.scatter(-1, own[:, None], -math.inf).exp().sum(-1) / (scores.shape[-1] - 1)


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
