"""SLUSD (Mohamed et al. 2022, "An Empirical Investigation of Mutual Information Skill Learning"): bounds and critics.

A critic scores how well skills fit a state. It maximizes a lower bound on the mutual information of next state and
skill, and the bound of a transition, among the candidates of its batch, is its reward. `bound=ba critic=mlp` is DIAYN.

Healthy: bound/accuracy exceeds chance, 1 / skill_dim, within the first epochs and rises; with bound=ba and bound=nce,
reward/mean rises from 0 towards log skill_dim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csf.agents.base import Objective, ObjectiveConfig, Prior, objectives
from csf.config.ranges import Count, Fraction, NotNegative, Positive, Range
from csf.core.optim import Minimizer
from csf.errors import ConfigError
from csf.mi import candidates
from csf.mi.bounds import accuracy, info_nce, interpolated, smoothed, tuba
from csf.mi.candidates import Candidates
from csf.mi.critics import CRITICS, Separable
from csf.mi.regularizers import Layers, Mixup, gradient_penalty, regularized_mlp, targets
from csf.nets.encoder import make_encoder
from csf.nets.mlp import ObsMLP
from csf.types import Batch, Metrics, Obs

NORMALIZED = ("ba", "nce")  # bounds with a distribution over the candidates
LOG_BASELINE = {"tuba": 0.0, "nwj": 1.0, "alpha": 1.0}  # log a of the other bounds


@dataclass(frozen=True)
class SLUSDConfig(ObjectiveConfig):
    """Bounds, critics and regularizers."""

    bound: Literal["ba", "tuba", "nwj", "nce", "alpha"]  # lower bound on I(s'; z); nce: InfoNCE, alpha: I_alpha
    candidates: Literal["all", "batch", "fresh", "states"]  # all skills, the batch's, drawn ones, or the batch's states
    num_fresh: Count  # number of skills that candidates=fresh draws at every update, shared by the batch
    alpha: Fraction  # of bound=alpha; 0: TUBA with baseline e, which is NWJ; 1: InfoNCE
    learned_baseline: bool  # baseline a(s') of bound=tuba and bound=alpha as a network, instead of 1 and e
    critic: Literal["mlp", "linear", "separable", "concat"]  # d(s).z, the same without hidden layers, cos, or g([s,z])
    latent: Count  # length of both representations of critic=separable
    temperature: Positive  # scores are divided by it, in the loss and in the reward
    weight_decay: NotNegative  # of the critic, in Adam
    dropout: Annotated[float, Range(0, 0.99)]  # probability with which a hidden unit is dropped
    gradient_penalty: NotNegative  # weight of (||gradient of the loss by s'|| - 1)^2; 0: none
    penalty_over: Literal["sample", "batch"]  # norm of the gradient per transition, or over the batch as in the study
    label_smoothing: Fraction  # probability that is spread evenly over all candidates
    mixup: NotNegative  # beta: transitions are mixed in pairs with a weight drawn from Beta(beta, beta); 0: no mixup
    spectral_norm: bool  # of hidden layers
    batch_norm: bool  # of hidden layers
    layer_norm: bool  # of hidden layers
    input_noise: NotNegative  # standard deviation of noise on s', only in the loss
    gradient_clip: NotNegative  # maximum norm of the gradient; 0: unlimited

    def __post_init__(self) -> None:
        """Check that the settings can be combined.

        Raises:
            ConfigError: they cannot; the message names what is accepted.
        """
        for key, condition, accepted in _conflicts(self):
            value = getattr(self, key)
            shown = str(value).lower() if isinstance(value, bool) else value
            raise ConfigError(f"agent.{key} is {shown}; accepted with {condition}: {accepted}")


def _conflicts(cfg: SLUSDConfig) -> Iterator[tuple[str, str, str]]:
    """Yield every setting that another one excludes: its key, the other setting, and the accepted values."""
    bound, kind = f"agent.bound={cfg.bound}", f"agent.candidates={cfg.candidates}"
    if cfg.bound == "ba" and cfg.candidates != "all":
        yield "candidates", bound, "all; with agent.bound=nce, any"
    if cfg.learned_baseline and cfg.bound not in ("tuba", "alpha"):
        yield "learned_baseline", bound, "false; with agent.bound=tuba or alpha, also true"
    if cfg.learned_baseline and cfg.candidates == "states":
        yield "learned_baseline", kind, "false, because a bound over states needs a baseline that depends on z only"
    for key in ("label_smoothing", "mixup"):
        if getattr(cfg, key) and cfg.bound not in NORMALIZED:
            yield key, bound, f"0; with agent.bound={' or '.join(NORMALIZED)}, also other values"
    if cfg.mixup and cfg.candidates not in ("all", "batch"):
        yield "mixup", kind, "0; with agent.candidates=all or batch, also other values"
    yield from _layer_conflicts(cfg, kind)


def _layer_conflicts(cfg: SLUSDConfig, kind: str) -> Iterator[tuple[str, str, str]]:
    """Yield the conflicts that concern hidden layers and gradients."""
    flat = "agent.critic=linear" if cfg.critic == "linear" else "" if cfg.hidden else "agent.hidden=[]"
    for key, off in (("dropout", "0"), ("spectral_norm", "false"), ("batch_norm", "false"), ("layer_norm", "false")):
        if flat and getattr(cfg, key):
            yield key, flat, f"{off}, because there are no hidden layers"
    if cfg.batch_norm and cfg.layer_norm:
        yield "layer_norm", "agent.batch_norm=true", "false"
    mixing = kind if cfg.candidates == "states" else "agent.batch_norm=true" if cfg.batch_norm else ""
    if mixing and cfg.gradient_penalty and cfg.penalty_over == "sample":
        yield "penalty_over", mixing, "batch, because the loss of a transition depends on the others"


def _hidden(cfg: SLUSDConfig) -> tuple[int, ...]:
    """Layer widths of the critic."""
    return () if cfg.critic == "linear" else cfg.hidden


@objectives("slusd")
class SLUSD(Objective):
    """Maximizes a bound on I(s'; z) over a critic f(s', z) of K one-hot skills; the reward is the same bound."""

    Config = SLUSDConfig
    cfg: SLUSDConfig
    prior: Prior = "one_hot"
    goal_from_here = False
    skills: Tensor

    def build(self) -> Iterable[nn.Parameter]:
        """Create the critic and, if it is learned, the baseline [B, *O] -> [B, 1]."""
        cfg = self.cfg
        layers = Layers(cfg.dropout, cfg.spectral_norm, cfg.batch_norm, cfg.layer_norm)
        self.encoder = make_encoder(self.spec)
        body = partial(regularized_mlp, layers=layers)
        # In evaluation mode except while `update` computes the loss, so that rewards are without dropout.
        self.critic = CRITICS[cfg.critic](self.encoder.out_dim, cfg.skill_dim, _hidden(cfg), cfg.latent, body).eval()
        self.register_buffer("skills", torch.eye(cfg.skill_dim), persistent=False)
        self.least_batch = 2 if cfg.batch_norm or cfg.candidates in ("batch", "states") else 1
        trained = [*self.encoder.parameters(), *self.critic.parameters()]
        if cfg.learned_baseline:
            self.baseline = ObsMLP(make_encoder(self.spec), [*cfg.hidden, 1])
            trained += self.baseline.parameters()
        return trained

    def make_minimizer(self, params: list[nn.Parameter]) -> Minimizer:
        """Create the optimizer with weight decay and clipping."""
        return Minimizer(params, self.cfg.lr, self.cfg.weight_decay, self.cfg.gradient_clip)

    def body(self) -> nn.Module:
        """The critic's network of states, or of states and skills."""
        return self.critic.phi if isinstance(self.critic, Separable) else self.critic.net

    def scores(self, x: Tensor) -> Tensor:
        """Features of states [B, F] -> scores of all K skills [B, K]."""
        return self.critic(x, self.skills) / self.cfg.temperature

    def select(self, table: Tensor, skill: Tensor) -> Candidates:
        """Candidates of rows with own skills [B] int64, from the scores of all skills [B, K]."""
        if self.cfg.candidates == "all":
            return candidates.every_skill(table, skill)
        if self.cfg.candidates == "batch":
            return candidates.batch_skills(table, skill)
        if self.cfg.candidates == "states":
            return candidates.batch_states(table, skill)
        drawn = torch.randint(self.cfg.skill_dim, (self.cfg.num_fresh,), device=table.device)
        return candidates.fresh_skills(table, skill, drawn)

    def bound(self, found: Candidates, obs: Obs) -> Tensor:
        """The bound of every row, [B]; `obs` [B, *O] are the states, of which a learned baseline is a function."""
        if self.cfg.bound in NORMALIZED:
            return info_nce(found.scores, found.own)
        log_baseline: Tensor | float = LOG_BASELINE[self.cfg.bound]
        if self.cfg.learned_baseline:
            log_baseline = self.baseline(obs).squeeze(-1)
        if self.cfg.bound == "alpha":
            return interpolated(found.scores, found.own, log_baseline, self.cfg.alpha, found.population)
        return tuba(found.scores, found.own, log_baseline, found.population)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Negative bound of the regularized critic, [], and metrics."""
        cfg, skill, x = self.cfg, batch.skill.argmax(-1), self.encoder(batch.next_obs)
        mix = Mixup.draw(len(x), cfg.mixup, x.device) if cfg.mixup else None
        x = x if mix is None else mix(x)
        x = x + cfg.input_noise * torch.randn_like(x) if cfg.input_noise else x
        if cfg.gradient_penalty and not x.requires_grad:  # features of images already have a gradient
            x = x.detach().requires_grad_()
        table = self.scores(x)
        found = self.select(table, skill)
        if mix is None and not cfg.label_smoothing:
            value = self.bound(found, batch.next_obs)
        else:
            target = targets(found.own, found.scores.shape[-1], cfg.label_smoothing)
            value = smoothed(found.scores, target if mix is None else mix(target))
        loss, metrics = -value.mean(), {"bound/accuracy": accuracy(table, skill)}
        if cfg.gradient_penalty:
            penalty = gradient_penalty(-value, x, cfg.penalty_over)
            loss, metrics = loss + cfg.gradient_penalty * penalty, {**metrics, "bound/penalty": penalty.detach()}
        return loss, metrics

    def reward(self, batch: Batch) -> Tensor:
        """The bound of every transition, [B], by the critic without regularization."""
        table = self.scores(self.encoder(batch.next_obs))
        return self.bound(self.select(table, batch.skill.argmax(-1)), batch.next_obs)

    def update(self, batch: Batch) -> Metrics:
        """Update the critic, which is in training mode only here."""
        self.critic.train()
        metrics = super().update(batch)
        self.critic.eval()
        return metrics

    def pointwise(self) -> bool:
        """Whether the candidates are not taken from the batch."""
        return self.cfg.candidates in ("all", "fresh")

    def represent(self, obs: Obs) -> Tensor:
        """Scores of all skills, [N, *O] -> [N, K]."""
        return self.scores(self.encoder(obs))

    def goal_skill(self, obs: Obs, goal: Obs) -> Tensor:
        """The skill with the highest score at the goal, [N, K]."""
        return F.one_hot(self.represent(goal).argmax(-1), self.cfg.skill_dim).float()
