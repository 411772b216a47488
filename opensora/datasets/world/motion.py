"""Where a subject is in every frame.

Lengths are in short sides of the frame, the origin is the frame's centre, y points down, time is in seconds.
"""

from dataclasses import dataclass

import numpy as np

from opensora.datasets.world.canvas import Array
from opensora.datasets.world.spec import SPEED, Subject


@dataclass(frozen=True)
class Draws:
    """Numbers in [0, 1) that fix what the description leaves open."""

    size: float
    across: float
    height: float
    phase: float
    tilt: float


@dataclass(frozen=True)
class Lane:
    """The part of the frame that belongs to a subject."""

    centre: float
    """Middle of the lane, horizontally."""
    width: float
    height: float
    ground: float
    """Height at which things stand."""
    shared: bool
    """Whether another subject has a lane too; then the subject stays inside its own."""


@dataclass(frozen=True)
class Trajectory:
    """Per frame (T,): centre, clockwise turn in radians and the diameter."""

    x: Array
    y: Array
    turn: Array
    diameter: float


def _along(extent: float, diameter: float, speed: float, time: Array, start: float, wrap: bool) -> Array:
    """Positions (T,) on a way through ``extent``, forwards: inside if it fits, else re-entering at the other side."""
    duration = float(time[-1])
    slack = max(extent - 1.04 * diameter, 0.0)
    way = speed * duration
    if not wrap:
        way = min(way, slack)
        speed = way / duration if duration else 0.0
    if way <= slack:
        return (speed * time - way / 2 + (start - 0.5) * (slack - way)).astype(np.float32)
    if way <= 0.96 * extent:
        return (speed * time - way / 2).astype(np.float32)
    period = extent + 1.1 * diameter
    entry = (period - slack) / 2  # the first frame shows the whole subject
    return ((entry + speed * time) % period - period / 2).astype(np.float32)


def trajectory(subject: Subject, lane: Lane, draws: Draws, time: Array) -> Trajectory:
    """The subject's way through its lane at ``time`` (T,) seconds."""
    low, high = (0.25, 0.31) if lane.shared else (0.29, 0.42)
    diameter = low + (high - low) * draws.size
    speed, still = SPEED[subject.strength], np.zeros_like(time)
    lift = {"bird": 0.04 + 0.2 * draws.height}.get(subject.kind, 0.06 * draws.height)
    standing = lane.ground - diameter / 2 - lift * lane.height
    room = 0.75 * max(lane.width - diameter, 0.0)
    x = still + lane.centre + (draws.across - 0.5) * room
    y, turn = still + standing, still
    match subject.motion:
        case "left" | "right":
            sign = 1 if subject.motion == "right" else -1
            way = _along(lane.width, diameter, speed, time, draws.across, wrap=not lane.shared)
            x = lane.centre + sign * way
            if subject.kind == "ball":
                turn = sign * way / (diameter / 2)
        case "up" | "down":
            way = _along(lane.height, diameter, 0.7 * speed, time, draws.height, wrap=not lane.shared)
            y = way if subject.motion == "down" else -way
        case "bounce":
            highest = min(0.38, standing - diameter / 2 + lane.height / 2 - 0.01)
            u = ((0.5 + 1.1 * speed) * time + draws.phase) % 1
            y = lane.ground - diameter / 2 - highest * 4 * u * (1 - u)
        case "spin":
            turn = 2 * np.pi * ((0.14 + 0.6 * speed) * time + draws.phase)
    return Trajectory(x.astype(np.float32), y.astype(np.float32), turn.astype(np.float32), diameter)
