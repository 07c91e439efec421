"""Asset keys: an image and a stage, there and back."""

from __future__ import annotations

import pytest
from dagster import AssetKey
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.catalog.image_name import GROUPS_OF_THE_FACTORY, group_name
from aml_images_dagster.defs import keys
from aml_images_dagster.defs.keys import (
    DROP,
    IMPORT_CFG,
    RELEASE_JSON,
    STAGES,
    Stage,
    asset_key,
    image_of,
)

components = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,6}){0,4}", fullmatch=True)


@given(family=components, name=components, stage=st.sampled_from(STAGES))
def test_there_and_back(family: str, name: str, stage: Stage) -> None:
    key = asset_key(f"{family}/{name}", stage)
    assert image_of(key) == (f"{family}/{name}", stage)
    assert AssetKey.from_user_string(key.to_user_string()) == key


@given(family=components, name=components, others=components)
def test_different_images_have_different_keys(family: str, name: str, others: str) -> None:
    keys = {asset_key(f"{family}/{each}", stage) for each in (name, others) for stage in STAGES}
    assert len(keys) == len(STAGES) * len({name, others})


@pytest.mark.parametrize(
    "key",
    [RELEASE_JSON, IMPORT_CFG, DROP, AssetKey(["a", "b"]), AssetKey(["a.staged"]), AssetKey(["a", "b", "c.staged"])],
)
def test_other_assets_are_no_images(key: AssetKey) -> None:
    assert image_of(key) is None


def test_a_name_that_ends_like_a_stage() -> None:
    assert image_of(asset_key("base/a.staged", "tested")) == ("base/a.staged", "tested")


@given(family=components)
def test_a_group_name_is_one_that_dagster_takes(family: str) -> None:
    assert group_name(family).replace("_", "").isalnum()


def test_the_groups_of_the_factory() -> None:
    assert {
        keys.OPERATIONS_GROUP,
        keys.PRODUCTION_GROUP,
        keys.RELEASE_GROUP,
        keys.SCHEDULES_GROUP,
        keys.UPSTREAM_GROUP,
    } == GROUPS_OF_THE_FACTORY
