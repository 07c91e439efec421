"""HTTP with patience: what a busy registry refuses is asked again, when the registry says so."""

from __future__ import annotations

import os

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

# 500: distribution's registry says it while another request writes the tag that this one reads.
_RETRIED = (429, 500, 502, 503, 504)
_RETRY_AFTER_MAX = 20
"""Seconds; a registry that wants a longer pause is given up."""


def open_session(*, loopback: bool, repeat: bool) -> requests.Session:
    """A session.

    Args:
        loopback: It is for this machine: a proxy that the environment names is for the world outside.
        repeat: Whether requests that failed for the moment are repeated. What is streamed can't be sent twice.
    """
    session = requests.Session()
    session.trust_env = not loopback
    if loopback:
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    retry = Retry(
        total=4,
        connect=1,
        read=1,
        status=4,
        other=0,
        status_forcelist=_RETRIED,
        allowed_methods=("GET", "HEAD", "PUT", "DELETE", "POST"),
        backoff_factor=0.3,
        retry_after_max=_RETRY_AFTER_MAX,
        raise_on_status=False,
    )
    adapter = HTTPAdapter(max_retries=retry if repeat else 0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
