"""Published sizes (height x width) by resolution and ratio of height to width.

Two families: the video resolutions ("144p" ... "4k") share 17 ratios; the image resolutions ("256" ... "2880") have 40.
"""

Table = dict[str, tuple[int, int]]
"""(height, width) by the height-to-width ratio with two decimals."""

VIDEO_PIXELS: dict[str, int] = {
    "144p": 36864,
    "240p": 102240,
    "360p": 230400,
    "480p": 409920,
    "720p": 921600,
    "1080p": 2073600,
    "2k": 3686400,
    "4k": 8294400,
}
"""Area of the video resolutions, in pixels."""

IMAGE_PIXELS: dict[str, int] = {"256": 256**2, "512": 512**2, "1024": 1024**2, "2048": 2048**2, "2880": 2880**2}
"""Area of the image resolutions, in pixels."""

ASPECT_RATIO_MAP: dict[str, str] = {
    "3:8": "0.38",
    "9:21": "0.43",
    "12:25": "0.48",
    "1:2": "0.50",
    "9:17": "0.53",
    "27:50": "0.54",
    "9:16": "0.56",
    "5:8": "0.62",
    "2:3": "0.67",
    "3:4": "0.75",
    "1:1": "1.00",
    "4:3": "1.33",
    "3:2": "1.50",
    "16:9": "1.78",
    "17:9": "1.89",
    "2:1": "2.00",
    "50:27": "2.08",
}
"""Published names (HEIGHT:WIDTH) of the ratios of the video resolutions. "50:27" is 2.08, whose sizes are 25:12."""

_VIDEO_SIZES: dict[str, str] = {
    "144p": (
        "117x312 125x291 133x277 135x270 139x262 141x260 144x256 151x241 156x234 166x221 192x192 221x165 235x156 "
        "256x144 263x139 271x135 277x132"
    ),
    "240p": (
        "196x522 210x490 222x462 226x452 232x438 236x436 240x426 252x404 262x393 276x368 320x320 370x278 392x262 "
        "426x240 440x232 452x226 462x222"
    ),
    "360p": (
        "294x784 314x732 332x692 340x680 350x662 352x652 360x640 380x608 392x588 416x554 480x480 554x416 588x392 "
        "640x360 660x350 678x340 692x332"
    ),
    "480p": (
        "392x1046 420x980 444x925 452x904 466x880 470x870 480x854 506x810 522x784 554x738 640x640 740x555 784x522 "
        "854x480 880x466 906x454 924x444"
    ),
    "720p": (
        "588x1568 628x1466 666x1388 678x1356 698x1318 706x1306 720x1280 758x1212 784x1176 832x1110 960x960 1108x832 "
        "1176x784 1280x720 1320x698 1358x680 1386x666"
    ),
    "1080p": (
        "882x2352 942x2198 998x2080 1018x2036 1048x1980 1058x1958 1080x1920 1138x1820 1176x1764 1248x1664 1440x1440 "
        "1662x1246 1764x1176 1920x1080 1980x1048 2036x1018 2078x998"
    ),
    "2k": (
        "1176x3136 1256x2930 1330x2770 1358x2716 1398x2640 1412x2612 1440x2560 1518x2428 1568x2352 1662x2216 "
        "1920x1920 2218x1664 2352x1568 2560x1440 2638x1396 2716x1358 2772x1330"
    ),
    "4k": (
        "1764x4704 1886x4400 1996x4158 2036x4072 2096x3960 2118x3918 2160x3840 2276x3642 2352x3528 2494x3326 "
        "2880x2880 3326x2494 3528x2352 3840x2160 3958x2096 4072x2036 4156x1994"
    ),
}

_IMAGE_256 = (
    "0.25:128x512 0.26:128x496 0.27:128x480 0.28:128x464 0.32:144x448 0.33:144x432 0.35:144x416 0.40:160x400 "
    "0.42:160x384 0.48:176x368 0.50:176x352 0.52:176x336 0.57:192x336 0.60:192x320 0.68:208x304 0.72:208x288 "
    "0.78:224x288 0.82:224x272 0.88:240x272 0.94:240x256 1.00:256x256 1.07:256x240 1.13:272x240 1.21:272x224 "
    "1.29:288x224 1.38:288x208 1.46:304x208 1.67:320x192 1.75:336x192 2.00:352x176 2.09:368x176 2.40:384x160 "
    "2.50:400x160 2.89:416x144 3.00:432x144 3.11:448x144 3.62:464x128 3.75:480x128 3.88:496x128 4.00:512x128"
)
"""The resolutions "512", "1024" and "2048" are multiples of this one."""

_IMAGE_2880 = (
    "0.25:1408x5760 0.26:1408x5568 0.27:1408x5376 0.28:1408x5184 0.32:1600x4992 0.33:1600x4800 0.34:1600x4672 "
    "0.40:1792x4480 0.42:1792x4288 0.47:1920x4096 0.49:1920x3904 0.51:1920x3776 0.55:2112x3840 0.59:2112x3584 "
    "0.68:2304x3392 0.72:2304x3200 0.78:2496x3200 0.83:2496x3008 0.89:2688x3008 0.93:2688x2880 1.00:2880x2880 "
    "1.07:2880x2688 1.12:3008x2688 1.21:3008x2496 1.28:3200x2496 1.39:3200x2304 1.47:3392x2304 1.70:3584x2112 "
    "1.82:3840x2112 2.03:3904x1920 2.13:4096x1920 2.39:4288x1792 2.50:4480x1792 2.92:4672x1600 3.00:4800x1600 "
    "3.12:4992x1600 3.68:5184x1408 3.82:5376x1408 3.95:5568x1408 4.00:5760x1408"
)


def _size(text: str, scale: int = 1) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height) * scale, int(width) * scale


def _image_table(text: str, scale: int = 1) -> Table:
    return {ratio: _size(size, scale) for ratio, size in (entry.split(":") for entry in text.split())}


def tables() -> dict[str, tuple[int, Table]]:
    """Area and sizes of every published resolution.

    The resolutions with the suffix ``_16d`` have the same sizes rounded down to multiples of 16.
    """
    plain: dict[str, tuple[int, Table]] = {}
    for name, text in _VIDEO_SIZES.items():
        sizes = [_size(size) for size in text.split()]
        plain[name] = VIDEO_PIXELS[name], dict(zip(ASPECT_RATIO_MAP.values(), sizes, strict=True))
    for name, area in IMAGE_PIXELS.items():
        plain[name] = area, _image_table(_IMAGE_2880) if name == "2880" else _image_table(_IMAGE_256, int(name) // 256)
    rounded = {
        f"{name}_16d": (area, {ratio: (h // 16 * 16, w // 16 * 16) for ratio, (h, w) in table.items()})
        for name, (area, table) in plain.items()
    }
    return plain | rounded
