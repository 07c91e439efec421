"""The texts of licences as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.trust.licence_texts import LICENCE_TEXTS, licence_texts
from tests.trust.test_inventory import deb

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trust.images import MemoryRegistry

LAYER = {
    "var/lib/dpkg/status": deb("bash", "5.2") + deb("dash", "0.5"),
    "usr/share/doc/bash/copyright": "GNU\xa0terms\n",
    "usr/share/doc/dash/copyright": "other terms\n",
}


def test_every_text_stands_below_its_packages_and_the_same_image_gives_the_same_bytes(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    image = registry.push(LAYER)
    first, second = (
        licence_texts(read_inventory(registry, image, LayerRecords(tmp_path / name), with_texts=True), "base/a")  # type: ignore[arg-type]
        for name in ("one", "other")
    )
    assert first is not None
    assert first == second
    assert (first.artifact_type, first.media_type) == (LICENCE_TEXTS, "text/plain; charset=utf-8")
    lines = first.content.decode().splitlines()
    assert lines[0] == "LICENCE TEXTS: base/a"
    rule = "-" * 100
    start = lines.index(rule)
    assert lines[start:] == [
        rule,
        "deb bash 5.2",
        rule,
        "",
        "GNU\xa0terms",
        "",
        rule,
        "deb dash 0.5",
        rule,
        "",
        "other terms",
    ]


def test_an_image_without_texts_has_no_such_evidence(registry: MemoryRegistry, tmp_path: Path) -> None:
    inventory = read_inventory(registry, registry.push({"a": "b"}), LayerRecords(tmp_path), with_texts=True)  # type: ignore[arg-type]
    assert licence_texts(inventory, "base/a") is None
