"""What every autoencoder of generation 2.0 promises, whichever network is inside: a class to derive tests from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from opensora.checkpoint.safetensors_io import CheckpointError, save
from opensora.config import to_json
from opensora.models.autoencoder import Autoencoder


def clip(*shape: int) -> Tensor:
    """Pixels in [-1, 1], the same for a shape."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


class AutoencoderContract:
    """Derive, name the network, and keep the tests."""

    network: type[Autoencoder]
    small: Any
    """A small configuration."""
    other: dict[str, Any]
    """Fields with which the weights have another shape."""
    shape: tuple[int, int, int]
    """(T, H, W) of a clip that the network takes as it is."""

    def build(self) -> Autoencoder:
        torch.manual_seed(0)
        return self.network(self.small).eval()

    @torch.inference_mode()
    def test_sizes_are_as_announced(self) -> None:
        model = self.build()
        z = model.encode(clip(2, 3, *self.shape))
        assert z.shape == (2, model.latent_channels, *model.get_latent_size(self.shape))
        assert z.shape[3:] == tuple(n // p for n, p in zip(self.shape[1:], model.patch_size[1:], strict=True))
        assert model.decode(z).shape == (2, 3, *self.shape)
        assert model.decode(z, num_frames=1).shape[2] == 1
        assert model.get_latent_size((None, None, None)) == (None, None, None)
        picture = clip(1, 3, 1, *self.shape[1:])
        assert model.decode(model.encode(picture)).shape == picture.shape

    @torch.inference_mode()
    def test_a_clip_does_not_depend_on_its_batch(self) -> None:
        model, x = self.build(), clip(2, 3, *self.shape)
        z = model.encode(x)
        torch.testing.assert_close(model.encode(x[1:]), z[1:], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.decode(z[1:]), model.decode(z)[1:], rtol=1e-4, atol=1e-5)

    @torch.inference_mode()
    def test_normalisation_comes_back(self) -> None:
        model = self.build()
        z = clip(1, model.latent_channels, 2, 3, 3)
        torch.testing.assert_close(model.denormalize(model.normalize(z)), z)
        assert torch.equal(model.decode(z), model.decode_raw(model.denormalize(z)))

    @torch.inference_mode()
    def test_samples_come_from_the_given_generator_alone(self) -> None:
        model, x = self.build(), clip(1, 3, *self.shape)
        state = torch.get_rng_state()
        likeliest = model.encode(x)
        first = model.encode(x, sample=True, generator=torch.Generator().manual_seed(3))
        assert torch.equal(first, model.encode(x, sample=True, generator=torch.Generator().manual_seed(3)))
        assert torch.equal(first, likeliest) == model.posterior(x).deterministic
        assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
        with pytest.raises(ValueError, match="needs the generator"):
            model.encode(x, sample=True)

    def test_training_and_evaluation_compute_the_same(self) -> None:
        model, x = self.build(), clip(2, 3, *self.shape)
        training = model.decode(model.encode(x))
        training.square().mean().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.decoder.parameters())
        with torch.no_grad():
            torch.testing.assert_close(model.decode(model.encode(x)), training, rtol=1e-3, atol=1e-4)

    @torch.inference_mode()
    def test_half_precision_is_close(self) -> None:
        model, x = self.build(), clip(1, 3, *self.shape)
        z = model.encode(x)
        decoded = model.decode(z)
        half = self.build().to(torch.bfloat16)
        assert half.encode(x.bfloat16()).dtype == torch.bfloat16
        assert (half.encode(x.bfloat16()).float() - z).norm() / z.norm() < 0.05
        assert (half.decode(z.bfloat16()).float() - decoded).norm() / decoded.norm() < 0.05

    @torch.inference_mode()
    def test_inputs_are_left_as_they_are(self) -> None:
        model, x = self.build(), clip(1, 3, *self.shape)
        before = x.clone()
        z = model.encode(x)
        latents = z.clone()
        model.decode(z)
        assert torch.equal(x, before) and torch.equal(z, latents)

    @pytest.mark.parametrize("wrong", [(3, 1, 32, 32), (1, 4, 1, 32, 32)])
    def test_wrong_shapes_are_refused(self, wrong: tuple[int, ...]) -> None:
        model = self.build()
        with pytest.raises(ValueError, match="expected pixels"):
            model.encode(torch.zeros(wrong))
        with pytest.raises(ValueError, match="expected latents"):
            model.decode(torch.zeros(1, model.latent_channels + 1, 1, 2, 2))
        with pytest.raises(ValueError, match="three positive numbers"):
            model.get_latent_size((0, 32, 32))
        with pytest.raises(ValueError, match="Asked for 99 frames"):
            model.decode(torch.zeros(1, model.latent_channels, 1, 2, 2), num_frames=99)

    @torch.inference_mode()
    def test_a_checkpoint_comes_back(self, tmp_path: Path) -> None:
        model, x = self.build(), clip(1, 3, *self.shape)
        marks = {"family": model.family, "role": "vae"}
        save(model, tmp_path / "model.safetensors", marks)
        (tmp_path / "config.json").write_text(to_json(self.small))
        for source in (tmp_path, tmp_path / "model.safetensors"):
            loaded = self.network.from_pretrained(source)
            assert loaded.config == self.small and not loaded.training
            assert torch.equal(loaded.encode(x), model.encode(x))
        with pytest.raises(CheckpointError, match=r"of another shape|missing"):
            self.network.from_pretrained(tmp_path, **self.other)
        save(model, tmp_path / "model.safetensors", marks | {"role": "stdit"})
        with pytest.raises(ValueError, match="stdit"):
            self.network.from_pretrained(tmp_path)

    def test_one_file_of_several_is_the_published_network(self, tmp_path: Path) -> None:
        """Published repositories hold several networks; a config.json beside them belongs to another one."""
        for name in ("first.safetensors", "second.safetensors"):
            save(self.build(), tmp_path / name, {})
        with pytest.raises(ValueError, match="several weights"):
            self.network.from_pretrained(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 3072}))
        with pytest.raises(CheckpointError, match=r"unexpected|missing|another shape"):
            self.network.from_pretrained(tmp_path, filename="second.safetensors")  # which this small one is not
        with pytest.raises(ValueError, match=r"config.json: .*'hidden_size'"):
            self.network.from_pretrained(tmp_path)
