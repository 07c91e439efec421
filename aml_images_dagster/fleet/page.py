"""The fleet as one HTML file that needs nothing else: no script, font, style or picture from anywhere.

Everything can be read without its script, which only sorts and filters. Names, reasons and owners are of others: the
template escapes all of them, and the page's Content-Security-Policy lets nothing run or load but what is in the file.
Source: https://www.w3.org/TR/CSP3/.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.fleet.fleet import NAMES, STATUSES, WORST, by_severity
from aml_images_dagster.text import counted, printable_line, size_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from upath import UPath

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.fleet.fleet import Fleet, Row, Status

_FOLDER = Path(__file__).parent
_LONGEST = 200
"""Characters of a text that others have written, such as why a build failed."""
_LEAST_RANGE = 0.1
"""Of the largest size: a curve of sizes that hardly differ is nearly flat."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve of sizes, in a box of the width and height of the class.

    Attributes:
        points: Its points, as SVG has them.
        end: The last of them.
        label: What it shows, in words.
    """

    WIDTH = 72
    HEIGHT = 20
    _MARGIN = 3

    points: str
    end: tuple[float, float]
    label: str

    @classmethod
    def of(cls, sizes: Sequence[int]) -> Curve | None:
        """The curve of sizes in bytes, oldest first; None where there is nothing to compare."""
        if len(sizes) < 2:
            return None
        least, most = min(sizes), max(sizes)
        spread = max(most - least, most * _LEAST_RANGE, 1)
        middle = (least + most) / 2
        step = (cls.WIDTH - 2 * cls._MARGIN) / (len(sizes) - 1)
        places = [
            (
                round(cls._MARGIN + index * step, 1),
                round(cls.HEIGHT / 2 - (size - middle) / spread * (cls.HEIGHT - 2 * cls._MARGIN), 1),
            )
            for index, size in enumerate(sizes)
        ]
        label = f"{len(sizes)} releases, from {size_in_words(sizes[0])} to {size_in_words(sizes[-1])}"
        return cls(" ".join(f"{x},{y}" for x, y in places), places[-1], label)


def fleet_page(fleet: Fleet, *, public: bool = False) -> str:
    """The page of a fleet.

    Args:
        fleet: The fleet.
        public: Leave out what is of the team alone, see `Fleet.public`, and the time of the day.
    """
    rows = fleet.public.rows if public else fleet.rows
    counts = {status: sum(row.status == status for row in rows) for status in STATUSES}
    style, script = _asset("page.css"), _asset("page.js")
    page: str = _template().render(
        policy=_policy(style, script),
        style=style,
        script=script,
        fleet=fleet,
        rows=rows,
        counts=counts,
        shares=_shares(counts),
        icon=next((status for status in STATUSES if counts[status]), "good"),
        public=public,
        names=NAMES,
        worst=WORST,
    )
    return page


def store_page(fleet: Fleet, artifacts: Artifacts) -> UPath:
    """Keep the page, and the same for programs, in the artifacts; return where the page is."""
    folder: UPath = artifacts.root / "fleet"
    write_atomically(folder / "fleet.json", (json.dumps(fleet.document(), indent=2) + "\n").encode(), durable=False)
    page: UPath = folder / "fleet.html"
    write_atomically(page, fleet_page(fleet).encode(), durable=False)
    return page


def age_in_words(row: Row) -> str:
    """How old what production serves is, e.g. `14 days`."""
    return "" if row.age_days is None else counted(row.age_days, "day") if row.age_days else "today"


def left_in_words(row: Row) -> str:
    """How many days are left for the oldest fix that is missing."""
    patches = row.facts.patches
    if patches.days_left is None:
        return {"patched": "fully patched"}.get(patches.state, "not known")
    if patches.days_left < 0:
        return f"{counted(-patches.days_left, 'day')} late"
    return counted(patches.days_left, "day")


def found_in_words(row: Row) -> str:
    """What was found, e.g. `1 critical, 3 high`; who has not looked is no word of it."""
    patches = row.facts.patches
    if patches.asked is None:
        return "not yet scanned"
    if not row.facts.looked:
        return "nobody could look"
    found = by_severity(patches.found)
    return ", ".join(f"{count} {severity}" for severity, count in found.items()) or "none found"


def tests_in_words(row: Row) -> str:
    """Which tests what production serves has passed."""
    served = row.facts.served
    if served is None or served.passed is None:
        return "not known" if served else ""
    passed = f"{served.passed} passed" if served.passed else "not tested"
    return ", ".join((passed, *(f"none on {platform}" for platform in served.untested)))


def signed_in_words(row: Row) -> str:
    """Who has signed what production serves."""
    served = row.facts.served
    if served is None:
        return ""
    return "test key" if served.is_test_key else "signed" if served.signed_by else "not signed"


def base_in_words(row: Row) -> str:
    """Whether the bases of what production serves have changed."""
    if row.facts.served is None:
        return ""
    return {"behind": "changed", "none": "no base", "unknown": "not known"}.get(
        row.facts.base.state, row.facts.base.state
    )


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _shares(counts: Mapping[Status, int]) -> list[tuple[Status, float, float]]:
    """Where the part of each status begins, and how wide it is, in percent of all."""
    total, begin, shares = sum(counts.values()), 0.0, []
    for status, count in counts.items():
        if count:
            width = 100 * count / total
            shares.append((status, round(begin, 3), round(width, 3)))
            begin += width
    return shares


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _day(value: date, now: date | None = None) -> str:
    """A day, without the year if it is that of now."""
    return f"{value.day} {value:%b}" if now and value.year == now.year else f"{value.day} {value:%b %Y}"


def _moment(value: datetime) -> str:
    return f"{_day(value)}, {value:%H:%M} UTC"


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # What is Markup is of ours.
        finalize=lambda value: printable_line(value) if type(value) is str else value,
    )
    environment.filters |= {
        "age": age_in_words,
        "base": base_in_words,
        "by_severity": by_severity,
        "curve": Curve.of,
        "day": _day,
        "found": found_in_words,
        "left": left_in_words,
        "moment": _moment,
        "shortened": _shortened,
        "signed": signed_in_words,
        "size": size_in_words,
        "tests": tests_in_words,
    }
    return environment.get_template("page.html")
