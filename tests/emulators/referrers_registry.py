"""The referrers API for a real registry that has none; it does what ACR is documented to do.

Source: distribution-spec 1.1, "Listing Referrers". Deleting an image takes along what is attached to it, as in ACR:
https://learn.microsoft.com/azure/container-registry/container-registry-manage-artifact. That it is right is shown by
`oras`, `notation` and `cosign`, which use it (tests/trust/test_verifiers.py).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.emulators.faulty_registry import Answer, FaultyRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<version>[^/]+)")
_REFERRERS = re.compile(r"/v2/(?P<name>.+)/referrers/(?P<digest>sha256:[0-9a-f]{64})")


class Referrers:
    """What is attached to the manifests of a registry.

    Args:
        page: How many artifacts a page of the list has.
    """

    def __init__(self, page: int = 1000) -> None:
        self.page = page
        self._of: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
        self._changing = threading.Lock()

    def list(self, target: str) -> tuple[Mapping[str, str], bytes] | None:
        """Headers and body of the list that a request asks for; None when it asks for something else."""
        url = urlsplit(target)
        match = _REFERRERS.fullmatch(url.path)
        if not match:
            return None
        query = parse_qs(url.query)
        kind, start = query.get("artifactType", [""])[0], int(query.get("from", ["0"])[0])
        with self._changing:
            entries = [e for e in self._of[match["name"], match["digest"]].values() if kind in ("", e["artifactType"])]
        sent = {"Content-Type": OCI_INDEX}
        if kind:
            sent["OCI-Filters-Applied"] = "artifactType"
        if len(entries) > start + self.page:
            sent["Link"] = f'<{url.path}?from={start + self.page}>; rel="next"'
        page = entries[start : start + self.page]
        body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page})
        return sent, body.encode()

    def note(self, method: str, target: str, body: bytes, upstream: str) -> Mapping[str, str]:
        """Note what a request that succeeded has attached or deleted; headers to be added to the answer.

        Args:
            method: Of the request.
            target: Of the request.
            body: Of the request.
            upstream: Host and port of the real registry.
        """
        match = _MANIFEST.fullmatch(urlsplit(target).path)
        if match and method == "DELETE":
            self._forget(match["name"], match["version"], upstream)
        return self.remember(match["name"], body) if match and method == "PUT" else {}

    def remember(self, name: str, body: bytes) -> Mapping[str, str]:
        """Note a manifest of a repository; headers to be added to the answer."""
        document = json.loads(body)
        subject = (document.get("subject") or {}).get("digest")
        if not subject:
            return {}
        entry = {
            "mediaType": document["mediaType"],
            "digest": f"sha256:{hashlib.sha256(body).hexdigest()}",
            "size": len(body),
            "artifactType": document.get("artifactType") or document["config"]["mediaType"],
        }
        if document.get("annotations"):
            entry["annotations"] = document["annotations"]
        with self._changing:
            self._of[name, subject][entry["digest"]] = entry
        return {"OCI-Subject": subject}

    def _forget(self, name: str, digest: str, upstream: str) -> None:
        with self._changing:
            attached = self._of.pop((name, digest), {})
            for entries in self._of.values():
                entries.pop(digest, None)
        for each in attached:
            connection = http.client.HTTPConnection(upstream, timeout=60)
            connection.request("DELETE", f"/v2/{name}/manifests/{each}")
            connection.getresponse().read()
            connection.close()
            self._forget(name, each, upstream)


class ReferrersRegistry(FaultyRegistry):
    """The front.

    Args:
        upstream: Host and port of the real registry.
        page: How many artifacts a page of the list has.
    """

    def __init__(self, upstream: str, page: int = 1000) -> None:
        super().__init__(upstream)
        self.referrers = Referrers(page)

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        """The list of what is attached to a manifest."""
        listed = self.referrers.list(path)
        return Answer(200, dict(listed[0]), listed[1]) if listed else None

    def passed_on(self, method: str, path: str, body: bytes, status: int) -> Mapping[str, str]:
        """Note what was attached and what was deleted."""
        return self.referrers.note(method, path, body, self.upstream) if status in (201, 202) else {}
