"""Elements of SVG as markup in which every text and every attribute is escaped."""

from __future__ import annotations

from markupsafe import Markup, escape


def element(name: str, *content: str | Markup, **attributes: object) -> Markup:
    """An element: `element("circle", element("title", text), cx=3.5, class_="seed")`.

    Content that is no Markup is text. Of the name of an attribute "_" at the end is dropped, and others become "-".
    """
    named = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _text(value)) for key, value in attributes.items()
    )
    inside = Markup("").join(map(escape, content))
    return Markup("<{0}{1}>{2}</{0}>").format(name, named, inside)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
