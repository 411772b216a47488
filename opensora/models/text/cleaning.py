"""Caption cleaning: brings a caption into the form on which the T5-conditioned networks were trained.

The steps and their order are those of the published networks, since other words would be other conditions.
"""

import html
import re
import urllib.parse
from collections.abc import Iterable

import ftfy
from bs4 import BeautifulSoup
from bs4.builder import ParserRejectedMarkup

Rule = tuple[re.Pattern[str], str]
"""What is replaced, and by what."""


def _rules(*rules: tuple[str, str]) -> tuple[Rule, ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rules)


_HOST = r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?(?!@)"
_DASHES = (
    "\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0\ufe31\ufe32\ufe58"
    "\ufe63\uff0d"
)
_PUNCTUATION = "#®•©™&@·º½¾¿¡§~" + r"\)\(\]\[\}\{\|\\/*"

_LINKS = _rules(
    ("<person>", "person"),
    (rf"\b(?:https?:(?:/{{1,3}}|[a-zA-Z0-9%])|{_HOST})", ""),
    (rf"\b(?:www:(?:/{{1,3}}|[a-zA-Z0-9%])|{_HOST})", ""),
)
"""Addresses, and the one tag that stands for a word."""

_CHARACTERS = _rules(
    (r"@[\w\d]+\b", ""),
    *((f"[{first}-{last}]+", "") for first, last in ("㇀㇯", "ㇰㇿ", "㈀㋿", "㌀㏿", "㐀䶿", "䷀䷿", "一鿿")),
    (f"[{_DASHES}]+", "-"),
    ("[`´«»“”¨]", '"'),
    ("[‘’]", "'"),
    ("&quot;?", ""),
    ("&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (r"[\S]+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)", ""),
    (r"[\"']{2,}", '"'),
    (r"[.]{2,}", " "),
    (rf"[{_PUNCTUATION}]+", " "),
    (r"\s+\.\s+", " "),
)
"""Names of users and files, Chinese characters, addresses of machines, long numbers, unusual punctuation."""

_JOINED = re.compile("[-_]")
"""With more than three of these, a caption is words joined into one."""

_SHOP_WORDS = _rules(
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
    (r"\b\d+[a-zA-Z]+\d+\b", ""),
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (r"\b(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(?:\simage[s]?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "),
)
"""Article numbers, offers, sizes; spaces around punctuation."""

_ENDS = _rules(
    (r"^[\"']([\w\W]+)[\"']$", r"\1"),
    (r"^['_,\-:;]", ""),
    (r"['_,\-:\-+]$", ""),
    (r"^\.\S+$", ""),
)
"""Quotes around the caption and stray punctuation at its ends."""


def clean_caption(caption: str) -> str:
    """The caption without markup, addresses, file names and the like, in lower case."""
    text = str(caption).encode(errors="ignore").decode()  # halves of characters have no meaning in UTF-8
    text = urllib.parse.unquote_plus(text).strip().lower()
    text = _apply(_LINKS, text)
    text = _without_markup(text)
    text = _apply(_CHARACTERS, text)
    if len(_JOINED.findall(text)) > 3:
        text = _JOINED.sub(" ", text)
    text = ftfy.fix_text(text)
    text = html.unescape(html.unescape(text)).strip()
    text = _apply(_SHOP_WORDS, text)
    return _apply(_ENDS, text).strip()


def text_preprocessing(text: str, use_text_preprocessing: bool = True) -> str:
    """The caption as the text encoder reads it: cleaned twice, or only in lower case without outer spaces."""
    if use_text_preprocessing:
        return clean_caption(clean_caption(text))
    return text.lower().strip()


def _without_markup(text: str) -> str:
    if "<" in text:
        try:
            return BeautifulSoup(text, features="html.parser").text
        except ParserRejectedMarkup:  # such as "<![[": it is no markup, so that it stays
            return text
    # The line break keeps the parser from warning that a caption looks like the name of a file.
    return BeautifulSoup(f"\n{text}", features="html.parser").text[1:]


def _apply(rules: Iterable[Rule], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text
