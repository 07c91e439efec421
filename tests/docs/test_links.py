"""Every relative link of every Markdown file of the project leads somewhere, headings included."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
)
PAGES = sorted(LISTED.stdout.splitlines())

LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)|<(?:img|a)\s[^>]*(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def prose(page: str) -> str:
    """The text without code: fences, inline, and lines that four spaces make code."""
    text = (ROOT / page).read_text("utf-8")
    fences = re.compile(r"^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL)
    lines = fences.sub("", text).splitlines()
    kept = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if not (line.startswith("    ") and (not before.strip() or before.startswith("    ")))
    ]
    return re.sub(r"`[^`\n]*`", "", "\n".join(kept))


def links(page: str) -> list[str]:
    found = [image or tag for image, tag in LINK.findall(prose(page))]
    return [link for link in found if not re.match(r"[a-z][a-z+.-]*:", link)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives headings; Azure Repos' differ in rare characters only."""
    text = re.sub(r"^(```+|~~~+).*?^\1", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    seen: Counter[str] = Counter()
    found = set()
    for heading in HEADING.findall(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    dead = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "base_images/devREADME.md"} <= set(PAGES)
    assert any(links(page) for page in PAGES)
