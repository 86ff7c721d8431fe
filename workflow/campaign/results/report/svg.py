"""Figures inside the page: SVG files made safe to stand side by side in one HTML document."""

from __future__ import annotations

import base64
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from markupsafe import Markup

from bnn.errors import UserError
from campaign.results.report.series import Points, attach

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
ASKED = {"data-point", "data-entry"}
TEXT, TSPAN = f"{{{SVG}}}text", f"{{{SVG}}}tspan"
NO_TURN = re.compile(r"rotate\(-?0(\.0*)?[ ,)]")
URL = re.compile(r"url\(\s*['\"]?#([^)'\"]+)['\"]?\s*\)")


LARGEST = 1_000_000  # bytes of an image in the page
# Numbers of these attributes are rounded: a hundredth of a point is less than any screen or printer shows.
GEOMETRY = frozenset({"d", "x", "y", "x1", "x2", "y1", "y2", "points", "width", "height"})
LONG = re.compile(r"-?\d+\.\d{3,}(?![\d.]*e)")


def embedded_figure(path: Path, name: str, label: str, points: Points | None = None) -> Markup:
    """The figure as the page has it: its SVG image; of one that is too large its PNG image and a link to the SVG file.

    A PNG image has neither series nor points to be asked for. Raises UserError as `inline_svg` does.
    """
    if path.stat().st_size <= LARGEST:
        return inline_svg(path, name, label, points)
    size, png = path.stat().st_size / 1e6, path.with_suffix(".png")
    words = f"The drawing has {size:.1f} MB, too much for this page"
    link = Markup('<p class="note">{}: <a href="figures/{}">figures/{}</a>.</p>').format(words, path.name, path.name)
    if not png.exists() or png.stat().st_size > LARGEST:
        return link
    data = base64.b64encode(png.read_bytes()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, label) + link


def inline_svg(path: Path, name: str, label: str, points: Points | None = None) -> Markup:
    """An <svg> element whose ids all start with `name`, scaled to its container, described by `label`.

    `points`: the tables' rows behind what is drawn; without them no series and no point is told from others.

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
    if points is not None:
        attach(root, points)
    _slim(root)
    for element in root.iter():
        _namespace(element, name)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    width = float(root.attrib.get("viewBox", "0 0 520 0").split()[2])
    # one scale for all figures, so that their letters are of one size (the page's own style lets them shrink)
    shown = f"{width * PIXELS_PER_POINT:.0f}"
    # an image has no parts to be reached; one with points or entries to be switched is a group of them
    asked = any(ASKED & element.attrib.keys() for element in root.iter())
    role = "group" if asked else "img"
    root.attrib |= {"role": role, "aria-label": label, "id": f"{name}-svg", "width": shown}
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704


def _slim(root: ET.Element) -> None:
    """Leave out what changes nothing that is seen: ids that nothing names, turns by nothing, space, the usual font."""
    named = {found for element in root.iter() for value in element.attrib.values() for found in _names(value)}
    fonts = Counter(font for element in root.iter(TEXT) if (font := element.get("font-family")))
    usual = fonts.most_common(1)[0][0] if fonts else ""
    for element in root.iter():
        if element.get("id") not in named:
            element.attrib.pop("id", None)
        if element.tag == TEXT and element.get("font-family") == usual:
            del element.attrib["font-family"]
        if NO_TURN.match(element.get("transform", "")):
            del element.attrib["transform"]
        if "d" in element.attrib:
            element.set("d", " ".join(element.attrib["d"].split()))
        if element.tag not in (TEXT, TSPAN) and not (element.text or "").strip():
            element.text = None
        if element.tag != TSPAN and not (element.tail or "").strip():
            element.tail = None
    if usual:
        root.set("font-family", usual)


def _names(value: str) -> list[str]:
    """The ids that an attribute's value names."""
    return [value[1:]] if value.startswith("#") else URL.findall(value)


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
        elif local in GEOMETRY or (local == "transform" and value.startswith("translate(")):
            element.set(key, LONG.sub(lambda found: f"{float(found[0]):.2f}", value))
        elif local.startswith("data-"):
            continue
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
