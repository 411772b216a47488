"""Small pictures on buttons; the button's label says what they mean."""


def _icon(path: str, fill: str = "none") -> str:
    return (
        f"<svg viewBox='0 0 24 24' width='18' height='18' fill='{fill}' stroke='currentColor' stroke-width='1.8' "
        f"stroke-linecap='round' stroke-linejoin='round' aria-hidden='true'><path d='{path}'/></svg>"
    )


ICONS = {
    "pin": _icon("M9 4h6l-1 6 3 3v2H7v-2l3-3zM12 15v6"),
    "unpin": _icon("M9 4h6l-1 6 3 3v2H7v-2l3-3zM12 15v6", "currentColor"),
    "compare": _icon("M4 6h7v12H4zM13 6h7v12h-7z"),
    "download": _icon("M12 4v11M7 11l5 5 5-5M5 20h14"),
    "delete": _icon("M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13"),
    "show": _icon("M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z"),
    "pause": _icon("M8 5v14M16 5v14"),
    "resume": _icon("M7 5l12 7-12 7z"),
    "up": _icon("M12 19V5M6 11l6-6 6 6"),
    "down": _icon("M12 5v14M6 13l6 6 6-6"),
    "edit": _icon("M4 20h4L19 9l-4-4L4 16z"),
    "duplicate": _icon("M9 9h11v11H9zM15 9V4H4v11h5"),
    "remove": _icon("M6 6l12 12M18 6L6 18"),
}
"""By what the button does."""
