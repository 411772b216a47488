"""English wording of captions."""

import numpy as np

from opensora.datasets.world.wording import Said, SaidSubject, pick

COLOURS = {
    "red": ("red", "red", "red", "crimson", "scarlet", "bright red"),
    "orange": ("orange", "orange", "orange", "tangerine", "bright orange"),
    "yellow": ("yellow", "yellow", "yellow", "lemon yellow", "golden"),
    "green": ("green", "green", "green", "emerald", "emerald green"),
    "blue": ("blue", "blue", "blue", "cobalt", "royal blue"),
    "purple": ("purple", "purple", "purple", "violet"),
    "white": ("white", "white", "white", "snow-white"),
    "black": ("black", "black", "black", "jet-black"),
}
KINDS = {
    "ball": ("ball", "ball", "ball", "circle", "disc", "sphere", "round ball"),
    "square": ("square", "square", "box", "block", "cube"),
    "triangle": ("triangle", "triangle", "triangle", "triangular shape"),
    "star": ("star", "star", "star", "five-pointed star"),
    "boat": ("boat", "boat", "boat", "sailing boat", "sailboat", "ship"),
    "bird": ("bird", "bird", "bird", "little bird"),
}
_SIDEWAYS = (
    ("move", "moves", "moving"),
    ("move", "moves", "moving"),
    ("slide", "slides", "sliding"),
    ("glide", "glides", "gliding"),
    ("travel", "travels", "travelling"),
    ("go", "goes", "going"),
    ("drift", "drifts", "drifting"),
)
_OWN_VERBS = {
    "ball": ("roll", "rolls", "rolling"),
    "boat": ("sail", "sails", "sailing"),
    "bird": ("fly", "flies", "flying"),
}
_WAYS = {
    "left": ("to the left", "to the left", "left", "leftwards", "from right to left", "towards the left"),
    "right": ("to the right", "to the right", "right", "rightwards", "from left to right", "towards the right"),
    "up": ("up", "upwards", "upward", "towards the top"),
    "down": ("down", "downwards", "downward", "towards the bottom"),
}
_MOTIONS = {
    "up": (
        ("rise", "rises", "rising"),
        ("float up", "floats up", "floating up"),
        ("climb", "climbs", "climbing"),
        ("ascend", "ascends", "ascending"),
    ),
    "down": (
        ("fall", "falls", "falling"),
        ("sink", "sinks", "sinking"),
        ("drop down", "drops down", "dropping down"),
        ("descend", "descends", "descending"),
    ),
    "still": (
        ("stay still", "stays still", "staying still"),
        ("do not move", "does not move", "not moving"),
        ("stand still", "stands still", "standing still"),
        ("rest", "rests", "resting"),
        ("remain in place", "remains in place", "remaining in place"),
    ),
    "bounce": (
        ("bounce", "bounces", "bouncing"),
        ("bounce up and down", "bounces up and down", "bouncing up and down"),
        ("hop", "hops", "hopping"),
        ("jump up and down", "jumps up and down", "jumping up and down"),
    ),
    "spin": (
        ("spin", "spins", "spinning"),
        ("rotate", "rotates", "rotating"),
        ("spin around", "spins around", "spinning around"),
        ("turn around", "turns around", "turning around"),
        ("whirl", "whirls", "whirling"),
    ),
}
_SPEEDS = {
    "very low": ("very slowly",),
    "low": ("slowly",),
    "fair": ("at a moderate speed",),
    "high": ("fast", "quickly"),
    "very high": ("very fast", "very quickly"),
    "extremely high": ("extremely fast", "at top speed"),
}
PLACES = {
    "meadow": (
        ("over a green meadow", "a meadow"),
        ("on a meadow", "meadow"),
        ("in a meadow", "a green meadow"),
        ("on the grass", "grass"),
        ("in a field of grass", "a field of grass"),
    ),
    "sea": (
        ("on the sea", "sea"),
        ("over the sea", "the sea"),
        ("on a sea with waves", "a sea with waves"),
        ("on the ocean", "ocean"),
        ("on the waves", "waves"),
    ),
    "desert": (
        ("in the desert", "desert"),
        ("in a desert", "a desert"),
        ("over sand dunes", "sand dunes"),
        ("across the sand", "a sandy desert"),
    ),
    "mountains": (
        ("in front of snowy mountains", "snowy mountains"),
        ("in the snowy mountains", "mountains"),
        ("in the mountains", "the mountains"),
        ("before snow-capped mountains", "snow-capped mountains"),
    ),
    "city": (
        ("in a city at night", "a city at night"),
        ("in the city at night", "city at night"),
        ("in front of a city at night", "night city"),
        ("on a street of a city by night", "the city by night"),
    ),
}
PLAIN = {
    "plain white": ("white", "plain white"),
    "plain grey": ("grey", "gray", "plain grey", "plain gray"),
    "plain pink": ("pink", "plain pink", "light pink"),
    "plain blue": ("light blue", "plain light blue", "pale blue"),
    "plain cream": ("cream", "cream-coloured", "pale yellow"),
    "plain mint": ("mint green", "mint", "light green"),
    "plain dark": ("dark", "plain dark", "very dark"),
}
_WEATHERS = {  # after a clause, as a tag, as a sentence
    "rain": (("in the rain", "rain", "It is raining."), ("while it rains", "raining", "It rains."),
             ("on a rainy day", "rainy", "Rain is falling.")),
    "snow": (("in the snow", "snow", "It is snowing."), ("while it snows", "snowing", "It snows."),
             ("on a snowy day", "snowfall", "Snow is falling.")),
    "clear": (("in clear weather", "clear weather", "The weather is clear."),
              ("under a clear sky", "clear sky", "The sky is clear.")),
}  # fmt: skip
_CAMERAS = {
    "static": ("The camera is static.", "The camera does not move."),
    "pan left": ("The camera pans left.", "The camera pans to the left."),
    "pan right": ("The camera pans right.", "The camera pans to the right."),
    "tilt up": ("The camera tilts up.", "The camera tilts upwards."),
    "tilt down": ("The camera tilts down.", "The camera tilts downwards."),
    "zoom in": ("The camera zooms in.", "Zooming in."),
    "zoom out": ("The camera zooms out.", "Zooming out."),
}
TRAIN = (
    "{np} {finite}{ place}{ weather}.",
    "{np} {finite}{ place}{ weather}",
    "{np}{ ing}{ place}{ weather}",
    "{np}{ ing}{ place}{, tag}",
    "{place, }{np} {finite}{ weather}.",
    "{place, }{np} {finite}{, tag}",
    "{sentence }{np} {finite}{ place}.",
    "{short}{ ing}{, where}{, tag}",
    "{where, }{tag, }{short}{ ing}",
    "a video of {np}{ ing}{ place}{ weather}",
    "there is {np}{ ing}{ place}{ weather}.",
    "in this clip {np} {finite}{ place}{ weather}.",
)
HELDOUT = (
    "we see {np} that {finite}{ place}{ weather}.",
    "show me how {np} {finite}{ place}{ weather}",
    "{place, }you can watch {np}{ ing}{, tag}.",
    "{np}{, ing}, seen{ place}{ weather}.",
    "an animation in which {np} {finite}{ place}{, tag}",
)
_TWO_TRAIN = (
    "{a} {fa} and {b} {fb}{ place}{ weather}.",
    "{a}{ ga} and {b}{ gb}{ place}{ weather}",
    "{a}{ ga} on the left and {b}{ gb} on the right{ place}{, tag}",
    "on the left {a} {fa}, on the right {b} {fb}{ place}{ weather}.",
    "{place, }{a} {fa} next to {b}, which {fb}{, tag}.",
    "{place, }{a}{ ga}, {b}{ gb}{ weather}",
    "{sentence }{a} {fa} and {b} {fb}{ place}.",
)
_TWO_HELDOUT = (
    "we see {a} that {fa} beside {b} that {fb}{ place}{ weather}.",
    "show me {a}{ ga} together with {b}{ gb}{ place}{, tag}",
)
_TOGETHER_TRAIN = (
    "{a} and {b} {base}{ place}{ weather}.",
    "{a} and {b}, both{ ga}{ place}{, tag}",
    "{place, }{a} and {b} both {base}{ weather}.",
    "{a} and {b}{ ga} together{ place}{ weather}",
)
_TOGETHER_HELDOUT = ("we see {a} and {b}{ ga} side by side{ place}{ weather}.",)
_EMPTY_TRAIN = (
    "{tag, }{where}", "{where}{, tag}", "{where}{ weather}", "a video of {where}{ weather}", "{sentence }{where}.",
)  # fmt: skip
_EMPTY_HELDOUT = ("show me {where}{ weather}", "we see {where}{, tag}.")


def article(words: str) -> str:
    """The words with "a" or "an" in front."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _noun(subject: SaidSubject, rng: np.random.Generator) -> str:
    kind = pick(rng, KINDS[subject.kind])
    return f"{pick(rng, COLOURS[subject.colour])} {kind}" if subject.colour else kind


def _verb(subject: SaidSubject, kinds: set[str], strength: str | None, rng: np.random.Generator) -> tuple[str, ...]:
    """The motion as base form, third person and participle; three empty texts when it is not mentioned."""
    if subject.motion is None:
        return "can be seen", "can be seen", ""
    if subject.motion in _WAYS and (subject.motion not in _MOTIONS or rng.random() < 0.5):
        verbs = list(_SIDEWAYS)
        if len(kinds) == 1 and (own := _OWN_VERBS.get(subject.kind)) and subject.motion in ("left", "right"):
            verbs += [own] * 4
        way = pick(rng, _WAYS[subject.motion])
        forms = tuple(f"{form} {way}" for form in pick(rng, verbs))
    else:
        forms = pick(rng, _MOTIONS[subject.motion])
    if strength is not None and subject.motion != "still":
        speed = pick(rng, _SPEEDS[strength])
        forms = tuple(f"{form} {speed}" for form in forms)
    return forms


def _place(background: str | None, rng: np.random.Generator) -> tuple[str, str]:
    """Where it is: after a verb, and as a noun or tag."""
    if background is None:
        return "", ""
    if background in PLACES:
        return pick(rng, PLACES[background])
    noun = f"{pick(rng, PLAIN[background])} {pick(rng, ('background', 'background', 'backdrop'))}"
    return f"{pick(rng, ('on', 'in front of', 'against'))} {article(noun)}", article(noun)


def _fill(template: str, words: dict[str, str]) -> str:
    """Fill ``{name}``, ``{ name}``, ``{, name}`` and ``{name, }``: blanks and commas vanish with an empty word."""
    parts = []
    for piece in template.split("{")[1:]:
        slot, literal = piece.split("}")
        name = slot.strip(" ,")
        before, _, after = slot.partition(name)
        parts.append((f"{before}{words[name]}{after}" if words[name] else "") + literal)
    return (template.split("{")[0] + "".join(parts)).strip(" ,")


def _template(count: int, together: bool, heldout: bool, rng: np.random.Generator) -> str:
    match count, together:
        case 0, _:
            return pick(rng, _EMPTY_HELDOUT if heldout else _EMPTY_TRAIN)
        case 1, _:
            return pick(rng, HELDOUT if heldout else TRAIN)
        case _, True:
            return pick(rng, _TOGETHER_HELDOUT if heldout else _TOGETHER_TRAIN)
    return pick(rng, _TWO_HELDOUT if heldout else _TWO_TRAIN)


def _subject_words(said: Said, together: bool, rng: np.random.Generator) -> dict[str, str]:
    nouns = [_noun(s, rng) for s in said.subjects]
    kinds = {s.kind for s in said.subjects}
    verbs = [_verb(s, kinds if together else {s.kind}, said.strength, rng) for s in said.subjects]
    words: dict[str, str] = {}
    if nouns:
        base, finite, ing = verbs[0]
        words |= {"np": article(nouns[0]), "short": nouns[0], "finite": finite, "ing": ing, "base": base}
        words |= {"a": article(nouns[0]), "fa": finite, "ga": ing}
    if len(nouns) == 2:
        words |= {"b": article(nouns[1]), "fb": verbs[1][1], "gb": verbs[1][2]}
    return words


def sentence(said: Said, rng: np.random.Generator, heldout: bool) -> str:
    """A caption of what is said, in a held-out word order or in one of training."""
    motions = [s.motion for s in said.subjects]
    together = len(motions) == 2 and motions[0] == motions[1] and rng.random() < 0.7
    place, where = _place(said.background, rng)
    weather, tag, whole = pick(rng, _WEATHERS[said.weather]) if said.weather else ("", "", "")
    words = {"place": place, "where": where, "weather": weather, "tag": tag, "sentence": whole}
    words |= _subject_words(said, together, rng)
    text = _fill(_template(len(motions), together, heldout, rng), words)
    if text.endswith(".") or rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    if said.camera is not None:
        text = f"{text.rstrip('.')}. {pick(rng, _CAMERAS[said.camera])}"
    return text
