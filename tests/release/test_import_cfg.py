"""import.cfg, key by key as the contract has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aml_images_dagster.release.import_cfg import ImportCfg, ImportSource, import_cfg

if TYPE_CHECKING:
    from aml_images_dagster.release.release_json import ReleaseJson


def test_the_contract(release: ReleaseJson) -> None:
    assert json.loads(import_cfg(release.images).to_json()) == [
        {
            "source": {
                "imageName": "staging.example/base:debian12--20261123.4f2a9c1e",
                "registryUsername": "${STAGING_CLIENT_ID}",
                "registryPassword": "${STAGING_CLIENT_SECRET}",
            },
            "destination": {
                "imageNames": ["public/azureml/debian12:20261123.v1", "public/azureml/debian12:latest"],
            },
        },
        {
            "source": {
                "imageName": "staging.example/base-gpu:cuda13--20261123.4f2a9c1e",
                "registryUsername": "${STAGING_CLIENT_ID}",
                "registryPassword": "${STAGING_CLIENT_SECRET}",
            },
            "destination": {
                "imageNames": ["public/azureml/cuda13:20261123.v1", "public/azureml/cuda13:latest"],
            },
        },
    ]


def test_the_order_of_the_keys(release: ReleaseJson) -> None:
    (entry, _) = json.loads(import_cfg(release.images).to_json())
    assert list(entry) == ["source", "destination"]
    assert list(entry["source"]) == ["imageName", "registryUsername", "registryPassword"]


def test_it_reads_as_it_was_written(release: ReleaseJson) -> None:
    cfg = import_cfg(release.images)
    assert ImportCfg.model_validate_json(cfg.to_json()) == cfg


@pytest.mark.parametrize("field", ["registry_username", "registry_password"])
@pytest.mark.parametrize("value", ["hunter2", "", "${}", "${a}", "$STAGING", "${A}x", "x${A}", "${A}\n", "${A}${B}"])
def test_a_literal_credential_is_refused_and_not_shown(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match="must be references"):
        ImportSource(image_name="a", **{field: value})  # type: ignore[arg-type]


def test_the_words_about_a_literal_do_not_repeat_it(release: ReleaseJson) -> None:
    with pytest.raises(ValidationError) as refused:
        ImportSource(image_name="a", registry_password="correct-horse-battery")
    assert "correct-horse-battery" not in str(refused.value)
    literal = import_cfg(release.images).to_json().replace(b"${STAGING_CLIENT_SECRET}", b"correct-horse-battery")
    with pytest.raises(ValidationError, match="must be references") as refused:
        ImportCfg.model_validate_json(literal)
    assert "correct-horse-battery" not in str(refused.value)


@given(st.text().filter(lambda text: not text.startswith("${")))
def test_no_text_but_a_reference_is_a_credential(text: str) -> None:
    with pytest.raises(ValidationError):
        ImportSource(image_name="a", registry_password=text)


@pytest.mark.parametrize(
    "document",
    [
        "{}",
        '[{"source": {"imageName": "a"}}]',
        '[{"source": {"imageName": "a", "tag": "b"}, "destination": {"imageNames": []}}]',
    ],
)
def test_another_shape_is_refused(document: str) -> None:
    with pytest.raises(ValidationError):
        ImportCfg.model_validate_json(document)
