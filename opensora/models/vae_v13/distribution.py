"""The posterior of a variational autoencoder: independent normal distributions."""

import math

import torch
from torch import Tensor


class DiagonalGaussian:
    """Normal distributions with a mean and a log-variance per element; log-variances are clamped to [-30, 20]."""

    def __init__(self, parameters: Tensor) -> None:
        """`parameters` is (B, 2 C, ...): C means, then C log-variances."""
        if parameters.shape[1] % 2:
            raise ValueError(f"Got {parameters.shape[1]} channels; expected means and log-variances in equal number.")
        self.mean, logvar = parameters.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    @property
    def std(self) -> Tensor:
        """Standard deviations, like the mean."""
        return torch.exp(0.5 * self.logvar)

    @property
    def var(self) -> Tensor:
        """Variances, like the mean."""
        return torch.exp(self.logvar)

    def mode(self) -> Tensor:
        """The most likely value, which is the mean: (B, C, ...)."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """A random value (B, C, ...), from standard normal `noise` where given and else drawn from `generator`.

        The draw has the dtype of the mean and happens on the generator's device.
        """
        if noise is None:
            device = self.mean.device if generator is None else generator.device
            noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean)

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence from the standard normal in nats, summed over a sample: (B,)."""
        return 0.5 * (self.mean.square() + self.var - 1.0 - self.logvar).flatten(1).sum(1)

    def nll(self, value: Tensor) -> Tensor:
        """Negative log-likelihood of `value` (B, C, ...) in nats, summed over a sample: (B,)."""
        terms = math.log(2.0 * math.pi) + self.logvar + (value - self.mean).square() / self.var
        return 0.5 * terms.flatten(1).sum(1)
