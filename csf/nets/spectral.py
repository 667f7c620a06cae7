"""Linear layers of spectral norm one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpectralLinear(nn.Linear):
    """A linear layer divided by an estimate of its largest singular value (Miyato et al. 2018, arXiv 1802.05957).

    In training mode every forward pass makes one power iteration, v before u; in evaluation mode none.
    """

    left: Tensor
    right: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        """Map [..., inputs] to [..., outputs]."""
        super().__init__(inputs, outputs)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))
        self.register_buffer("right", F.normalize(torch.randn(inputs), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        if self.training:
            with torch.no_grad():
                self.right.copy_(F.normalize(self.weight.T @ self.left, dim=0))
                self.left.copy_(F.normalize(self.weight @ self.right, dim=0))
        # Copies, since the next pass changes the buffers while this one's gradient may still be due.
        norm = self.left.clone() @ (self.weight @ self.right.clone())
        return F.linear(x, self.weight / norm, self.bias)
