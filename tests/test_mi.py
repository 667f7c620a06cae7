"""Bounds against sums written out and known information, candidates by hand, regularizers on small examples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from csf.mi import candidates
from csf.mi.bounds import info_nce, interpolated, leave_one_out, smoothed, tuba
from csf.mi.critics import CRITICS
from csf.mi.entropy import neighbor_entropy
from csf.mi.regularizers import Layers, Mixup, gradient_penalty, regularized_mlp, symmetric_beta, targets

PLAIN = Layers(0.0, False, False, False)
ALPHA = 0.3
Bound = Callable[[Tensor, Tensor], Tensor]


def diagonal(size: int) -> Tensor:
    return torch.arange(size)


@pytest.fixture
def scores() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(7, 7, dtype=torch.float64) * 2


# ---- bounds, against sums written out


def test_tuba_has_the_mean_over_the_other_columns(scores: Tensor) -> None:
    baseline = torch.linspace(-1, 1, 7).double()
    found = tuba(scores, diagonal(7), baseline)
    for i, row in enumerate(scores.tolist()):
        others = [math.exp(score - baseline[i].item()) for j, score in enumerate(row) if j != i]
        assert found[i].item() == pytest.approx(1 + row[i] - baseline[i].item() - sum(others) / 6)


def test_over_a_population_the_own_candidate_counts_too(scores: Tensor) -> None:
    own = torch.tensor([0, 6, 3, 3, 1, 5, 2])
    found = tuba(scores, own, 1.0, population=True)
    for i, row in enumerate(scores.tolist()):
        mean = sum(math.exp(score - 1) for score in row) / 7
        assert found[i].item() == pytest.approx(row[own[i]] - mean)


def test_i_alpha_of_the_batch_is_the_double_sum_of_poole(scores: Tensor) -> None:
    """Every ordered pair (i, j) has the baseline of row i without column j, and of row i without column i."""
    rows = scores.tolist()

    def log_baseline(i: int, left_out: int) -> float:
        mean = sum(math.exp(score) for k, score in enumerate(rows[i]) if k != left_out) / 6
        return math.log(ALPHA * mean + (1 - ALPHA) * math.e)

    pairs = list(itertools.permutations(range(7), 2))
    first = sum(rows[i][i] - log_baseline(i, j) for i, j in pairs) / len(pairs)
    second = sum(math.exp(rows[i][j] - log_baseline(i, i)) for i, j in pairs) / len(pairs)
    found = interpolated(scores, diagonal(7), 1.0, ALPHA)
    assert found.mean().item() == pytest.approx(1 + first - second)


@pytest.mark.parametrize("population", [False, True])
def test_i_alpha_is_nwj_at_0_and_info_nce_at_1(scores: Tensor, population: bool) -> None:
    own = diagonal(7)
    nwj = tuba(scores, own, 1.0, population)
    torch.testing.assert_close(interpolated(scores, own, 1.0, 0.0, population), nwj)
    torch.testing.assert_close(interpolated(scores, own, 1.0, 1e-9, population), nwj)
    at_one = interpolated(scores, own, 1.0, 1.0, population)
    if population:
        torch.testing.assert_close(at_one, info_nce(scores, own))
        return
    for i, row in enumerate(scores.tolist()):  # over 6 of the 7 candidates, the own one among them
        without = [[score for k, score in enumerate(row) if k != j] for j in range(7) if j != i]
        values = [row[i] - math.log(sum(map(math.exp, rest)) / 6) for rest in without]
        assert at_one[i].item() == pytest.approx(sum(values) / 6)


def test_info_nce_over_all_skills_is_the_classifier_s_bound(scores: Tensor) -> None:
    own = torch.tensor([0, 6, 3, 3, 1, 5, 2])
    want = scores.log_softmax(-1)[diagonal(7), own] + math.log(7)
    torch.testing.assert_close(info_nce(scores, own), want)
    torch.testing.assert_close(smoothed(scores, targets(own, 7, 0.0).double()), want)


BOUNDS: dict[str, Bound] = {
    "nce": info_nce,
    "tuba": lambda scores, own: tuba(scores, own, 0.0),
    "nwj": lambda scores, own: tuba(scores, own, 1.0),
    "alpha": lambda scores, own: interpolated(scores, own, 1.0, ALPHA),
    "alpha at 1": lambda scores, own: interpolated(scores, own, 1.0, 1.0),
    "nwj of all": lambda scores, own: tuba(scores, own, 1.0, True),
    "alpha of all": lambda scores, own: interpolated(scores, own, 1.0, ALPHA, True),
}
every_bound = pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)


@every_bound
def test_a_row_s_value_grows_with_its_own_score_and_depends_on_no_other_row(bound: Bound, scores: Tensor) -> None:
    for i in range(7):
        given = scores.clone().clamp(max=math.log(7)).requires_grad_()
        (gradient,) = torch.autograd.grad(bound(given, diagonal(7))[i], given)
        assert gradient[i, i] > 0
        assert gradient[i].count_nonzero() > 1, "the others have no say"
        assert gradient.sum().item() == pytest.approx(gradient[i].sum().item())


@every_bound
def test_a_bound_leaves_the_scores_alone(bound: Bound, scores: Tensor) -> None:
    kept = scores.clone()
    bound(scores, diagonal(7))
    assert torch.equal(scores, kept)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_dominating_score_gives_finite_values_and_gradients(name: str) -> None:
    """The own score may be larger than those that exp overflows on, where it is not part of the mean."""
    bound, own = BOUNDS[name], 80.0 if "of all" in name else 200.0
    for place, score in ((0, own), (1, 80.0)):
        given = torch.zeros(2, 4)
        given[0, place] = score
        given.requires_grad_()
        value = bound(given, torch.tensor([0, 1]))
        (gradient,) = torch.autograd.grad(value.sum(), given)
        assert torch.isfinite(value).all()
        assert torch.isfinite(gradient).all()


def test_a_mean_that_leaves_out_the_dominating_score_does_not_cancel() -> None:
    row = torch.tensor([[17.0, 0.0, 0.0, 0.0], [5.0, 5.0, -60.0, 5.0]])
    found = leave_one_out(row)
    torch.testing.assert_close(found[0, 0], torch.tensor(0.0), atol=1e-6, rtol=0)
    for i, j in itertools.product(range(2), range(4)):
        others = torch.cat([row[i, :j], row[i, j + 1 :]]).double()
        assert found[i, j].item() == pytest.approx(others.logsumexp(0).item() - math.log(3), abs=1e-5)


def test_a_leave_one_out_mean_has_the_gradient_of_the_sum(scores: Tensor) -> None:
    assert torch.autograd.gradcheck(leave_one_out, scores.requires_grad_())


# ---- bounds, against known information


def correlated(information: float, size: int, dim: int = 4) -> tuple[Tensor, float]:
    """Optimal scores log p(y_j|x_i) / p(y_j), [size, size], of Gaussian pairs with a mutual information in nats."""
    squared = 1 - math.exp(-2 * information / dim)  # correlation per dimension
    x, noise = torch.randn(2, size, dim, dtype=torch.float64)
    y = math.sqrt(squared) * x + math.sqrt(1 - squared) * noise
    error = (y[None] - math.sqrt(squared) * x[:, None]).square() / (1 - squared)
    ratio = 0.5 * (y.square()[None] - error - math.log(1 - squared)).sum(-1)
    return ratio, information


REPEATS, SIZE = 300, 32


def estimated(bound: Bound, information: float) -> tuple[float, float]:
    """Mean and standard error of a bound with the optimal critic, over batches."""
    torch.manual_seed(0)
    values = torch.stack([bound(correlated(information, SIZE)[0], diagonal(SIZE)).mean() for _ in range(REPEATS)])
    return values.mean().item(), values.std().item() / math.sqrt(REPEATS)


# The optimal critic of a bound with baseline a is the log-ratio plus log a.
OPTIMAL: dict[str, Bound] = {
    "nce": info_nce,
    "tuba": lambda ratio, own: tuba(ratio, own, 0.0),
    "nwj": lambda ratio, own: tuba(ratio + 1, own, 1.0),
    "alpha": lambda ratio, own: interpolated(ratio, own, 0.0, 0.5),
}


@pytest.mark.parametrize("information", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("bound", OPTIMAL.values(), ids=OPTIMAL)
def test_no_bound_exceeds_the_information_of_gaussians(bound: Bound, information: float) -> None:
    mean, error = estimated(bound, information)
    assert mean <= information + 3 * error
    if information == 0.5:
        assert mean > information - 3 * error - 0.02, "with little information, the optimal critic is tight"


def test_info_nce_is_limited_by_the_number_of_candidates_and_the_others_have_more_variance() -> None:
    found = {name: estimated(bound, 6.0) for name, bound in OPTIMAL.items()}
    assert found["nce"][0] < math.log(SIZE)
    assert found["nce"][0] > math.log(SIZE) - 0.5
    assert found["nce"][1] < found["alpha"][1] < found["tuba"][1], "standard errors"
    assert found["nce"][0] < found["alpha"][0] < 6.0, "less bias for more variance"


@pytest.mark.parametrize("name", ["nce", "nwj of all", "alpha of all"])
def test_no_critic_of_discrete_skills_exceeds_their_information(name: str) -> None:
    """Exact expectations over states and skills, by enumeration; critics from useless to optimal and beyond."""
    torch.manual_seed(0)
    count = 6
    joint = (torch.randn(9, count).double() * 1.5).softmax(0) / count  # p(s, z), skills equally likely
    ratio = (joint / joint.sum(1, keepdim=True) * count).log()
    truth = (joint * ratio).sum().item()
    for scale, shift in itertools.product((0.0, 0.5, 1.0, 2.0), (0.0, 1.0)):
        table = scale * ratio + shift
        value = sum((joint[:, z] * BOUNDS[name](table, torch.full((9,), z))).sum() for z in range(count))
        assert float(value) <= truth + 1e-9
        if scale == 1 and (shift == 1 or name == "nce"):
            assert float(value) == pytest.approx(truth), "tight at the optimum"


# ---- candidates

TABLE = torch.tensor([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0], [20.0, 21.0, 22.0], [30.0, 31.0, 32.0]])
SKILL = torch.tensor([2, 0, 0, 1])


def test_all_skills_are_the_table_itself() -> None:
    found = candidates.every_skill(TABLE, SKILL)
    assert torch.equal(found.scores, TABLE)
    assert found.own.tolist() == [2, 0, 0, 1]
    assert found.population


def test_the_batch_s_skills_are_columns_and_the_own_one_is_on_the_diagonal() -> None:
    found = candidates.batch_skills(TABLE, SKILL)
    assert found.scores.tolist() == [[2, 0, 0, 1], [12, 10, 10, 11], [22, 20, 20, 21], [32, 30, 30, 31]]
    assert found.own.tolist() == [0, 1, 2, 3]
    assert not found.population


def test_the_batch_s_states_are_the_other_axis() -> None:
    found = candidates.batch_states(TABLE, SKILL)
    assert found.scores.tolist() == [[2, 12, 22, 32], [0, 10, 20, 30], [0, 10, 20, 30], [1, 11, 21, 31]]
    assert found.own.tolist() == [0, 1, 2, 3]
    assert not found.population


def test_fresh_skills_follow_the_own_one() -> None:
    found = candidates.fresh_skills(TABLE, SKILL, torch.tensor([1, 1]))
    assert found.scores.tolist() == [[2, 1, 1], [10, 11, 11], [20, 21, 21], [31, 31, 31]]
    assert found.own.tolist() == [0, 0, 0, 0]
    assert not found.population


# ---- critics


@pytest.mark.parametrize("name", CRITICS)
def test_a_critic_scores_every_pair_of_state_and_skill(name: str) -> None:
    torch.manual_seed(0)
    hidden = () if name == "linear" else (8,)
    critic = CRITICS[name](3, 4, hidden, 5, lambda sizes: regularized_mlp(sizes, PLAIN))
    x, skills = torch.randn(6, 3), torch.eye(4)
    table = critic(x, skills)
    assert table.shape == (6, 4)
    for i, j in itertools.product(range(6), range(4)):
        torch.testing.assert_close(critic(x[i : i + 1], skills[j : j + 1])[0, 0], table[i, j])
    assert (table.std(0) > 1e-4).all(), "states differ"
    assert (table.std(1) > 1e-4).all(), "skills differ"
    if name == "separable":
        assert critic(1e4 * x, 1e4 * skills).abs().max() <= 1 + 1e-6
    if name == "linear":
        torch.testing.assert_close(critic(2 * x, skills) - table, table - critic(0 * x, skills))


# ---- regularizers


def test_layers_come_in_their_order_and_the_last_one_is_plain() -> None:
    kinds = [type(layer).__name__ for layer in regularized_mlp([2, 3, 4, 1], Layers(0.5, True, True, False))]
    hidden = ["SpectralLinear", "BatchNorm1d", "ReLU", "Dropout"]
    assert kinds == [*hidden, *hidden, "Linear"]
    kinds = [type(layer).__name__ for layer in regularized_mlp([2, 3, 1], Layers(0, False, False, True))]
    assert kinds == ["Linear", "LayerNorm", "ReLU", "Linear"]


def test_spectral_layers_have_norm_one_from_the_start() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        net = regularized_mlp([30, 40, 1], Layers(0, True, False, False)).eval()
        zero = net[0](torch.zeros(1, 30))
        size = torch.linalg.matrix_norm((net[0](torch.eye(30)) - zero).T, 2).item()
        assert 0.95 < size < 1.1


def test_targets_are_distributions_with_the_own_candidate_in_front() -> None:
    found = targets(torch.tensor([1, 0]), 4, 0.2)
    torch.testing.assert_close(found, torch.tensor([[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]]))


def test_label_smoothing_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    scores, own = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 3])
    want = nn.functional.cross_entropy(scores, own, label_smoothing=0.2)
    found = -smoothed(scores, targets(own, 4, 0.2)).mean() + math.log(4)
    torch.testing.assert_close(found, want)


def test_mixup_mixes_states_and_targets_alike() -> None:
    torch.manual_seed(0)
    mix = Mixup.draw(6, 0.4, torch.device("cpu"))
    assert sorted(mix.order.tolist()) == list(range(6))
    rows = torch.randn(6, 3)
    found = mix(rows)
    for i in range(6):
        torch.testing.assert_close(found[i], mix.share * rows[i] + (1 - mix.share) * rows[mix.order[i]])
    torch.testing.assert_close(mix(torch.eye(6)).sum(1), torch.ones(6))
    orders = {tuple(Mixup.draw(6, 0.4, torch.device("cpu")).order.tolist()) for _ in range(20)}
    assert len(orders) > 10, "each draw has an order of its own"


@pytest.mark.parametrize("beta", [0.4, 1.0, 3.0])
def test_the_weight_of_mixup_has_the_beta_distribution(beta: float) -> None:
    torch.manual_seed(0)
    found = symmetric_beta(beta, torch.device("cpu"), (100_000,)).sort().values
    want = torch.distributions.Beta(beta, beta).sample((100_000,)).sort().values
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found - want).abs()[::100].max() < 0.02, "quantiles"


def test_the_gradient_penalty_is_that_of_its_formula() -> None:
    x = torch.randn(5, 3, dtype=torch.float64).requires_grad_()
    weight = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64)
    losses = x @ weight * torch.arange(5)  # gradient norms 0, 5, 10, 15, 20
    sample = sum((5 * i - 1) ** 2 for i in range(5)) / 5
    assert gradient_penalty(losses, x, "sample").item() == pytest.approx(sample)
    batch = (math.sqrt(sum((5 * i / 5) ** 2 for i in range(5))) - 1) ** 2
    assert gradient_penalty(x @ weight * torch.arange(5), x, "batch").item() == pytest.approx(batch)


@pytest.mark.parametrize("over", ["sample", "batch"])
def test_the_gradient_penalty_moves_parameters_and_brings_the_norm_to_one(over: str) -> None:
    torch.manual_seed(0)
    net = regularized_mlp([3, 16, 1], PLAIN)
    x = torch.randn(64, 3)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    found = []
    for _ in range(300):
        given = x.clone().requires_grad_()
        penalty = gradient_penalty(net(given).squeeze(-1), given, over)  # type: ignore[arg-type]
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
        found.append(penalty.item())
    assert found[0] > 0.05
    assert found[-1] < 0.1 * found[0]


# ---- entropy


@pytest.mark.parametrize("dim", [1, 2, 4, 8])
def test_the_entropy_of_normal_points_is_within_five_percent(dim: int) -> None:
    torch.manual_seed(0)
    points = torch.randn(2_000, dim, dtype=torch.float64)
    truth = 0.5 * dim * math.log(2 * math.pi * math.e)
    assert neighbor_entropy(points, 3).item() == pytest.approx(truth, rel=0.05)
    assert neighbor_entropy(3 * points, 3).item() == pytest.approx(truth + dim * math.log(3), rel=0.05)


@pytest.mark.parametrize("dim", [1, 2])
def test_the_entropy_of_uniform_points_is_the_logarithm_of_the_volume(dim: int) -> None:
    torch.manual_seed(0)
    assert neighbor_entropy(torch.rand(2_000, dim) * 5, 3).item() == pytest.approx(dim * math.log(5), abs=0.05 * dim)


def test_the_entropy_does_not_depend_on_chunks_and_is_finite_for_repeated_points() -> None:
    torch.manual_seed(0)
    points = torch.randn(50, 2)
    torch.testing.assert_close(neighbor_entropy(points, 3), neighbor_entropy(points, 3, chunk=7))
    assert torch.isfinite(neighbor_entropy(torch.zeros(10, 2), 3))
