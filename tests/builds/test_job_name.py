"""Names of jobs."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.builds.naming import job_name

PARTS = st.tuples(
    st.from_regex(r"[0-9]{8}\.[0-9a-f]{8}", fullmatch=True),
    st.text(alphabet="ab/._-", min_size=1, max_size=300),
    st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True),
    st.integers(1, 9),
)


def test_readable():
    name = job_name("20261123.4f2a9c1e", "base/openmpi4.1-debian12", "single-node", 1)
    assert re.fullmatch(r"20261123-4f2a9c1e-base-openmpi4-1-debian12-single-node-1-[0-9a-f]{8}", name)


@given(PARTS)
def test_valid_for_azure_ml_and_docker(backends):
    # https://learn.microsoft.com/azure/machine-learning/reference-yaml-job-command; a container adds `-node63`.
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{1,247}", job_name(*backends))


@given(PARTS, PARTS)
def test_different_for_different_jobs(one, other):
    assert (job_name(*one) == job_name(*other)) == (one == other)
