"""The optimizers: Adam, and Muon for the hidden layers, whose updates are orthogonal matrices."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Optimizers:
    """Adam for all weights, or for those that are not Muon's: biases and the last layer.

    `step(loss, decay)` moves them down the gradient of `loss`, at `decay` times the learning rates. A `muon_rate` of 0 is
    Adam alone.
    """

    def __init__(self, model: nn.Module, learning_rate: float, muon_rate: float, precision: torch.dtype = torch.float32):
        *_, last = (name for name, weight in model.named_parameters() if weight.ndim > 1)
        hidden: list[Tensor] = []
        others: list[Tensor] = []
        for name, weight in model.named_parameters():
            (hidden if muon_rate and weight.ndim > 1 and name != last else others).append(weight)
        adam = torch.optim.Adam(others, fused=True)
        self.rates = {adam: learning_rate} | ({Muon(hidden, muon_rate, precision=precision): muon_rate} if hidden else {})

    def state_dict(self) -> dict:
        return {type(optimizer).__name__: optimizer.state_dict() for optimizer in self.rates}

    def load_state_dict(self, state: dict) -> None:
        for optimizer in self.rates:
            optimizer.load_state_dict(state[type(optimizer).__name__])

    def step(self, loss: Tensor, decay: float) -> None:
        for optimizer, rate in self.rates.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * decay
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.rates:
            optimizer.step()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal before it is applied (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    Gradients of a hidden layer are dominated by a few directions. Replacing their singular values by ones lets the rare
    directions learn as fast as the common ones. A weight (n_out, …) counts as the matrix (n_out, everything else), which is
    why this is not `torch.optim.Muon`: that one takes no convolution. `lr` is the size of a step in spectral norm, times
    sqrt(n_out / n_in) for a matrix taller than wide. Biases and the last layer are for another optimiser. Matrices are made
    orthogonal in `precision`, for which Jordan et al. take bfloat16; momentum and weights have their own.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, precision: torch.dtype = torch.float32):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self.precision = precision

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # takes no closure
        for group in self.param_groups:
            for weight in group["params"]:
                average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(average, group["momentum"]).flatten(1)
                taller = max(1, ahead.shape[0] / ahead.shape[1]) ** 0.5
                weight.add_(orthogonal(ahead.to(self.precision)).to(weight.dtype).view(weight.shape), alpha=-group["lr"] * taller)


def orthogonal(matrix: Tensor) -> Tensor:
    """About U·Vᵀ, where U·S·Vᵀ is the singular value decomposition of `matrix` (n, m): same shape, singular values near 1.

    Five steps of a Newton–Schulz iteration, whose quintic Jordan et al. chose to bring small singular values up fast; they
    end between 0.7 and 1.2, which serves as well as 1 and costs a tenth of the decomposition.
    """
    x = matrix / (matrix.norm() + 1e-7)
    x = x.T if (tall := x.shape[0] > x.shape[1]) else x
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x
