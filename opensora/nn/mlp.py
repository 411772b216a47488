"""Two-layer perceptron."""

from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):
    """Linear, GELU (tanh form), linear."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_dim) to (..., out_dim)."""
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))
