"""The options of a request, shared by every command that takes one."""

import inspect
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opensora import log
from opensora.pipelines.terminal import sentences

if TYPE_CHECKING:
    from opensora.pipelines.request import GenerationRequest

Verbose = Annotated[bool, typer.Option("--verbose", help="Show log lines, and where an unexpected error came from.")]


def request_of(
    prompt: Annotated[str, typer.Argument(help="What to show; |0| … |1| … gives every loop its own text.")],
    image: Annotated[Path | None, typer.Option(help="Picture that the clip starts from.")] = None,
    last_image: Annotated[
        Path | None, typer.Option(help="Picture that the clip ends with, for published models.")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Clip that is continued, for published models.")] = None,
    resolution: Annotated[str | None, typer.Option(help="Such as 144p or 256px; default: the model's own.")] = None,
    aspect_ratio: Annotated[str | None, typer.Option(help="Width:height; 9:16 is upright. Default: 16:9.")] = None,
    length: Annotated[str, typer.Option(help="Seconds (2s) or frames (49f), up to 15 s; 1f makes a picture.")] = "2s",
    motion_score: Annotated[str | None, typer.Option(help="Motion, 1 to 7, or dynamic: as the text suggests.")] = None,
    aesthetic_score: Annotated[float | None, typer.Option(help="Beauty, 0 to 10; 6.5 and more is excellent.")] = None,
    camera_motion: Annotated[
        str | None,
        typer.Option(help="static, pan left, pan right, tilt up, tilt down, zoom in or zoom out."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; default: the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely the text is followed; 1 is freely.")] = None,
    image_guidance: Annotated[float | None, typer.Option(help="How closely the image is followed.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What to move away from.")] = "",
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same clip; default: random.")] = None,
    num_videos: Annotated[int, typer.Option(help="Clips to make, each with the next seed.")] = 1,
    candidate: Annotated[
        int | None, typer.Option(help="Which of the pictures that are made first is kept; default: the best.")
    ] = None,
    loops: Annotated[int, typer.Option(help="Parts of the clip; each continues the one before.")] = 1,
    model: Annotated[
        str | None, typer.Option(help="Name of a preset (see `models`), or a folder of weights, written with a slash.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="bf16 or fp32; default: what suits the device.")] = None,
    text_dtype: Annotated[
        str | None, typer.Option(help="The T5 encoder in fp32, bf16, int8 or nf4 (4 bits); default: fp32.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:0; default: the best.")] = None,
    offload: Annotated[
        bool | None, typer.Option(help="Networks on the GPU only while needed; default: where its memory is short.")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="FILE[:STRENGTH]", help="LoRA weights; may be given several times.")
    ] = None,
    picture_model: Annotated[
        str | None, typer.Option(help="Paint the prompt first with these weights (flux.1-dev), for models of 2.0.")
    ] = None,
    cond_type: Annotated[str | None, typer.Option(help="Reference's place, such as i2v_tail or v2v_tail.")] = None,
) -> "GenerationRequest":
    """The request of a command line, not yet validated."""
    from opensora.pipelines import loras
    from opensora.pipelines.request import GenerationRequest

    return GenerationRequest(
        prompt,
        model=folder_or_name(model),
        resolution=resolution,
        aspect_ratio=aspect_ratio,
        length=length,
        motion_score=int(motion_score) if motion_score in set("1234567") else motion_score,
        aesthetic_score=aesthetic_score,
        camera_motion=camera_motion,
        steps=steps,
        guidance=guidance,
        image_guidance=image_guidance,
        negative_prompt=negative_prompt,
        seed=seed,
        num_videos=num_videos,
        candidate=candidate,
        loops=loops,
        reference_image=image,
        last_image=last_image,
        reference_video=video,
        cond_type=cond_type,
        picture_model=folder_or_name(picture_model),
        loras=tuple(map(loras.parse, lora or [])),
        dtype=dtype,
        text_dtype=text_dtype,
        device=device,
        offload=offload,
    )


def takes_request(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is a request, as one for typer: it takes the options of :func:`request_of`, its
    own, and ``--verbose``; what goes wrong ends in a sentence."""
    asked = inspect.signature(request_of).parameters.values()
    own = list(inspect.signature(command).parameters.values())[1:]
    more = inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Verbose)
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*asked, *own, more)]

    def run(**values: Any) -> None:
        verbose = values.pop("verbose")
        log.setup(logging.DEBUG if verbose else logging.ERROR)
        with sentences(verbose):
            request = request_of(**{p.name: values.pop(p.name) for p in asked})
            command(request, **values)

    setattr(run, "__signature__", inspect.Signature(parameters))  # noqa: B010  (typer reads it)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def choose_shardformer(setting: str) -> None:
    """Tell this program and its workers whether colossalai's policy is applied to T5.

    Raises:
        typer.BadParameter: no such setting, or ``on`` where colossalai cannot be used.
    """
    if setting != "auto":  # which looks when an encoder is loaded
        from opensora.acceleration.shardformer.apply import decided

        try:
            decided(setting)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--shardformer") from None
    os.environ["OPENSORA_SHARDFORMER"] = setting  # read in opensora/acceleration/shardformer/apply.py


def folder_or_name(name: str | None) -> str | Path | None:
    """A preset's name, or the folder of a bundle."""
    return Path(name) if name is not None and ("/" in name or "\\" in name) else name
