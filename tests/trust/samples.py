"""Evidence as builds have it."""

from __future__ import annotations

from datetime import UTC, datetime

from aml_images_dagster.trust.referrers import Artifact
from aml_images_dagster.trust.statements import Dependency, ImageBuild, TestRun, provenance, results_of_tests

SBOM = Artifact("application/spdx+json", b'{"spdxVersion": "SPDX-2.3"}')
IMAGE = "openmpi/openmpi4.1-debian12"


def image_build(digest: str, **fields) -> ImageBuild:
    of = {
        "image": IMAGE,
        "digest": digest,
        "platform": "linux/amd64",
        "source": "https://git.example/images.git",
        "commit": "3f" * 20,
        "content_key": "ab" * 32,
        "dockerfile": "cd" * 32,
        "dependencies": (
            Dependency("debian:12", f"sha256:{'1' * 64}"),
            Dependency("mcr.example/azureml/base:latest", f"sha256:{'2' * 64}", "tools/base"),
        ),
        "reasons": ("base debian:12 moved",),
        "build": "20261126.1a2b3c4d",
        "run": "1a2b3c4d-0000-4000-8000-000000000000",
        "trigger": "command line",
        "release_tag": "20261126.v1",
        "builder_id": "https://contoso.example/images",
        "version": "0.1.0",
        "started": datetime(2026, 11, 26, 7, tzinfo=UTC),
        "finished": datetime(2026, 11, 26, 8, tzinfo=UTC),
    }
    return ImageBuild(**(of | fields))


def statements(digest: str) -> list[dict]:
    runs = (TestRun("hello", passed=True, where="containers", tested_in="20261126.1a2b3c4d"),)
    return [provenance(image_build(digest)), results_of_tests(IMAGE, digest, runs)]
