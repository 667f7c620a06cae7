"""Bounds as functions of scores, against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from csf.mi.bounds import accuracy, contrast, info_nce, log_ratio, noise_contrast

ROWS, COUNT = 6, 9


@pytest.fixture
def scores() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(ROWS, COUNT, dtype=torch.float64) * 2


@pytest.fixture
def own() -> torch.Tensor:
    return torch.tensor([0, 8, 3, 3, 1, 5])


def test_the_contrast_is_the_own_score_less_the_weighted_log_sum(scores: torch.Tensor) -> None:
    positive = torch.arange(ROWS).double()
    bound, normalizer = contrast(positive, scores, 5.0)
    for i in range(ROWS):
        total = math.log(sum(math.exp(score) for score in scores[i].tolist()))
        assert normalizer[i].item() == pytest.approx(total)
        assert bound[i].item() == pytest.approx(i - 5 * total)


def test_a_classifier_is_the_contrast_with_all_candidates_and_at_most_log_k(
    scores: torch.Tensor, own: torch.Tensor
) -> None:
    found = info_nce(scores, own)
    positive = scores[torch.arange(ROWS), own]
    torch.testing.assert_close(found, contrast(positive, scores)[0] + math.log(COUNT))
    sure = torch.nn.functional.one_hot(own, COUNT).double() * 100
    torch.testing.assert_close(info_nce(sure, own), torch.full((ROWS,), math.log(COUNT), dtype=torch.float64))
    assert info_nce(torch.zeros(ROWS, COUNT), own).abs().max() < 1e-6


def test_the_log_ratio_counts_the_own_skill_among_the_candidates(scores: torch.Tensor) -> None:
    positive = torch.arange(ROWS).double()
    found = log_ratio(positive, scores)
    every = torch.cat([positive[:, None], scores], 1)
    torch.testing.assert_close(found, info_nce(every, torch.zeros(ROWS, dtype=torch.int64)))


def test_the_log_ratio_of_hopeless_skills_is_finite() -> None:
    extreme = torch.tensor([[1e6, 0.0], [-1e6, -1e6]])
    worst, best = log_ratio(torch.zeros(2), extreme)
    assert worst.item() == pytest.approx(math.log(3) - 50, rel=1e-6)
    assert best.item() == pytest.approx(math.log(3))


def test_the_noise_contrast_leaves_out_the_largest_term(scores: torch.Tensor, own: torch.Tensor) -> None:
    cosines = scores.tanh() * 2
    found = noise_contrast(cosines, own, 2.0)
    for i, row in enumerate(cosines.tolist()):
        rest = sum(math.exp(score) for score in row) - math.exp(2.0)
        assert found[i].item() == pytest.approx(math.log(math.exp(row[own[i]]) / (max(rest, 1e-6) + 1e-6)))


def test_the_noise_contrast_of_a_single_candidate_is_finite() -> None:
    found = noise_contrast(torch.ones(1, 1), torch.zeros(1, dtype=torch.int64), 2.0)
    assert found.item() == pytest.approx(1 - math.log(2e-6), rel=1e-5)


def test_accuracy_counts_the_rows_whose_own_score_is_largest() -> None:
    scores = torch.tensor([[0.0, 1.0], [0.0, 1.0], [2.0, 1.0], [2.0, 1.0]], requires_grad=True)
    found = accuracy(scores, torch.tensor([1, 0, 0, 0]))
    assert found.item() == 0.75
    assert not found.requires_grad
