"""SBOMs: the same bytes each time, and programs that are not ours accept them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from aml_images_dagster.catalog.image_file import Content
from aml_images_dagster.licences import all_of, expression
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.trust.inventory import Inventory, Unowned, read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.trust.packages import Package
from aml_images_dagster.trust.sbom import LICENCE_TEXTS, licence_texts, sbom
from tests.trust.test_inventory import ALPINE, DEP5, FEDORA, RPM_DATABASE, UBUNTU, conda, deb, dist_info

if TYPE_CHECKING:
    from tests.trust.images import MemoryRegistry

FORMATS = ["spdx", "cyclonedx"]
ARCHITECTURES = {"amd64": "1", "arm64": "2"}
"""Each with the version of the package that it has."""
CONTENTS = [Content(name="OpenBLAS", version="0.3.29", licence="BSD-3-Clause", reason="inside of numpy")]
IMAGES = {
    "ubuntu": {"etc/os-release": UBUNTU, "var/lib/dpkg/status": deb("curl", "8"), "usr/share/doc/curl/copyright": DEP5},
    "alpine": {"etc/os-release": ALPINE, "lib/apk/db/installed": "P:musl\nV:1.2-r0\nA:x86_64\nL:MIT\n\n"},
    "fedora": {"etc/os-release": FEDORA, "var/lib/rpm/rpmdb.sqlite": RPM_DATABASE},
    "conda": conda("numpy", "1.26.4") | {"opt/tool/x": "", "opt/conda-meta/broken.json": "{"},
    "python": dist_info("Some.Name", "1", "License: BSD", "Home-page: not an address", "Author: A <a@example.org>"),
    "empty": {},
}
EMPTY = Inventory(
    digest=f"sha256:{'a' * 64}",
    platform="linux/amd64",
    created=datetime(2026, 11, 26, tzinfo=UTC),
    distribution={},
    packages=(),
    files=0,
    unowned=(),
    unowned_files=0,
    unread=(),
)
LAYER = {
    "var/lib/dpkg/status": deb("bash", "5.2") + deb("dash", "0.5"),
    "usr/share/doc/bash/copyright": "GNU\xa0terms\n",
    "usr/share/doc/dash/copyright": "other terms\n",
}


def faults_of(inventory: Inventory) -> list[str]:
    """What the formats' own validators have against the SBOMs of an inventory."""
    document = JsonLikeDictParser().parse(json.loads(sbom(inventory, "framework/image", "spdx")))
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(
        sbom(inventory, "framework/image", "cyclonedx").decode()
    )
    faults = [message.validation_message for message in validate_full_spdx_document(document)]
    return faults + ([str(wrong)] if wrong else [])


@pytest.mark.parametrize("name", IMAGES)
def test_validators_of_both_formats_accept_it(read, name):
    assert faults_of(read(IMAGES[name], contents=CONTENTS)) == []


def test_the_program_of_spdx_accepts_it(read, tmp_path):
    written = tmp_path / "sbom.spdx.json"
    written.write_bytes(sbom(read(*IMAGES.values(), contents=CONTENTS), "framework/image", "spdx"))
    program = Path(sys.executable).with_name("pyspdxtools")
    done = subprocess.run([program, "-i", written], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_image_gives_the_same_bytes(read, form):
    layers = list(IMAGES.values())
    assert sbom(read(*layers), "framework/image", form) == sbom(read(*layers), "framework/image", form)


def test_spdx_says_what_is_in_the_image(read):
    document = json.loads(sbom(read(IMAGES["ubuntu"], contents=CONTENTS), "framework/image", "spdx"))
    packages = {package["name"]: package for package in document["packages"]}
    assert set(packages) == {"framework/image", "ubuntu", "curl", "OpenBLAS"}
    assert document["creationInfo"]["created"] == "2026-11-26T06:23:06Z"
    assert packages["curl"]["licenseDeclared"] == "((GPL-2.0-or-later OR Artistic-1.0-Perl) AND MIT) AND curl"
    assert (
        packages["curl"]["externalRefs"][0]["referenceLocator"]
        == "pkg:deb/ubuntu/curl@8?arch=amd64&distro=ubuntu-24.04"
    )
    assert packages["curl"]["sourceInfo"] == "told by /var/lib/dpkg/status; licence from: copyright file"
    assert packages["OpenBLAS"]["sourceInfo"] == "declared in image.json"
    assert packages["OpenBLAS"]["comment"] == "inside of numpy"
    assert {relation["relationshipType"] for relation in document["relationships"]} == {"DESCRIBES", "CONTAINS"}


def test_a_licence_that_spdx_does_not_list_is_described(read):
    document = json.loads(sbom(read(IMAGES["python"]), "framework/image", "spdx"))
    assert [licence["licenseId"] for licence in document["hasExtractedLicensingInfos"]] == ["LicenseRef-BSD"]


def test_cyclonedx_says_what_is_in_the_image(read):
    document = json.loads(sbom(read(IMAGES["conda"]), "framework/image", "cyclonedx"))
    image = document["metadata"]["component"]
    assert [remark["value"] for remark in image["properties"]] == [
        "2 files of no package: /opt/conda-meta/, /opt/tool/",
        "not read: opt/conda-meta/broken.json: not valid JSON",
        "platform linux/amd64",
    ]
    (numpy,) = document["components"]
    assert numpy["purl"] == "pkg:conda/numpy@1.26.4?build=0"
    assert numpy["licenses"] == [{"acknowledgement": "declared", "expression": "BSD-3-Clause"}]
    dependencies = {entry["ref"]: entry.get("dependsOn", []) for entry in document["dependencies"]}
    assert dependencies[image["bom-ref"]] == [numpy["bom-ref"]]


def test_each_platform_of_an_image_has_an_sbom_of_its_own(registry, records):
    pushed = {
        arch: registry.push(dist_info("a", version), architecture=arch) for arch, version in ARCHITECTURES.items()
    }
    entries = [
        {"digest": image.digest, "size": 1, "platform": {"os": "linux", "architecture": architecture}}
        for architecture, image in pushed.items()
    ]
    images = images_of(registry, registry.push_index(*entries))
    assert [*images] == ["linux/amd64", "linux/arm64"]
    for image, version in zip(images.values(), ARCHITECTURES.values(), strict=True):
        inventory = read_inventory(registry, image, records)
        assert faults_of(inventory) == []
        spdx = json.loads(sbom(inventory, "framework/image", "spdx"))
        assert {package["versionInfo"] for package in spdx["packages"] if package["name"] == "a"} == {version}
        assert image.digest.removeprefix("sha256:") in json.dumps(spdx)


def test_what_is_declared_makes_it_another_document(read):
    documents = [json.loads(sbom(read({}, contents=each), "image", "spdx")) for each in ((), CONTENTS)]
    first, second = (document["documentNamespace"] for document in documents)
    assert first != second


def test_addresses_of_people_are_not_in_it(read):
    inventory = read(IMAGES["python"], IMAGES["fedora"])
    assert all(b"@example.org" not in sbom(inventory, "image", form) for form in FORMATS)
    assert all(b"@widget.example" not in sbom(inventory, "image", form) for form in FORMATS)


TEXTS = st.text(max_size=30)


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    st.lists(
        st.builds(
            Package,
            type=st.sampled_from(["deb", "rpm", "apk", "pypi", "conda", "generic"]),
            name=st.text(min_size=1, max_size=20).filter(lambda name: name.strip().strip("/").strip() != ""),
            version=st.text(min_size=1, max_size=20),
            architecture=TEXTS,
            source=TEXTS,
            licence=st.lists(TEXTS.map(expression), max_size=3).map(all_of),
            licence_origin=st.sampled_from(["", "package"]),
            location=TEXTS,
            homepage=st.one_of(TEXTS, TEXTS.map("https://{}".format)),
            supplier=TEXTS,
            comment=TEXTS,
        ),
        max_size=4,
    ),
    st.lists(TEXTS, max_size=2),
)
def test_whatever_packages_call_themselves_the_sboms_are_valid(packages, unread):
    unowned = tuple(Unowned(text, 1) for text in unread)
    distribution = {"ID": packages[0].name, "VERSION_ID": packages[0].version} if packages else {}
    assert (
        faults_of(
            replace(
                EMPTY,
                packages=tuple(dict.fromkeys(packages)),
                unowned=unowned,
                unowned_files=len(unowned),
                unread=tuple(unread),
                distribution=distribution,
            )
        )
        == []
    )


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
