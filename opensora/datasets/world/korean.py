"""Korean wording of captions."""

import numpy as np

from opensora.datasets.world.wording import Said, SaidSubject, pick

COLOURS = {
    "red": ("빨간", "빨간", "빨간색", "붉은"),
    "orange": ("주황색", "주황색", "주황빛", "오렌지색"),
    "yellow": ("노란", "노란", "노란색"),
    "green": ("초록색", "초록색", "녹색", "초록"),
    "blue": ("파란", "파란", "파란색", "푸른색"),
    "purple": ("보라색", "보라색", "보랏빛"),
    "white": ("하얀", "하얀", "흰", "흰색"),
    "black": ("검은", "검은", "검은색", "까만"),
}
KINDS = {
    "ball": ("공", "공", "공", "원", "동그라미"),
    "square": ("사각형", "네모", "상자", "정사각형"),
    "triangle": ("삼각형", "삼각형", "세모"),
    "star": ("별", "별", "별 모양"),
    "boat": ("배", "배", "돛단배", "보트"),
    "bird": ("새", "새", "작은 새"),
}
# Motions as plain statement, adnominal (before a noun) and polite statement.
_SIDEWAYS = (
    ("움직인다", "움직이는", "움직입니다"),
    ("움직인다", "움직이는", "움직입니다"),
    ("이동한다", "이동하는", "이동합니다"),
    ("미끄러진다", "미끄러지는", "미끄러집니다"),
    ("간다", "가는", "갑니다"),
)
_OWN_VERBS = {
    "ball": ("굴러간다", "굴러가는", "굴러갑니다"),
    "boat": ("항해한다", "항해하는", "항해합니다"),
    "bird": ("날아간다", "날아가는", "날아갑니다"),
}
_WAYS = {
    "left": ("왼쪽으로", "왼쪽으로", "왼쪽 방향으로", "오른쪽에서 왼쪽으로"),
    "right": ("오른쪽으로", "오른쪽으로", "오른쪽 방향으로", "왼쪽에서 오른쪽으로"),
}
_MOTIONS = {
    "up": (
        ("위로 올라간다", "위로 올라가는", "위로 올라갑니다"),
        ("위로 움직인다", "위로 움직이는", "위로 움직입니다"),
        ("위로 떠오른다", "위로 떠오르는", "위로 떠오릅니다"),
    ),
    "down": (
        ("아래로 내려간다", "아래로 내려가는", "아래로 내려갑니다"),
        ("아래로 움직인다", "아래로 움직이는", "아래로 움직입니다"),
        ("아래로 떨어진다", "아래로 떨어지는", "아래로 떨어집니다"),
    ),
    "still": (
        ("가만히 있다", "가만히 있는", "가만히 있습니다"),
        ("움직이지 않는다", "움직이지 않는", "움직이지 않습니다"),
        ("멈춰 있다", "멈춰 있는", "멈춰 있습니다"),
    ),
    "bounce": (
        ("통통 튄다", "통통 튀는", "통통 튑니다"),
        ("위아래로 튄다", "위아래로 튀는", "위아래로 튑니다"),
        ("뛰어오른다", "뛰어오르는", "뛰어오릅니다"),
    ),
    "spin": (
        ("빙글빙글 돈다", "빙글빙글 도는", "빙글빙글 돕니다"),
        ("회전한다", "회전하는", "회전합니다"),
        ("제자리에서 돈다", "제자리에서 도는", "제자리에서 돕니다"),
    ),
}
_SPEEDS = {
    "very low": ("아주 천천히",),
    "low": ("천천히",),
    "fair": ("보통 속도로",),
    "high": ("빠르게", "빨리"),
    "very high": ("아주 빠르게", "매우 빠르게"),
    "extremely high": ("엄청나게 빠르게", "전속력으로"),
}
PLACES = {  # where something happens, and as a noun or tag
    "meadow": (("초원에서", "초원"), ("풀밭 위에서", "풀밭"), ("초록 들판에서", "초록 들판")),
    "sea": (("바다 위에서", "바다"), ("파도치는 바다에서", "파도치는 바다"), ("바다에서", "바다")),
    "desert": (("사막에서", "사막"), ("모래 언덕 위에서", "모래 언덕")),
    "mountains": (("눈 덮인 산 앞에서", "눈 덮인 산"), ("설산에서", "설산"), ("산 앞에서", "산")),
    "city": (("밤의 도시에서", "밤의 도시"), ("도시의 밤거리에서", "도시의 밤거리"), ("도시 야경 앞에서", "도시 야경")),
}
PLAIN = {
    "plain white": ("하얀", "흰색"),
    "plain grey": ("회색",),
    "plain pink": ("분홍색", "핑크색"),
    "plain blue": ("하늘색", "연한 파란색"),
    "plain cream": ("크림색", "연한 노란색"),
    "plain mint": ("민트색", "연두색"),
    "plain dark": ("어두운", "짙은 남색"),
}
_WEATHERS = {  # before a place, as a tag, as a sentence
    "rain": (
        ("비가 오는", "비", "비가 온다."),
        ("비 내리는", "비", "비가 내린다."),
        ("비가 내리는", "비 오는 날", "비가 내립니다."),
    ),
    "snow": (
        ("눈이 오는", "눈", "눈이 온다."),
        ("눈 내리는", "눈", "눈이 내린다."),
        ("눈이 내리는", "눈 오는 날", "눈이 내립니다."),
    ),
    "clear": (("맑은 날", "맑음", "날씨가 맑다."), ("맑은 날", "맑은 날씨", "하늘이 맑다.")),
}
_CAMERAS = {
    "static": ("카메라는 고정되어 있다.", "카메라는 움직이지 않는다."),
    "pan left": ("카메라가 왼쪽으로 패닝한다.", "카메라가 왼쪽으로 돈다."),
    "pan right": ("카메라가 오른쪽으로 패닝한다.", "카메라가 오른쪽으로 돈다."),
    "tilt up": ("카메라가 위로 향한다.", "카메라가 위쪽으로 기운다."),
    "tilt down": ("카메라가 아래로 향한다.", "카메라가 아래쪽으로 기운다."),
    "zoom in": ("카메라가 줌인한다.", "카메라가 다가간다."),
    "zoom out": ("카메라가 줌아웃한다.", "카메라가 멀어진다."),
}
# {a:이} is the noun with the particle 이 or 가, whichever its last syllable asks for.
_PARTICLES = {"이": ("이", "가"), "은": ("은", "는"), "을": ("을", "를"), "과": ("과", "와")}
TRAIN = (
    "{set}{a:이} {va}.",
    "{a:이} {set}{va}.",
    "{set}{na}{a}",
    "{na}{a}, {where}, {tag}",
    "{where}, {tag}, {na}{a}",
    "{sentence}{place}{a:이} {va}.",
    "{set}{na}{a} 영상",
)
HELDOUT = ("{set}{na}{a:을} 보여 줘", "{a:은} {set}{va}.", "{set}{na}{a:이} 나오는 장면")
_TWO_TRAIN = (
    "{set}왼쪽에서는 {a:이} {va}, 오른쪽에서는 {b:이} {vb}.",
    "{set}{na}{a:과} {nb}{b}",
    "{na}{a}, {nb}{b}, {where}, {tag}",
    "{sentence}{place}{a:이} {va}. 그리고 {b:이} {vb}.",
)
_TWO_HELDOUT = ("{set}{na}{a:과} {nb}{b:을} 보여 줘",)
_TOGETHER_TRAIN = ("{set}{a:과} {b:이} {va}.", "{set}{a:과} {b:이} 함께 {va}.", "{a:과} {b:이} {set}{va}.")
_TOGETHER_HELDOUT = ("{a:과} {b:은} {set}{va}.",)
_EMPTY_TRAIN = ("{tag}, {where}", "{where}, {tag}", "{before}{where}", "{sentence}{where}")
_EMPTY_HELDOUT = ("{before}{where} 보여 줘",)


def with_particle(noun: str, particle: str) -> str:
    """The noun with 이/가, 은/는, 을/를 or 과/와, by whether its last syllable ends in a consonant."""
    closed, open_ = _PARTICLES[particle]
    return noun + (closed if (ord(noun[-1]) - 0xAC00) % 28 else open_)


class _Noun(str):
    """A noun whose format specification is a particle."""

    def __format__(self, particle: str) -> str:
        return with_particle(str(self), particle) if particle else str(self)


def _noun(subject: SaidSubject, rng: np.random.Generator) -> _Noun:
    kind = pick(rng, KINDS[subject.kind])
    return _Noun(f"{pick(rng, COLOURS[subject.colour])} {kind}" if subject.colour else kind)


def _verb(subject: SaidSubject, strength: str | None, rng: np.random.Generator) -> tuple[str, str]:
    """The motion as a statement and before a noun (ending in a blank, or empty when it is not mentioned)."""
    if subject.motion is None:
        return pick(rng, ("있다", "보인다")), ""
    if subject.motion in _WAYS:
        own = [_OWN_VERBS[subject.kind]] * 4 if subject.kind in _OWN_VERBS else []
        way = pick(rng, _WAYS[subject.motion])
        plain, before, polite = (f"{way} {form}" for form in pick(rng, [*_SIDEWAYS, *own]))
    else:
        plain, before, polite = pick(rng, _MOTIONS[subject.motion])
    speed = f"{pick(rng, _SPEEDS[strength])} " if strength is not None and subject.motion != "still" else ""
    return speed + (plain if rng.random() < 0.7 else polite), f"{speed}{before} "


def _templates(count: int, together: bool, heldout: bool) -> tuple[str, ...]:
    match count, together:
        case 0, _:
            return _EMPTY_HELDOUT if heldout else _EMPTY_TRAIN
        case 1, _:
            return HELDOUT if heldout else TRAIN
        case _, True:
            return _TOGETHER_HELDOUT if heldout else _TOGETHER_TRAIN
    return _TWO_HELDOUT if heldout else _TWO_TRAIN


def _surroundings(said: Said, rng: np.random.Generator) -> dict[str, str]:
    """Words of place and weather; ``set`` carries both."""
    place = where = ""
    if said.background in PLACES:
        place, where = pick(rng, PLACES[said.background])
    elif said.background is not None:
        where = f"{pick(rng, PLAIN[said.background])} 배경"
        place = where + pick(rng, ("에서", " 앞에서"))
    before, tag, whole = pick(rng, _WEATHERS[said.weather]) if said.weather else ("", "", "")
    if before and not place and not before.endswith("날"):
        setting = f"{before} 날 "
    else:
        setting = "".join(f"{word} " for word in (before, place) if word)
    return {
        "set": setting,
        "place": f"{place} " if place else "",
        "before": f"{before} " if before else "",
        "where": where,
        "tag": tag,
        "sentence": f"{whole} " if whole else "",
    }


def sentence(said: Said, rng: np.random.Generator, heldout: bool) -> str:
    """A caption of what is said, in a held-out word order or in one of training."""
    motions = [s.motion for s in said.subjects]
    together = len(motions) == 2 and motions[0] == motions[1] and rng.random() < 0.6
    words = _surroundings(said, rng)
    for name, subject in zip("ab", said.subjects, strict=False):
        statement, before = _verb(subject, said.strength, rng)
        words |= {name: _noun(subject, rng), f"v{name}": statement, f"n{name}": before}
    if together:
        words["va"] = _verb(SaidSubject("square", None, motions[0]), said.strength, rng)[0]
    text = pick(rng, _templates(len(motions), together, heldout)).format(**words)
    text = ", ".join(part.strip() for part in text.split(",") if part.strip())
    if said.camera is not None:
        text = f"{text.rstrip('.')}. {pick(rng, _CAMERAS[said.camera])}"
    return text
