"""How much states tell about skills, measured by a classifier of its own and therefore comparable between methods."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from csf.core.optim import Minimizer
from csf.mi.bounds import accuracy
from csf.nets.mlp import mlp

STEPS = 500  # gradient steps of the classifier
BATCH = 256
HIDDEN = (128, 128)
RATE = 1e-3
SMOOTHING = 0.01  # bounds what a confident error on a state far from the training data costs


def held_out(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], skills: int, seed: int) -> dict[str, float]:
    """Lower bound on I(s; z) and accuracy of a classifier, trained on some episodes and measured on others.

    Args:
        train: states [N, O] and indices of skills [N] int64 for training.
        test: the same of other episodes; entries of states are scaled alike.
        skills: K.
        seed: seeds the classifier and its batches.

    Returns:
        `information`, log K + the mean log-probability of the skill, in nats, and `classified`, the fraction of
        states whose skill is the most probable one. The first can be negative.
    """
    (x, z), (x_test, z_test) = train, test
    mean, scale = x.mean(0), x.std(0).clamp(min=1e-6)
    x, x_test = ((each - mean) / scale for each in (x, x_test))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        net = mlp([x.shape[1], *HIDDEN, skills])
        adam = Minimizer(net.parameters(), RATE)
        for _ in range(STEPS):
            rows = torch.randint(len(x), (BATCH,))
            adam.step(F.cross_entropy(net(x[rows]), z[rows], label_smoothing=SMOOTHING))
    with torch.no_grad():
        scores = net(x_test)
        value = math.log(skills) - F.cross_entropy(scores, z_test).item()
    return {"information": value, "classified": accuracy(scores, z_test).item()}
