"""Rendering of a scene at any size, length and frame rate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opensora.datasets.world import finish, subjects, weather
from opensora.datasets.world.backgrounds import background
from opensora.datasets.world.canvas import Array, View, blend, frame_axes, rgb
from opensora.datasets.world.motion import Draws, Lane, Trajectory, trajectory
from opensora.datasets.world.spec import AESTHETICS, SceneSpec, Subject

PAN_SPEED, TILT_SPEED = 0.24, 0.15
"""Speed of the nearest layer in short sides per second."""
ZOOM_RATE, ZOOM_LIMIT = 0.28, 0.62
"""Natural logarithm of the magnification per second, and at most in a clip."""
_SHADE = rgb(30, 34, 60)


@dataclass(frozen=True)
class _Actor:
    """A subject with its way through the clip."""

    subject: Subject
    way: Trajectory
    ground: float
    flap: float


def _views(spec: SceneSpec, height: int, width: int, time: Array) -> list[View]:
    """The camera in every frame; its way is centred on the middle of the clip."""
    x, y, pixels = frame_axes(height, width)
    duration = float(time[-1])
    middle = time - duration / 2
    kind, _, direction = spec.camera.partition(" ")
    sign = {"left": -1.0, "right": 1.0, "up": -1.0, "down": 1.0, "in": 1.0, "out": -1.0}.get(direction, 0.0)
    zoom_rate = min(ZOOM_RATE, ZOOM_LIMIT / duration) if duration else 0.0
    return [
        View(
            x=x,
            y=y,
            pixels=pixels,
            pan=sign * PAN_SPEED * float(m) if kind == "pan" else 0.0,
            tilt=sign * TILT_SPEED * float(m) if kind == "tilt" else 0.0,
            zoom=float(np.exp(sign * zoom_rate * m)) if kind == "zoom" else 1.0,
            time=float(t),
        )
        for t, m in zip(time, middle, strict=True)
    ]


def _actors(spec: SceneSpec, rng: np.random.Generator, height: int, width: int, time: Array) -> list[_Actor]:
    """The subjects in their lanes, the first on the left."""
    wide, tall = width / min(height, width), height / min(height, width)
    ground = tall * (0.27 + 0.05 * rng.random())
    draws = [Draws(*rng.random(5)) for _ in range(2)]
    count, actors = len(spec.subjects), []
    for k, subject in enumerate(spec.subjects):
        centre = 0.0 if count == 1 else (k - 0.5) * wide / 2
        lane = Lane(centre, wide / count, tall, ground, shared=count > 1)
        actors.append(_Actor(subject, trajectory(subject, lane, draws[k], time), ground, draws[k].phase))
    return actors


def _wing_lift(actor: _Actor, time: float) -> float:
    """How far a bird's wing is up: it flaps slowly while the bird moves."""
    if actor.subject.motion in ("still", "spin"):
        return 0.85
    return 0.6 + 0.4 * float(np.cos(2 * np.pi * (1.1 * time + actor.flap)))


def _paint_shadow(picture: Array, actor: _Actor, view: View, frame: int) -> None:
    x, y, size = float(actor.way.x[frame]), float(actor.way.y[frame]), actor.way.diameter * view.zoom
    foot = max(actor.ground, float(actor.way.y[frame]) + size / 2)
    above = foot - (y + size / 2)
    closeness = float(np.clip(1 - above / 0.8, 0.25, 1))
    mask = subjects.shadow(
        view.x - np.float32(x), view.y - np.float32(foot - 0.01), 0.5 * size * (0.7 + 0.3 * closeness), 0.42 * closeness
    )
    blend(picture, mask, _SHADE)


def _figure(
    actor: _Actor, view: View, frame: int, height: int, width: int
) -> tuple[tuple[slice, slice], Array, Array] | None:
    """The part of the frame around a subject, its opacity (h, w) and colours (3, h, w) there; None if out of sight."""
    radius = actor.way.diameter / 2 * view.pixels * view.zoom
    cx = float(actor.way.x[frame]) * view.pixels + width / 2
    cy = float(actor.way.y[frame]) * view.pixels + height / 2
    reach = 1.35 * radius + 2
    left, right = max(int(cx - reach), 0), min(int(np.ceil(cx + reach)), width)
    above, below = max(int(cy - reach), 0), min(int(np.ceil(cy + reach)), height)
    if left >= right or above >= below:
        return None
    x = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5 - cx)
    y = np.arange(above, below, dtype=np.float32)[:, None] + np.float32(0.5 - cy)
    subject, turn = actor.subject, float(actor.way.turn[frame])
    flip = subject.motion == "left" and subject.kind in ("boat", "bird")
    lift = _wing_lift(actor, view.time)
    mask, colours = subjects.paint(subject.kind, subject.colour, x, y, turn, radius, flip=flip, lift=lift)
    return (slice(above, below), slice(left, right)), mask, colours


def _check_size(height: int, width: int, num_frames: int, fps: float) -> None:
    if min(height, width) < 8 or num_frames < 1 or fps <= 0:
        raise ValueError(f"cannot render {num_frames} frames of {height}x{width} at {fps} fps: use at least 1 of 8x8")


def subject_masks(
    spec: SceneSpec, height: int, width: int, num_frames: int, fps: float = 24, seed: int = 0
) -> NDArray[np.float32]:
    """Opacity of each subject in the clip that ``render`` makes of the same arguments, float32 (S, T, H, W)."""
    _check_size(height, width, num_frames, fps)
    time = np.arange(num_frames, dtype=np.float32) / np.float32(fps)
    views = _views(spec, height, width, time)
    actors = _actors(spec, np.random.default_rng(seed), height, width, time)
    masks = np.zeros((len(actors), num_frames, height, width), np.float32)
    for number, actor in enumerate(actors):
        for frame, view in enumerate(views):
            figure = _figure(actor, view, frame, height, width)
            if figure is not None:
                masks[number, frame][figure[0]] = figure[1]
    return masks


def render(
    spec: SceneSpec, height: int, width: int, num_frames: int, fps: float = 24, seed: int = 0, kept: int | None = None
) -> NDArray[np.uint8]:
    """The clip of a scene, uint8 (T, H, W, 3), the same for the same arguments. ``seed`` fixes what the description
    leaves open: sizes, places, hills. Of a clip only the first ``kept`` frames are drawn if that is given. Raises
    ``ValueError`` for an empty frame or clip."""
    _check_size(height, width, num_frames, fps)
    rng = np.random.default_rng(seed)
    time = np.arange(num_frames, dtype=np.float32) / np.float32(fps)
    views = _views(spec, height, width, time)
    actors = _actors(spec, rng, height, width, time)
    paint = background(spec.background, rng, top=-height / (2 * min(height, width)))
    drops = weather.fall(spec.weather, rng, height, width)
    flaw = 1 - AESTHETICS.index(spec.aesthetic) / (len(AESTHETICS) - 1)
    stains = finish.blotches(rng, height, width)
    frozen = spec.camera == "static" and spec.background != "sea"
    views = views[:kept]
    clip = np.empty((len(views), height, width, 3), np.uint8)
    scenery: Array | None = None
    for frame, view in enumerate(views):
        if scenery is None or not frozen:
            scenery = paint(view)
            weather.light(spec.weather, scenery)
        picture = scenery.copy()
        for actor in actors:
            _paint_shadow(picture, actor, view, frame)
        for actor in actors:
            figure = _figure(actor, view, frame, height, width)
            if figure is not None:
                part = picture[:, *figure[0]]
                part += figure[1] * (figure[2] - part)
        if drops is not None:
            weather.sprinkle(spec.weather, picture, drops(view))
        if flaw > 0:
            picture = finish.wear(picture, flaw, stains, view.pixels)
        clip[frame] = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    return clip
