"""Two hosts that share Postgres, registries and artifacts: what happens to one does not harm the other."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.faults.alone import naming
from tests.faults.host_rounds import CLEAN_SECONDS, HOST_PATIENCE_SECONDS, Site, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.faults, pytest.mark.services]

ROUNDS = 2
START_SECONDS = 120


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def test_what_a_host_leaves_that_is_killed_is_cleaned_up_by_the_other_which_goes_on(site: Site) -> None:
    chance = random.Random(7)
    for _ in range(ROUNDS):
        site.play(chance)
    figures = site.finish()
    print(figures)
    assert figures.wrong == []


def test_a_host_that_was_cut_off_finds_its_build_ended_and_leaves_nothing(site: Site) -> None:
    """It may still push by the engine after it was taken for dead, and its build cleaned up."""
    host = next(host for host in site.hosts if host is not site.serving)
    mark = uuid.uuid4().hex
    process = site.build(host, f"RUN : {mark}; sleep {3 * HOST_PATIENCE_SECONDS}; true")
    assert wait(lambda: any(naming(mark)), START_SECONDS), process.said
    (build,) = site.builds_on(host)
    host.cut_off()
    assert wait(lambda: site.records()[build]["status"] == "failed", CLEAN_SECONDS), site.records()[build]
    host.reconnect()
    assert process.wait() != 0, process.said
    assert wait(lambda: not any(naming(mark)), START_SECONDS)
    assert wait(lambda: site.left() == [], CLEAN_SECONDS), site.left()
    again = site.build(host)
    assert again.wait() == 0, again.said
