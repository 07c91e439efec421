"""docs/operate.md tells of every event and every metric."""

from __future__ import annotations

import re
import typing
from pathlib import Path

from aml_images_dagster.catalog.validated_file import read_model_file
from aml_images_dagster.notifications.rules import Kind, NotificationRules

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aml_images_dagster"
PAGE = (ROOT / "docs" / "operate.md").read_text("utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_event_of_notifications_has_its_row() -> None:
    cells = re.findall(r"^\| (`.*?) \|", section("Notifications"), re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(typing.get_args(Kind))


def test_every_metric_has_its_row() -> None:
    sources = [path.read_text("utf-8") for path in PACKAGE.rglob("*.py")]
    made = {name for text in sources for name in re.findall(r'^ +"(aml_images_\w+)",?', text, re.MULTILINE)}
    made |= {name for text in sources for name in re.findall(r'Family\(\s*"(aml_images_\w+)"', text)}
    rows = set(re.findall(r"^\| `(aml_images_\w+)` \|", section("Metrics"), re.MULTILINE))
    assert {name.removesuffix("_total") for name in rows} == made


def test_the_rules_of_the_page_are_right() -> None:
    text = re.findall(r"```yaml\n(.*?)```", section("Notifications"), re.DOTALL)[0]
    rules, findings = read_model_file(NotificationRules, text.encode(), "notifications.yaml")
    assert findings == ()
    assert rules is not None
    assert rules.channels == ("mail", "operators", "frameworks_chat")
