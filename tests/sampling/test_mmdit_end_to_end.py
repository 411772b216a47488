"""A picture is set in motion: from its file's pixels to those of the video, against a complete published run."""

from collections.abc import Sequence

import golden_io
import torch
from PIL import Image
from torch import Tensor

from opensora.config import from_dict
from opensora.models.mmdit.mmdit import MMDiT, MMDiTConfig
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D, HunyuanVAEConfig
from opensora.sampling.denoise import SamplingOption, sample_video
from opensora.sampling.given_frames import cut_reference, trim_decoded
from opensora.sampling.latents import draw_noise, latent_frames

FIXTURE = golden_io.load("v2/sampling/e2e_i2v_head_tiny_hunyuan")
META, T = FIXTURE.meta, FIXTURE.tensors
SIZE = META["sampling_option"]
RUN, CODED = 1e-4, 1e-5
"""Allowed differences as shares of the largest value, of the run and of its autoencoder."""


def pixels() -> Tensor:
    """The picture, scaled until it covers the video's frame and cut around its middle, (3, 1, height, width)."""
    image = Image.fromarray(T["in.image_uint8"].numpy())
    width, height = SIZE["width"], SIZE["height"]
    scale = max(width / image.width, height / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    image = image.crop((left, top, left + width, top + height))
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, width, 3)
    return flat.permute(2, 0, 1)[:, None].float() / 127.5 - 1


@torch.inference_mode()
def test_image_to_video() -> None:
    vae = AutoencoderKLCausal3D(from_dict(HunyuanVAEConfig, META["vae_config"])).eval()
    model = MMDiT(MMDiTConfig.from_dict(META["mmdit_config"])).eval()
    for network, name in ((vae, "vae"), (model, "mmdit")):
        golden_io.fill(network, META[f"{name}_salt"])
        assert golden_io.checksum(network) == META["rule"][name]["weights_crc32"]
    posterior = vae.posterior(cut_reference(pixels(), META["cond_type"])[None])
    reference = vae.normalize(posterior.sample(noise=T["in.enc_noise"]))[0]
    golden_io.assert_within(reference, T["mid.ref_latent"], f"{FIXTURE.name} reference", CODED)

    def rows(key: str, texts: Sequence[str]) -> Tensor:
        return T[key][[[*META["text"], ""].index(text) for text in texts]]

    option = SamplingOption(num_steps=SIZE["num_steps"], guidance=SIZE["guidance"], guidance_img=SIZE["guidance_img"])
    x = sample_video(
        model,
        lambda texts, **options: rows("in.txt", texts),
        lambda texts: rows("in.vec", texts),
        T["in.z"],
        META["text"],
        option,
        cond_type=META["cond_type"],
        references=[[reference]],
    )
    golden_io.assert_within(x, T["mid.latent_before_decode"], f"{FIXTURE.name} latents", RUN)
    video = trim_decoded(vae.decode(x), SIZE["num_frames"], META["cond_type"])
    golden_io.assert_within(video, T["out.x"], FIXTURE.name, RUN)


def test_its_noise() -> None:
    frames = latent_frames(SIZE["num_frames"], SIZE["temporal_reduction"])
    generator = torch.Generator().manual_seed(SIZE["seed"])
    assert draw_noise(1, 4, frames, SIZE["height"], SIZE["width"], generator).shape == T["in.z"].shape
