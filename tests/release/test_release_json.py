"""release.json, key by key as the contract has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from aml_images_dagster.release.drop import release_bytes
from aml_images_dagster.release.release_json import ReleaseJson

if TYPE_CHECKING:
    from typing import Any


def test_the_contract(release: ReleaseJson) -> None:
    document: dict[str, Any] = json.loads(release_bytes(release))
    assert list(document) == ["version", "build", "commit", "source", "created", "release_tag", "images"]
    assert document["version"] == 1
    assert document["created"] == "2026-11-23T12:00:00Z"
    assert document["images"][0] == {
        "name": "debian12",
        "family": "base",
        "os": "linux",
        "reasons": ["modified: Dockerfile"],
        "because": ["Dockerfile changed"],
        "staging": {
            "reference": "staging.example/base:debian12--20261123.4f2a9c1e",
            "digest": f"sha256:{'1' * 64}",
        },
        "destinations": ["public/azureml/debian12:20261123.v1", "public/azureml/debian12:latest"],
        "content_key": "c" * 64,
        "bases": [{"reference": "debian:12", "digest": f"sha256:{'d' * 64}"}],
        "tests": [{"scenario": "single-node", "job": "job-1", "status": "passed", "seconds": 1.5, "platform": ""}],
        "size_bytes": 123,
        "platforms": [],
        "evidence": [],
    }


def test_it_reads_as_it_was_written(release: ReleaseJson) -> None:
    assert ReleaseJson.model_validate_json(release_bytes(release)) == release


@pytest.mark.parametrize("change", [{"version": 2}, {"novelty": 1}])
def test_another_version_or_an_unknown_key_is_refused(release: ReleaseJson, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReleaseJson.model_validate({**release.model_dump(), **change})
