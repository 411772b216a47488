"""The posterior of a variational autoencoder: independent normal distributions."""

import math

import torch
from torch import Tensor


class DiagonalGaussianDistribution:
    """Normal distributions with a mean and a log-variance per element; log-variances are clamped to [-30, 20]."""

    def __init__(self, parameters: Tensor, deterministic: bool = False) -> None:
        """`parameters` is (B, 2 C, ...): C means, then C log-variances. `deterministic` takes the variance as 0."""
        if parameters.shape[1] % 2:
            raise ValueError(f"Got {parameters.shape[1]} channels; expected means and log-variances in equal number.")
        self.mean, logvar = parameters.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)
        self.deterministic = deterministic

    @property
    def std(self) -> Tensor:
        """Standard deviations, like the mean."""
        return torch.zeros_like(self.mean) if self.deterministic else torch.exp(0.5 * self.logvar)

    @property
    def var(self) -> Tensor:
        """Variances, like the mean."""
        return torch.zeros_like(self.mean) if self.deterministic else torch.exp(self.logvar)

    def mode(self) -> Tensor:
        """The most likely value, which is the mean: (B, C, ...)."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """A random value (B, C, ...), from standard normal `noise` where given and else drawn from `generator`.

        The draw has the dtype of the mean and happens on the generator's device. Nothing is drawn for a deterministic
        distribution, whose only value is its mean.
        """
        if self.deterministic:
            return self.mean
        if noise is None:
            device = self.mean.device if generator is None else generator.device
            noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean)

    def kl(self, other: "DiagonalGaussianDistribution | None" = None) -> Tensor:
        """Kullback-Leibler divergence from `other` in nats, summed over a sample: (B,).

        `other` is the standard normal where it is not given. 0 for a deterministic distribution, whose divergence does
        not exist, so that a loss may add it.
        """
        if self.deterministic:
            return self.mean.new_zeros(self.mean.shape[0])
        if other is None:
            terms = self.mean.square() + self.var - 1.0 - self.logvar
        else:
            spread = ((self.mean - other.mean).square() + self.var) / other.var
            terms = spread - 1.0 - self.logvar + other.logvar
        return 0.5 * terms.flatten(1).sum(1)

    def nll(self, value: Tensor) -> Tensor:
        """Negative log-likelihood of `value` (B, C, ...) in nats, summed over a sample: (B,). As :meth:`kl`, 0 for a
        deterministic distribution."""
        if self.deterministic:
            return self.mean.new_zeros(self.mean.shape[0])
        terms = math.log(2.0 * math.pi) + self.logvar + (value - self.mean).square() / self.var
        return 0.5 * terms.flatten(1).sum(1)
