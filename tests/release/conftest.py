"""A build of two images that has passed, as the release files describe it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aml_images_dagster.build.records import BaseImage
from aml_images_dagster.release.release_json import ReleaseImage, ReleaseJson, StagedReference, TestEntry

BUILD = "20261123.4f2a9c1e"
TAG = "20261123.v1"


def release_image(family: str, name: str, digit: str) -> ReleaseImage:
    return ReleaseImage(
        name=name,
        family=family,
        os="linux",
        reasons=("modified: Dockerfile",),
        staging=StagedReference(reference=f"staging.example/{family}:{name}--{BUILD}", digest=f"sha256:{digit * 64}"),
        destinations=(f"public/azureml/{name}:{TAG}", f"public/azureml/{name}:latest"),
        content_key="c" * 64,
        bases=(BaseImage(reference="debian:12", digest=f"sha256:{'d' * 64}"),),
        tests=(TestEntry(scenario="single-node", job="job-1", status="passed", seconds=1.5),),
        size_bytes=123,
    )


@pytest.fixture
def release() -> ReleaseJson:
    return ReleaseJson(
        build=BUILD,
        commit="abc",
        source="https://git.example/images",
        created=datetime(2026, 11, 23, 12, tzinfo=UTC),
        release_tag=TAG,
        images=(release_image("base", "debian12", "1"), release_image("base-gpu", "cuda13", "2")),
    )
