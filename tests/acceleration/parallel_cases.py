"""What every process of test_parallel.py does: networks in parallel against the same networks alone.

Run as ``parallel_cases.py FOLDER``; each process writes what it found to FOLDER/RANK.pt, then one of them fails.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opensora.acceleration.parallel.network import parallelize
from opensora.acceleration.parallel.tiles import parallelize_tiles
from opensora.distributed.group import Group
from opensora.models.dc_ae.dc_ae import DCAE, DCAEConfig
from opensora.models.mmdit.mmdit import MMDiT, MMDiTConfig
from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config
from opensora.models.stdit.stdit3_v12 import STDiT3V12, STDiT3V12Config
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D, HunyuanVAEConfig
from opensora.models.vae_v12.vae import OpenSoraVAE_V1_2, SpatialConfig, TemporalConfig, VAEv12Config
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3, VAEv13Config
from opensora.sampling.denoise import SamplingOption, denoise_guided
from opensora.sampling.rectified_flow import RFLOW
from opensora.sampling.tokens import places

HEADS = 5
FAILING, SENTENCE = 1, "there is no memory left for the second block"
"""Which process fails, and what it says."""

Case = tuple[str, nn.Module, Callable[[Any], Tensor]]
"""Name, network, and what is done with it."""


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(model: nn.Module) -> Any:
    """Every weight drawn, so that nothing is zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5 / math.sqrt(max(1, parameter[0].numel())), generator=generator)
    return model.eval()


def mmdit(**overrides: Any) -> MMDiT:
    sizes = {"in_channels": 8, "vec_in_dim": 10, "context_in_dim": 12, "hidden_size": 24 * HEADS, "mlp_ratio": 2.0}
    blocks = {"num_heads": HEADS, "depth": 2, "depth_single_blocks": 2, "axes_dim": (4, 8, 12)}
    return filled(MMDiT(MMDiTConfig(**{**sizes, **blocks, **overrides})))


def mmdit_call(rows: int, grid: tuple[int, int, int], text: int, told: str) -> dict[str, Any]:
    ids = places((grid[0], 2 * grid[1], 2 * grid[2]))
    return {
        "img": draw(1, rows, len(ids), 8),
        "img_ids": ids.repeat(rows, 1, 1),
        "txt": draw(2, rows, text, 12),
        "txt_ids": torch.zeros(rows, text, 3),
        "timesteps": torch.linspace(0.9, 0.2, rows),
        "y_vec": draw(3, rows, 10),
        told: draw(4, rows, len(ids), 12) if told == "cond" else torch.linspace(3.0, 5.0, rows),
    }


def mmdit_cases() -> Iterator[Case]:
    plain = mmdit()
    for rows, grid, text in ((1, (3, 5, 3), 7), (2, (3, 5, 3), 7), (3, (3, 5, 3), 6), (4, (1, 5, 3), 5)):
        call = mmdit_call(rows, grid, text, "cond")
        yield f"MMDiT {rows} rows {text} + {math.prod(grid)} tokens", plain, lambda net, c=call: net(**c)
    call = mmdit_call(1, (1, 1, 2), 1, "cond")
    yield "MMDiT 1 row 1 + 2 tokens", plain, lambda net, c=call: net(**c)
    flux = mmdit(fused_qkv=True, use_liger_rope=False, guidance_embed=True, cond_embed=False)
    call = mmdit_call(2, (1, 5, 7), 6, "guidance")
    yield (
        "MMDiT of FLUX 2 rows 6 + 35 tokens",
        flux,
        lambda net, c=call: net(*list(c.values())[:-1], None, c["guidance"]),
    )
    yield "MMDiT sampled, 3 rows to 1", plain, guided


def guided(net: Any) -> Tensor:
    """Twelve steps with a given frame; on the last one guidance oscillates to one row."""
    z, ids = draw(5, 1, 2, 3, 6, 10), places((3, 6, 10))
    inputs = {
        "img_ids": ids.repeat(2, 1, 1),
        "txt": draw(6, 2, 7, 12),
        "txt_ids": torch.zeros(2, 7, 3),
        "y_vec": draw(7, 2, 10),
        "cond": draw(8, 1, len(ids), 12),
    }
    return denoise_guided(net, z, inputs, SamplingOption(num_steps=12), "i2v_head")


def stdit(version: str, **overrides: Any) -> STDiT3:
    sizes = {"in_channels": 4, "hidden_size": 12 * HEADS, "depth": 2, "num_heads": HEADS, "mlp_ratio": 2.0}
    text = {"caption_channels": 16, "model_max_length": 6}
    if version == "1.2":
        return filled(STDiT3V12(STDiT3V12Config(**{**sizes, **text, **overrides})))
    return filled(STDiT3(STDiT3Config(**{**sizes, **text, "kernel_size": (3, 2, 2), **overrides})))


def stdit_call(rows: int, frames: int, height: int, width: int, given: bool, masked: bool) -> dict[str, Any]:
    x = draw(1, rows, 4, frames, height, width)
    call: dict[str, Any] = {
        "x": x,
        "timestep": torch.linspace(900.0, 100.0, rows),
        "y": draw(2, rows, 1, 6, 16),
        "mask": (torch.arange(6) < torch.tensor([3, 6])[torch.arange(rows) % 2, None]).long(),
        **{name: torch.tensor([value]) for name, value in (("fps", 24.0), ("height", 80.0), ("width", 96.0))},
    }
    if given:
        cond = torch.zeros_like(x)
        cond[:, :, 0] = 1.5
        call |= {
            "cond": cond,
            "cond_mask": (cond != 0).float(),
            "mask_index": [0],
            "y_null": draw(3, rows + 1, 1, 6, 16),
        }
    if masked:
        call["x_mask"] = torch.arange(frames).expand(rows, -1) > 0
    return call


def stdit_cases() -> Iterator[Case]:
    for version in ("1.3", "1.2"):
        net = stdit(version)
        given = version == "1.3"
        for rows, size, masked in (
            (1, (3, 9, 14), False),
            (2, (5, 9, 14), False),
            (3, (3, 6, 7), False),
            (2, (3, 6, 10), True),
        ):
            call = stdit_call(rows, *size, given=given and rows > 1 and not masked, masked=masked)
            name = f"STDiT3 {version} {rows} rows {'x'.join(map(str, size))}{' x_mask' if masked else ''}"
            yield name, net, lambda net, c=call: net(**c)
        call = stdit_call(1, 1, 2, 2, given=False, masked=False)
        yield f"STDiT3 {version} 1 row 1 token", net, lambda net, c=call: net(**c)
        yield f"STDiT3 {version} sampled, 2 rows to 1", net, lambda net, v=version: sampled(net, v)
    net = stdit("1.3", kernel_size=(2, 2, -1), qk_norm=False)
    yield "STDiT3 1.3 all frames", net, lambda net: net(**stdit_call(2, 4, 6, 10, True, False))


class Text:
    """Text encoder of the sampler."""

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        return {"y": draw(8, len(prompts), 1, 6, 16), "mask": torch.ones(len(prompts), 6)}

    def null(self, n: int) -> Tensor:
        return draw(9, n, 1, 6, 16)


def sampled(net: Any, version: Any) -> Tensor:
    """Three steps, of which guidance oscillates to one row on the second."""
    sampler = RFLOW(num_sampling_steps=3, force_num=1, use_oscillation_guidance=True, family=version)
    size = {"height": 80, "width": 96, "num_frames": 9, "fps": 24}
    return sampler.sample(net, Text(), draw(5, 1, 4, 3, 6, 10), prompts=["a"], additional_args=size, progress=False)


def autoencoder_cases() -> Iterator[Case]:
    widths = {"latent_channels": 4, "block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "norm_num_groups": 4}
    tiles = {"sample_size": 16, "sample_tsize": 8, "tile_overlap_factor": 0.5}
    hunyuan = HunyuanVAEConfig(**{**widths, **tiles})
    for space, time_ in ((True, False), (False, True), (True, True)):
        vae = filled(AutoencoderKLCausal3D(replace(hunyuan, use_spatial_tiling=space, use_temporal_tiling=time_)))
        yield from both_ways(f"Hunyuan{' space' * space}{' time' * time_}", vae, draw(1, 1, 3, 13, 24, 24))
    dc_ae = DCAEConfig(
        latent_channels=8,
        width_list=(8, 8, 16),
        block_type=("ResBlock", "EViTS5_GLU", "EViT_GLU"),
        encoder_depth_list=(1, 1, 1),
        decoder_depth_list=(1, 1, 1),
        temporal_downsample=(True, True, False),
        attention_dim=8,
        use_spatial_tiling=True,
        spatial_tile_size=16,
    )
    yield from both_ways("DC-AE space", filled(DCAE(dc_ae)), draw(1, 1, 3, 8, 24, 32))
    v13 = VAEv13Config(z_channels=4, ch=8, ch_mult=(1, 1, 2, 2), num_res_blocks=1, norm_groups=4, micro_frame_size=5)
    v13 = replace(v13, normalization_mean=(0.5, -0.25, 0.0, 1.0), normalization_std=(2.0, 0.5, 1.0, 1.5))
    for overlap in (True, False):
        vae = filled(OpenSoraVAE_V1_3(replace(v13, temporal_overlap=overlap)))
        yield from both_ways(f"1.3 {'overlapping ' * overlap}windows", vae, draw(1, 1, 3, 14, 16, 24))
    spatial = SpatialConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4)
    v12 = VAEv12Config(spatial=spatial, temporal=TemporalConfig(filters=8, num_res_blocks=1, num_groups=4))
    vae = filled(OpenSoraVAE_V1_2(replace(v12, micro_frame_size=5)))
    yield from both_ways("1.2 windows", vae, draw(1, 1, 3, 13, 16, 24))


def both_ways(name: str, vae: Any, x: Tensor) -> Iterator[Case]:
    z = vae.encode(x)
    yield f"{name} encode", vae, lambda vae: vae.encode(x)
    yield f"{name} decode", vae, lambda vae: vae.decode(z, num_frames=x.shape[2])


def work_of(net: nn.Module) -> list[int]:
    """Numbers that layers with weights take in, added up by hooks."""
    seen = [0]

    def count(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen[0] += args[0].numel()

    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and "embedder" not in name:
            module.register_forward_pre_hook(count)
    return seen


def compare(case: Case, group: Group) -> tuple[str, float, float]:
    """Relative Frobenius error of the parallel result, and the share of the work that this process did."""
    name, net, act = case
    single, several = deepcopy(net), deepcopy(net)
    (parallelize if isinstance(net, MMDiT | STDiT3) else parallelize_tiles)(several, group)
    alone, own = work_of(single), work_of(several)
    expected, got = act(single), act(several)
    assert got.shape == expected.shape and got.dtype == expected.dtype, (name, got.shape, expected.shape)
    return name, float((got - expected).norm() / expected.norm()), own[0] / alone[0]


def fail(group: Group) -> None:
    """One process fails in the middle of a network while the others wait for its tokens."""
    net = parallelize(mmdit(), group)

    def run_out(*_: Any) -> None:
        raise MemoryError(SENTENCE)

    if group.rank == FAILING:
        net.single_blocks[0].register_forward_pre_hook(run_out)
    with torch.inference_mode():
        net(**mmdit_call(1, (3, 5, 3), 7, "cond"))


def main(folder: Path) -> None:
    group = Group.start(patience=timedelta(seconds=90))
    results = []
    with group.together(), torch.inference_mode():
        for case in (*mmdit_cases(), *stdit_cases(), *autoencoder_cases()):
            results.append(compare(case, group))
    found: dict[str, Any] = {"results": results, "size": group.size}
    start = time.monotonic()
    try:
        with group.together():
            fail(group)
    except BaseException as error:
        found |= {"error": f"{type(error).__name__}: {error}", "seconds": time.monotonic() - start}
        raise
    finally:
        torch.save(found, folder / f"{group.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
