"""The places of the world. Backgrounds are pale (or dark, at night) so that saturated subjects stand out.

A place is drawn once per clip from a generator (its hills, clouds, houses) and then painted per frame.
"""

from collections.abc import Callable

import numpy as np

from opensora.datasets.world.canvas import Array, View, blend, cover, fade, rgb, vertical

Paint = Callable[[View], Array]
"""Paints the background of one frame, (3, H, W)."""

_PLAIN = {
    "plain white": (rgb(250, 250, 251), rgb(226, 229, 234)),
    "plain grey": (rgb(196, 200, 206), rgb(160, 165, 173)),
    "plain pink": (rgb(253, 218, 226), rgb(240, 184, 200)),
    "plain blue": (rgb(203, 228, 248), rgb(164, 203, 236)),
    "plain cream": (rgb(254, 245, 216), rgb(244, 225, 178)),
    "plain mint": (rgb(212, 243, 225), rgb(172, 222, 196)),
    "plain dark": (rgb(66, 70, 92), rgb(38, 41, 58)),
}
SNOW_WHITE = rgb(244, 248, 252)


def _blank(view: View, colour: Array) -> Array:
    """A picture of this colour, (3, 1, 1) or (3, H, 1)."""
    return np.repeat(np.broadcast_to(colour, (3, view.y.shape[0], 1)), view.x.shape[1], axis=2).astype(np.float32)


def _waves(rng: np.random.Generator, scale: float, height: float) -> Callable[[Array], Array]:
    """A smooth random height profile of x: three sines of decreasing weight."""
    phases, stretch = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.85, 1.15, 3)

    def profile(x: Array) -> Array:
        total = np.zeros_like(x)
        for k, (phase, factor) in enumerate(zip(phases, stretch, strict=True)):
            total = total + np.sin(x * np.float32(scale * factor * 1.7**k) + np.float32(phase)) / (1 + 0.9 * k)
        return total * np.float32(height / 1.7)

    return profile


def _sun(picture: Array, view: View, cx: float, cy: float, colour: Array, glow: float) -> None:
    x, y = view.at(0.3)
    distance = np.hypot(x - np.float32(cx), y - np.float32(cy))
    blend(picture, np.float32(glow) * (1 - fade(distance, 0.06, 0.3)), colour)
    blend(picture, cover(distance - np.float32(0.075), view.sharpness), colour)


def _clouds(picture: Array, view: View, places: Array, colour: Array, opacity: float) -> None:
    """Clouds of three round puffs on a flat base; ``places`` (N, 3) holds x, y and size."""
    x, y = view.at(0.4)
    for cx, cy, size in places:
        u, v = (x - cx) / size, (y - cy) / size
        distance = np.minimum(np.hypot(u + 0.62, v - 0.05) - 0.42, np.hypot(u - 0.58, v - 0.08) - 0.38)
        distance = np.minimum(distance, np.hypot(u, v + 0.16) - 0.56)
        distance = np.maximum(distance, v - 0.34)
        blend(picture, np.float32(opacity) * cover(distance * size, view.sharpness * 0.7), colour)


def _cloud_places(rng: np.random.Generator, count: int, top: float) -> Array:
    x = np.linspace(-0.95, 0.95, count) + rng.uniform(-0.2, 0.2, count)
    y = top * rng.uniform(0.62, 0.86, count)
    return np.stack([x, y, rng.uniform(0.12, 0.19, count)], axis=1).astype(np.float32)


def plain(rng: np.random.Generator, top: float, name: str) -> Paint:
    """A soft two-tone gradient with large faint discs."""
    light, deep = _PLAIN[name]
    discs = np.stack([rng.uniform(-1.3, 1.3, 7), rng.uniform(-0.7, 0.7, 7) * -top * 2, rng.uniform(0.13, 0.4, 7)], 1)

    def paint(view: View) -> Array:
        picture = _blank(view, vertical(view.at(0.6)[1], top, -top, light, deep))
        for k, (cx, cy, radius) in enumerate(discs.astype(np.float32)):
            x, y = view.at(0.6 + 0.07 * k)
            mask = cover(np.hypot(x - cx, y - cy) - radius, view.sharpness * 0.35)
            blend(picture, np.float32(0.42) * mask, light if k % 3 else deep)
        return picture

    return paint


def meadow(rng: np.random.Generator, top: float) -> Paint:
    """Sky, sun, clouds, two ranges of hills and a lawn with a few flowers."""
    far, near = _waves(rng, 2.4, 0.06), _waves(rng, 1.6, 0.035)
    clouds, side = _cloud_places(rng, 3, top), rng.choice([-1, 1])
    flowers = np.stack([np.linspace(-1.7, 1.7, 16), rng.uniform(0.3, -top * 0.95, 16)], 1).astype(np.float32)
    flowers[:, 0] += rng.uniform(-0.09, 0.09, 16).astype(np.float32)
    petal = (rgb(252, 244, 240), rgb(252, 236, 170), rgb(247, 214, 226))

    def paint(view: View) -> Array:
        _, sky_y = view.at(0)
        picture = _blank(view, vertical(sky_y, top, 0.1, rgb(150, 204, 242), rgb(226, 242, 250)))
        _sun(picture, view, 0.55 * side, 0.7 * top, rgb(255, 241, 186), 0.5)
        _clouds(picture, view, clouds, rgb(255, 255, 255), 0.85)
        x, y = view.at(0.55)
        blend(picture, cover(far(x) + np.float32(0.02) - y, view.sharpness), rgb(172, 212, 164))
        x, y = view.at(1.0)
        lawn = vertical(y, 0.05, 0.55, rgb(176, 219, 128), rgb(122, 186, 92))
        blend(picture, cover(near(x) + np.float32(0.11) - y, view.sharpness), lawn)
        for k, (fx, fy) in enumerate(flowers):
            spot = cover(np.hypot(x - fx, (y - fy) * 1.4) - np.float32(0.014), view.sharpness)
            blend(picture, np.float32(0.9) * spot, petal[k % 3])
        return picture

    return paint


def sea(rng: np.random.Generator, top: float) -> Paint:
    """Sky over a sea whose wave bands rise and travel slowly."""
    clouds, side, phases = _cloud_places(rng, 3, top), rng.choice([-1, 1]), rng.uniform(0, 2 * np.pi, 5)
    deep, pale = rgb(78, 158, 196), rgb(160, 216, 228)

    def paint(view: View) -> Array:
        _, sky_y = view.at(0)
        picture = _blank(view, vertical(sky_y, top, 0.0, rgb(164, 213, 244), rgb(240, 247, 248)))
        _sun(picture, view, 0.5 * side, 0.62 * top, rgb(255, 244, 200), 0.5)
        _clouds(picture, view, clouds, rgb(255, 255, 255), 0.8)
        _, y = view.at(0)
        blend(picture, cover(np.float32(0.03) - y + 0 * view.x, view.sharpness), pale)
        for k, phase in enumerate(phases):
            x, y = view.at(0.5 + 0.12 * k)
            swing = 0.008 + 0.005 * k
            crest = np.float32(0.075 + 0.085 * k + swing * 0.8 * np.sin(1.6 * view.time + phase))
            crest = crest + np.float32(swing) * np.sin(
                x * np.float32(13 - 1.6 * k) + np.float32(phase + 0.3 * view.time)
            )
            band = np.float32(0.5) * cover(np.abs(y - crest) - np.float32(0.006 + 0.001 * k), view.sharpness)
            blend(picture, cover(crest - y, view.sharpness), pale + np.float32((k + 1) / 5) * (deep - pale))
            blend(picture, band, rgb(226, 244, 247))
        return picture

    return paint


def desert(rng: np.random.Generator, top: float) -> Paint:
    """Three ranges of dunes under a warm sky."""
    dunes, side = [_waves(rng, s, h) for s, h in ((2.6, 0.05), (2.0, 0.05), (1.4, 0.035))], rng.choice([-1, 1])
    sand = (rgb(240, 214, 170), rgb(234, 200, 150), rgb(245, 220, 174))

    def paint(view: View) -> Array:
        _, sky_y = view.at(0)
        picture = _blank(view, vertical(sky_y, top, 0.1, rgb(186, 218, 232), rgb(252, 238, 214)))
        _sun(picture, view, 0.45 * side, 0.6 * top, rgb(255, 246, 214), 0.6)
        for k, (dune, colour) in enumerate(zip(dunes, sand, strict=True)):
            x, y = view.at(0.55 + 0.22 * k)
            ridge = dune(x) + np.float32(0.03 + 0.085 * k)
            shaded = colour * (1 - np.float32(0.12) * fade(y - ridge, 0.0, 0.3)[None])
            blend(picture, cover(ridge - y, view.sharpness), shaded)
        return picture

    return paint


def _ridge(x: Array, peaks: Array) -> Array:
    """Height of a mountain range: the highest of cones given by (N, 3) x, top and slope."""
    return np.min([top + np.abs(x - cx) * slope for cx, top, slope in peaks], axis=0)


def mountains(rng: np.random.Generator, top: float) -> Paint:
    """Snow-capped peaks behind a snow field with a few fir trees."""
    base = np.linspace(-2.2, 2.2, 9)
    peaks = np.stack([base + rng.uniform(-0.12, 0.12, 9), rng.uniform(-0.3, -0.14, 9), rng.uniform(0.8, 1.05, 9)], 1)
    slope, trees = _waves(rng, 1.5, 0.03), np.linspace(-1.8, 1.8, 8) + rng.uniform(-0.14, 0.14, 8)
    size = rng.uniform(0.07, 0.11, 8)

    def paint(view: View) -> Array:
        _, sky_y = view.at(0)
        picture = _blank(view, vertical(sky_y, top, 0.05, rgb(160, 205, 240), rgb(230, 241, 250)))
        x, y = view.at(0.55)
        ridge = _ridge(x, peaks.astype(np.float32))
        rock = vertical(y, -0.3, 0.1, rgb(142, 160, 186), rgb(178, 194, 212))
        blend(picture, cover(ridge - y, view.sharpness), rock)
        snow_line = np.float32(-0.1) + np.float32(0.022) * np.sin(x * 31)
        blend(picture, cover(np.maximum(ridge - y, y - snow_line), view.sharpness), SNOW_WHITE)
        x, y = view.at(1.0)
        for cx, s in zip(trees.astype(np.float32), size.astype(np.float32), strict=True):
            foot = np.float32(0.12)
            tree = np.maximum(np.abs(x - cx) * 2.2 - (y - foot + 2.2 * s) * 0.8, y - foot)
            blend(picture, cover(tree * 0.5, view.sharpness), rgb(104, 142, 128))
        field = vertical(y, 0.08, 0.5, rgb(240, 246, 251), rgb(206, 221, 236))
        blend(picture, cover(slope(x) + np.float32(0.1) - y, view.sharpness), field)
        return picture

    return paint


def _houses(x: Array, rng_table: Array, width: float) -> tuple[Array, Array]:
    """Height and house number of a row of houses, each ``width`` wide, along x."""
    number = np.floor(x / np.float32(width)).astype(np.int64)
    return rng_table[number % len(rng_table)], number


def city(rng: np.random.Generator, top: float) -> Paint:
    """Houses with lit windows under a night sky, a street in front."""
    far, near = (rng.uniform(a, b, 37).astype(np.float32) for a, b in ((-0.24, -0.06), (-0.14, 0.04)))
    stars = np.stack([rng.uniform(-1.4, 1.4, 14), top * rng.uniform(0.5, 0.98, 14)], 1).astype(np.float32)
    lit, side = rng.random((37, 8)) < 0.55, rng.choice([-1, 1])

    def windows(view: View, x: Array, y: Array, roof: Array, number: Array) -> Array:
        u, v = (x / np.float32(0.075)) % 1, (y - roof) / np.float32(0.085)
        floor = np.floor(v).astype(np.int64)
        column = np.floor(x / np.float32(0.075)).astype(np.int64)
        on = lit[(number * 5 + column * 11) % 37, floor % 8] & (floor >= 0)
        shape = np.maximum(np.abs(u - 0.5) * 0.075 - 0.02, np.abs(v % 1 - 0.55) * 0.085 - 0.022)
        return cover(shape.astype(np.float32), view.sharpness) * on

    def paint(view: View) -> Array:
        _, sky_y = view.at(0)
        picture = _blank(view, vertical(sky_y, top, 0.15, rgb(20, 25, 62), rgb(78, 72, 124)))
        _sun(picture, view, 0.5 * side, 0.66 * top, rgb(244, 240, 214), 0.22)
        x, y = view.at(0.3)
        for sx, sy in stars:
            blend(
                picture,
                np.float32(0.8) * cover(np.hypot(x - sx, y - sy) - np.float32(0.007), view.sharpness),
                rgb(232, 234, 250),
            )
        x, y = view.at(0.6)
        roof, _ = _houses(x, far, 0.19)
        blend(picture, cover(roof - y, view.sharpness), rgb(58, 58, 104))
        x, y = view.at(0.9)
        roof, number = _houses(x, near, 0.225)
        blend(picture, cover(roof - y, view.sharpness), rgb(40, 41, 78))
        blend(picture, np.float32(0.72) * windows(view, x, y, roof, number), rgb(244, 208, 128))
        x, y = view.at(1.0)
        street = vertical(y, 0.2, 0.5, rgb(98, 98, 124), rgb(72, 72, 96))
        blend(picture, cover(np.float32(0.2) - y + 0 * x, view.sharpness), street)
        return picture

    return paint


def background(name: str, rng: np.random.Generator, top: float) -> Paint:
    """The painter of a place; ``top`` is the height of the frame's upper edge (negative)."""
    if name.startswith("plain"):
        return plain(rng, top, name)
    return {"meadow": meadow, "sea": sea, "desert": desert, "mountains": mountains, "city": city}[name](rng, top)
