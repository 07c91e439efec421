"""The page is one file that needs nothing else, runs nothing of others, and can be read by everybody."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import aml_images_dagster.fleet as package
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.fleet.fleet import BaseState
from aml_images_dagster.fleet.page import Curve, fleet_page
from aml_images_dagster.open_source.leak_check import LeakRules, check_for_leaks
from aml_images_dagster.open_source.public_part import PublicFile
from aml_images_dagster.settings.open_source import OpenSourceSettings
from tests.fleet import fleets
from tests.hostile_text import HOSTILE, active_in

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"
CSS = (Path(package.__file__).parent / "page.css").read_text("utf-8")
VOID = {"br", "col", "img", "input", "link", "meta", "wbr"}


class Reader(HTMLParser):
    """Elements of a page, with their attributes, and its text; what is opened must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.open: list[str] = []
        self.inline: dict[str, str] = {}
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.inline[self.open[-1]] = self.inline.get(self.open[-1], "") + data
        else:
            self.text += data


def page_of(*images: fleets.FleetImage, **options: Any) -> str:
    return fleet_page(fleets.fleet(images), **options)


@pytest.mark.parametrize("number", [0, 1, 12, 1000])
def test_it_is_well_formed_at_any_size(number: int) -> None:
    read = Reader(page_of(*fleets.of_size(number)))
    assert [tag for tag, _ in read.elements].count("tr") == (number + 1 if number else 0)


def test_it_says_all_of_an_image() -> None:
    text = Reader(page_of(*fleets.of_each_kind())).text
    for said in (
        "openmpi4.1-debian12",
        "Action needed",
        "patch 6 days late",
        "20261010.v1",
        "11 Oct",
        "47 days",
        "6 days late",
        "1 critical",
        "by updates, trivy",
        "openssl (CVE-2026-10231)",
        "docker.io/nvidia/cuda:13.0-devel-ubuntu24.04",
        "20261124.81b0c7d2",
        "is now sha256:5f9a1c0b7e2d",
        "3 passed",
        "not tested",
        "831 MB",
        "6.12 GB",
        "15 Dec 2026",
        "test key",
        "not yet scanned",
        "trivy has not looked: there is no trivy on PATH",
    ):
        assert said in text


def test_a_build_whose_image_was_withdrawn_is_called_so() -> None:
    withdrawn = fleets.image("base/b", last_build=fleets.last_build(is_withdrawn=True))
    assert "succeeded, withdrawn" in Reader(page_of(withdrawn)).text


@pytest.mark.parametrize("text", [ATTACK, HOSTILE])
def test_what_others_have_written_stays_text(text: str) -> None:
    hostile = fleets.image(
        f"base/{text}",
        served=fleets.served(tag=text, signed_by=text, untested=(text,)),
        patches=fleets.patches(31, missing=(fleets.vulnerability(text, 31, text),), not_looked={text: text}),
        looked=(text,),
        base=BaseState("behind", text),
        last_build=fleets.last_build(why=text),
        owners=(text,),
        unknown=text,
    )
    page = page_of(hostile, fleets.image("base/b", last_build=fleets.last_build(0, "failed", failure=text)))
    assert active_in(page) == set()
    read = Reader(page)
    plain = Reader(page_of(fleets.image("base/a"), fleets.image("base/b")))
    kinds = {tag for tag, _ in read.elements}
    assert kinds - {tag for tag, _ in plain.elements} <= {"rect"}
    assert [tag for tag, _ in read.elements].count("script") == 1
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]


def test_nothing_is_loaded_from_elsewhere_or_styled_in_place() -> None:
    read = Reader(page_of(*fleets.of_each_kind()))
    addresses = [
        attributes[name]
        for _, attributes in read.elements
        for name in ("src", "href", "action", "data", "poster", "srcset")
        if name in attributes
    ]
    assert {address[:5] for address in addresses} <= {"data:", "#imag", "#act", "#watc", "#good", "#unre"}
    assert not [attributes for _, attributes in read.elements if "style" in attributes]
    assert "@import" not in CSS
    assert "url(" not in CSS


def test_the_policy_allows_the_style_and_the_script_of_the_page_and_no_others() -> None:
    read = Reader(page_of(*fleets.of_each_kind()))
    (policy,) = [a["content"] for _, a in read.elements if a.get("http-equiv") == "Content-Security-Policy"]

    def hash_of(text: str) -> str:
        return b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{hash_of(read.inline['style'])}'",
        f"script-src 'sha256-{hash_of(read.inline['script'])}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_the_public_page_is_the_same_all_day_and_says_nothing_of_the_team() -> None:
    page = page_of(*fleets.of_each_kind(), public=True)
    later = replace(fleets.fleet(fleets.of_each_kind()), when=fleets.NOW + timedelta(hours=9))
    assert fleet_page(later, public=True) == page
    for private in ("contoso.com", "team:", "Last build", "Owner", "81b0c7d2", "NCCL", "framework/jax"):
        assert private not in Reader(page).text
    assert "patch 6 days late" in page


def test_the_leak_check_takes_nothing_of_the_page_itself_for_a_secret() -> None:
    page = PublicFile(FileMode.REGULAR, page_of(*fleets.of_each_kind(), public=True).encode())
    names = tuple(re.compile(pattern, re.IGNORECASE) for pattern in OpenSourceSettings().internal_name_patterns)
    assert check_for_leaks({"fleet.html": page}, LeakRules(names, frozenset(), {}, ())) == []


def test_a_curve_of_sizes_that_hardly_differ_is_nearly_flat() -> None:
    flat, steep = Curve.of((1000, 1001, 1000)), Curve.of((1000, 2000))
    assert flat
    assert steep
    heights = [float(point.partition(",")[2]) for point in flat.points.split()]
    assert max(heights) - min(heights) < 1
    assert steep.points == "3.0,17.0 69.0,3.0"
    assert steep.label == "2 releases, from 1.0 kB to 2.0 kB"
    assert Curve.of((1000,)) is None


# Contrast by WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
TEXTS = [
    ("text", "page"),
    ("text", "surface"),
    ("muted", "page"),
    ("muted", "surface"),
    *((tone, "surface") for tone in ("act", "watch", "good")),
    *((tone, f"{tone}-soft") for tone in ("act", "watch", "good")),
    *(("text", f"{tone}-soft") for tone in ("act", "watch", "good", "none")),
]
SHAPES = [
    *((f"{tone}-fill", ground) for tone in ("act", "watch", "good") for ground in ("surface", "page")),
    *(("mark", f"{tone}-fill") for tone in ("act", "watch", "good")),
    ("none", "surface"),
    ("edge", "surface"),
    ("edge", "page"),
    ("focus", "surface"),
    ("focus", "page"),
]


def palette(scheme: str) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    light = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[0]))
    return light if scheme == "light" else light | dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[1]))


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("front", "ground", "least"), [*((*pair, 4.5) for pair in TEXTS), *((*pair, 3.0) for pair in SHAPES)]
)
def test_colours_have_the_contrast_of_wcag_aa(scheme: str, front: str, ground: str, least: float) -> None:
    colours = palette(scheme)
    assert contrast(colours[front], colours[ground]) >= least
