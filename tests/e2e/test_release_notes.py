"""Two real releases of an image of Debian, the second with the updates of its archive, and the notes about them.

What apt installs, and what it says of vulnerabilities, is what Debian's mirrors serve today.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.open_source.conftest import public as public  # a fixture

if TYPE_CHECKING:
    from tests.image_repository import ImageRepository
    from tests.open_source.conftest import BareRepository

pytestmark = [pytest.mark.engine, pytest.mark.e2e]

AS_FIRST_RELEASED = """\
FROM debian:12
COPY python /usr/bin/python
# As the release of Debian came out: without what its security archive has fixed since.
RUN printf 'Package: *\\nPin: release n=bookworm\\nPin-Priority: 1001\\n' > /etc/apt/preferences.d/release \\
    && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get dist-upgrade --yes --allow-downgrades \\
    && rm -r /etc/apt/preferences.d/release /var/lib/apt/lists/*
"""
UPDATES = """\
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get upgrade --yes && rm -r /var/lib/apt/lists/*
"""
CVE = re.compile(r"CVE-\d{4}-\d{4,}")


def _release(repository: ImageRepository, image: str, tag: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build and release; the dry run of the release, and the release."""
    built = repository.json("build", image, "--release-tag", tag)
    assert built["status"] == "succeeded"
    planned = repository.json("release", built["build"], "--dry-run")
    return planned, repository.json("release", built["build"])


def test_the_second_release_names_what_its_updates_fix(repository: ImageRepository, public: BareRepository) -> None:
    image = repository.image("apps/other")
    dockerfile = repository.folder("apps/other") / "Dockerfile"
    repository.write(dockerfile, AS_FIRST_RELEASED)
    repository.commit("as Debian was released")
    first, _ = _release(repository, image, "20261118.v1")
    assert first["differences"] == {}
    with dockerfile.open("a") as file:
        file.write(UPDATES)
    repository.commit("with updates")

    planned, released = _release(repository, image, "20261125.v1")

    found = planned["differences"][image]
    fixed = found["vulnerabilities"]["fixed"]
    changed = {each["name"]: each for each in found["platforms"][0]["packages"]}
    assert found["vulnerabilities"]["compared"] == ["updates"]
    assert fixed
    assert {each["package"] for each in fixed} <= changed.keys()
    for each in fixed:
        assert each["installed"] in changed[each["package"]]["before"]
        assert each["fixed_since"]
    notes = Path(released["release_notes"]).read_text()
    print(notes)
    identifiers = {each["id"] for each in fixed if CVE.fullmatch(each["id"])}
    assert identifiers
    assert identifiers <= set(CVE.findall(notes))
    assert "Changes since `20261118.v1`:" in notes
    assert "Vulnerability sources: updates." in notes
    assert "No known vulnerability is left." in notes, "every update is in it"

    proposed = repository.run("publish-source", repository.image("tools/shell"))
    assert proposed.returncode == 0, proposed.stderr
    path = f"release-notes/{image}.md"
    published = public.read("aml-images/sync", path)
    assert identifiers <= set(CVE.findall(published))
    assert re.findall(r"^## (\S+)", published, re.MULTILINE) == ["20261125.v1", "20261118.v1"]
    row = f"| `registry.example/other` | Debian 12 |  | `20261125.v1`, `latest` ([release notes]({path})) |"
    assert row in public.read("aml-images/sync", "README.md")

    repository.json("withdraw", image, "20261118.v1", "--reason", "its OpenSSL is old")
    assert repository.run("publish-source", repository.image("tools/shell")).returncode == 0
    published = public.read("aml-images/sync", path)
    assert "20261118.v1" not in published
    assert "Changes since the last release:" in published
