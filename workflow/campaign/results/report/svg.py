"""Figures inside the page: SVG files made safe to stand side by side in one HTML document."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from markupsafe import Markup

from bnn.errors import UserError

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
DROPPED = {f"{{{SVG}}}{name}" for name in ("metadata", "script", "foreignObject", "title")}
STYLE = f"{{{SVG}}}style"
EVERYTHING = re.compile(r"^\s*\*\s*\{([^{}]*)\}\s*$")  # the only rule that matplotlib writes
# Properties of CSS that are attributes of SVG, too ("presentation attributes" of SVG 2): the page allows no style but
# its own.
ATTRIBUTES = frozenset({
    "clip-path", "clip-rule", "color", "direction", "display", "dominant-baseline", "fill", "fill-opacity", "fill-rule",
    "filter", "font-family", "font-size", "font-stretch", "font-style", "font-variant", "font-weight",
    "letter-spacing", "marker-end", "marker-mid", "marker-start", "mask", "opacity", "overflow", "shape-rendering",
    "stop-color", "stop-opacity", "stroke", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap",
    "stroke-linejoin", "stroke-miterlimit", "stroke-opacity", "stroke-width", "text-anchor", "text-decoration",
    "text-rendering", "visibility", "word-spacing",
})  # fmt: skip
PIXELS_PER_POINT = 1.65
URL = re.compile(r"url\(\s*['\"]?#([^)'\"]+)['\"]?\s*\)")


def inline_svg(path: Path, name: str, label: str) -> Markup:
    """An <svg> element whose ids all start with `name`, scaled to its container, described by `label`.

    Scripts, event handlers, metadata and links to anything but its own parts are left out. Styles become attributes:
    the page's security policy allows none in elements. Raises UserError naming a file that is not an SVG image, or has
    a style that no attribute can stand for.
    """
    root = _root(path)
    _unstyle(root, path)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in DROPPED:
                parent.remove(child)
    for element in root.iter():
        _namespace(element, name)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    width = float(root.attrib.get("viewBox", "0 0 520 0").split()[2])
    # one scale for all figures, so that their letters are of one size (the page's own style lets them shrink)
    shown = f"{width * PIXELS_PER_POINT:.0f}"
    root.attrib |= {"role": "img", "aria-label": label, "id": f"{name}-svg", "width": shown}
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704


def notice_words(path: Path) -> str:
    """The reason that a notice (campaign.results.figures.style.notice) gives.

    Raises UserError naming a file without one.
    """
    lines = [" ".join("".join(text.itertext()).split()) for text in _root(path).iter(f"{{{SVG}}}text")]
    words = "".join(line if line.endswith("-") else f"{line} " for line in lines)  # lines are also broken at hyphens
    _, found, reason = words.strip().partition("Not drawn: ")
    if not found:
        raise UserError(f"{path}: says that it is not drawn, but not why")
    return reason.removesuffix(".")


def _root(path: Path) -> ET.Element:
    """The file's <svg> element. Raises UserError naming a file that is not an SVG image."""
    try:
        root = ET.parse(path).getroot()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ET.ParseError as error:
        raise UserError(f"{path}: not an SVG image ({error})") from None
    if root.tag != f"{{{SVG}}}svg":
        raise UserError(f"{path}: not an SVG image")
    return root


def _namespace(element: ET.Element, name: str) -> None:
    for key, value in list(element.attrib.items()):
        local = key.rsplit("}", 1)[-1]
        if local == "id":
            element.set(key, f"{name}-{value}")
        elif local == "href":
            if value.startswith("#"):
                element.set(key, f"#{name}-{value[1:]}")
            else:
                del element.attrib[key]
        elif local.lower().startswith("on"):
            del element.attrib[key]
        else:
            element.set(key, URL.sub(rf"url(#{name}-\1)", value))


def _unstyle(root: ET.Element, path: Path) -> None:
    """Styles of elements as their attributes, and what a rule says of everything as the image's: it is inherited."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == STYLE:
                parent.remove(child)
                rule = EVERYTHING.match(child.text or "")
                if rule is None:
                    raise UserError(f"{path}: a style sheet of its own: the report allows none")
                root.attrib |= _attributes(rule[1], path)
    for element in root.iter():
        if (style := element.attrib.pop("style", None)) is not None:
            element.attrib |= _attributes(style, path)


def _attributes(style: str, path: Path) -> dict[str, str]:
    """Declarations of CSS as attributes."""
    pairs = [part.partition(":") for part in style.split(";") if part.strip()]
    found = {name.strip(): value.strip() for name, _, value in pairs}
    if unknown := sorted(found.keys() - ATTRIBUTES):
        raise UserError(f"{path}: style {unknown[0]}: no attribute of SVG stands for it")
    return found
