"""Tokens that look like a JWT, whose claims some clients read. Nobody but who gave one can tell whether it is good."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any


def new_token(**claims: Any) -> str:
    """A token that nobody else has."""
    parts = ({"alg": "none", "typ": "JWT"}, {**claims, "jti": secrets.token_hex()})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join((*encoded, secrets.token_urlsafe()))
