"""A registry over HTTP, as the OCI distribution specification describes it.

Source: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin, urlsplit

import requests
import urllib3.exceptions
from requests.utils import parse_header_links
from typing_extensions import override

from aml_images_dagster.bounded import TooLong, joined
from aml_images_dagster.catalog.reference import DOCKER_HUB, Reference, is_digest, is_repository, is_tag
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.http_connection import time_limit
from aml_images_dagster.http_session import asked_pause, open_session
from aml_images_dagster.messages import plain_reason
from aml_images_dagster.registry.interface import Manifest, NoAnswer, Registry, TooManyRequests, VerifiedBlob
from aml_images_dagster.registry.tokens import FindLogin, RegistryAuth, is_loopback, origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from aml_images_dagster.engine.interface import RegistryLogin

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_IS_INDEX = {OCI_INDEX: True, DOCKER_INDEX: True, OCI_MANIFEST: False, DOCKER_MANIFEST: False}
# One comma-separated header: some registries look at the first Accept header only.
ACCEPT = ", ".join((OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST))

_REFERRERS_TAG = re.compile(r"(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})")
_DOCKER_HUB_API = "registry-1.docker.io"
_PAGE = 100
_MOST_PAGES = 1000
_LIST_SECONDS = 600
_LONGEST_CONFIG = 4 * 2**20
_TRIES = 8
_REMOVED_TAG = "aml-images.removed-tag"
"""Annotation of a manifest that is made to be removed with a tag."""
_LARGEST = 2**63 - 1
"""Bytes of a descriptor's size. Source: image-spec, "descriptor.md", int64."""
_STRUCTURE = {name.casefold(): name for name in ("config", "OnBuild", "manifests", "layers")}
"""Parts of manifests and configurations whose values are objects or lists; values of labels are texts."""
DEEPEST = 8
"""Indexes in indexes that are followed to an image."""
_LONGEST_MESSAGE = 500
_MOST_REFERRERS = 1000
_THROTTLED_SECONDS = 180.0
"""How long a registry that limits look-ups of referrers is waited for; ACR allows 250 a minute."""
_PAUSE_SECONDS = 5.0
_AS_STORED = {"Accept-Encoding": "identity"}


class OciRegistry(Registry):
    """A `Registry` that is spoken to directly.

    Args:
        host: Host and port, e.g. `127.0.0.1:5000`.
        credentials: A login, or a function that gives the login of the moment; None for anonymous use.
        insecure: Plain HTTP instead of HTTPS; None decides for HTTP on loopback hosts only, as engines do.
        trusted: Whether a setting names the host. One that only a Dockerfile names is spoken to over HTTPS and at
            public addresses alone; see `open_session`.
        setting: The setting that names the host, for messages; empty when none does.
        timeout_seconds: Longest wait for any single answer.
    """

    def __init__(
        self,
        host: str,
        credentials: RegistryLogin | FindLogin | None = None,
        *,
        insecure: bool | None = None,
        trusted: bool = True,
        setting: str = "",
        timeout_seconds: float = 30,
    ) -> None:
        self.host = host
        self._setting = setting
        api_host = _DOCKER_HUB_API if host == DOCKER_HUB else host
        loopback = is_loopback(urlsplit(f"//{host}").hostname or "")
        scheme = "http" if trusted and (loopback if insecure is None else insecure) else "https"
        self._base = f"{scheme}://{api_host}"
        self._timeout = (min(5.0, timeout_seconds), timeout_seconds)
        find_login: FindLogin = credentials if callable(credentials) else lambda: credentials
        stranger = "" if trusted else host
        self._session = open_session(loopback=loopback, repeat=True, stranger=stranger)
        self._session.auth = RegistryAuth(self._base, find_login, self._session, self._timeout)
        # What is streamed can't be sent twice.
        self._streaming = open_session(loopback=loopback, repeat=False, stranger=stranger)
        self._streaming.auth = self._session.auth
        self._verified: dict[tuple[str, str], str] = {}
        """The last digest of each tag whose content was seen to have it."""

    @property
    @override
    def url(self) -> str:
        return self._base

    @override
    def ping(self) -> None:
        self._ask("GET", "/v2/", "whether it is a registry", expected=requests.codes.ok)

    def digest(self, reference: Reference) -> str | None:
        """See `Registry.digest`.

        A digest that is new for a tag is compared with the content: it comes from a header, and decides what is built.

        Raises:
            Unreachable: Also if the registry names another digest than that of the content.
        """
        tag = (reference.repository, reference.version)
        named, found = self._named(reference), ""
        for _ in range(_TRIES):  # the tag may move between the questions
            if named is None or reference.digest or named == self._verified.get(tag):
                return named
            manifest = self.manifest(reference)
            found = _digest_like(named, manifest.body) if manifest else ""
            if manifest and named == found:
                self._verified[tag] = named
                return named
            named = self._named(reference)
        raise self._corrupt(str(reference), str(named), found or "nothing")

    def manifest(self, reference: Reference) -> Manifest | None:
        """See `Registry.manifest`.

        Raises:
            Unreachable: Also if the bytes do not match the digest.
        """
        answer = self._ask_manifest("GET", reference)
        if answer is None:
            return None
        body = answer.content
        for claimed in (reference.digest, self._named_digest(answer, reference)):
            found = _digest_like(claimed, body) if claimed else ""
            if claimed != found:
                raise self._corrupt(str(reference), claimed, found)
        return Manifest(_sha256(body), _media_type(answer, body), body)

    def config(self, reference: Reference) -> Mapping[str, Any]:
        """See `Registry.config`.

        Raises:
            BadInput: There is no such image, or it is an index of several platforms.
            Unreachable: Also if the configuration is none.
        """
        document = read_manifest(self.existing(reference))
        if "config" not in document:
            raise BadInput(
                "this is an index of several platforms",
                where=str(reference),
                hint="Name the digest of one of its images.",
            )
        what = f"for the configuration of {reference}"
        with time_limit(_LIST_SECONDS), self.open_blob(reference.repository, document["config"]["digest"]) as blob:
            try:
                found = self._document(joined(blob, _LONGEST_CONFIG), what)
            except TooLong as fault:
                raise self._not_a_registry(what, f" ({fault})") from None
        if not _is_config(found):
            raise self._not_a_registry(what)
        return found

    def size_bytes(self, reference: Reference) -> int:
        """See `Registry.size_bytes`. For an index: of its linux/amd64 image, else of its first.

        Raises:
            BadInput: There is no such image.
        """
        asked = reference
        for _ in range(DEEPEST):
            document = read_manifest(self.existing(asked))
            if "manifests" not in document:
                return sum(blob["size"] for blob in (document["config"], *document["layers"]))
            entries = document["manifests"]
            ours = [entry for entry in entries if _platform(entry) == ("linux", "amd64")]
            if not entries:
                raise BadInput("this is an index without images", where=str(asked), hint="Push it again.")
            asked = asked.with_digest((ours or entries)[0]["digest"])
        raise too_deep(reference)

    @override
    def repositories(self) -> Sequence[str]:
        return self._list("/v2/_catalog", "repositories", "its repositories", is_repository, absent_is_fine=False)

    @override
    def tags(self, repository: str) -> Sequence[str]:
        return [tag for tag in self._all_tags(repository) if not subject_of_tag(tag)]

    def referrers_tags(self, repository: str) -> Sequence[str]:
        """The tags of indexes of what is attached to images, where the registry keeps no list; see `referrers_tag`."""
        return [tag for tag in self._all_tags(repository) if subject_of_tag(tag)]

    def referrers(self, repository: str, digest: str) -> Sequence[Mapping[str, Any]] | None:
        """The descriptors of all manifests that have this one as their subject; None when the registry keeps no list.

        A registry that limits these look-ups is waited for: a refusal is never taken for an empty list.

        Source: distribution-spec, "Listing Referrers".
        """
        what = f"for what is attached to {repository}@{digest}"
        found: list[Mapping[str, Any]] = []
        seen: set[str] = set()
        url = f"{self._base}/v2/{repository}/referrers/{digest}"
        with time_limit(_LIST_SECONDS):
            while url:
                if url in seen:
                    raise self._not_a_registry(what, " (the next page is one that was there before)")
                answer = self._ask_patiently(url, what, absent_is_fine=not seen)
                seen.add(url)
                if not answer.ok:
                    return None
                entries = self._document(answer.content, what).get("manifests")
                if not isinstance(entries, list) or not all(map(is_descriptor, entries)):
                    raise self._not_a_registry(what)
                found.extend(entries)
                if len(found) > _MOST_REFERRERS or len(seen) > _MOST_PAGES:
                    raise self._not_a_registry(what, f" (more than {_MOST_REFERRERS:,} artifacts)")
                url = self._next_page(answer, url, what)
        return found

    def tag(self, reference: Reference, tag: str) -> None:
        """See `Registry.tag`.

        Raises:
            BadInput: There is no such image, or it is none.
        """
        manifest = self.existing(reference)
        read_manifest(manifest)
        self.put_manifest(reference.repository, tag, manifest)

    def untag(self, reference: Reference) -> None:
        """See `Registry.untag`.

        Registries differ in what they remove when asked to delete by tag: the tag, the image with all its tags
        (which must not happen), or nothing. So the tag is first moved to a throw-away manifest. Whatever
        the registry removes then, the image is not touched.

        Distribution's registry may delete a manifest and keep a tag for it, when another tag beside it is written at
        the same moment. Such a tag is listed and leads nowhere; it is moved and removed once more. So is one that leads
        to the throw-away manifest of somebody else, who removes it at the same moment or has ended while doing so.

        Raises:
            BadInput: The reference names a digest.
        """
        if reference.digest:
            raise BadInput("a digest is not a tag", where=str(reference), hint="Name the tag to remove.")
        before = self._named(reference)
        if before is not None:
            try:
                self._remove_tag(reference)
            except Unreachable as refused:
                what = f"{refused.what}; {self._put_back(reference, before)}"
                raise Unreachable(what, where=refused.where, hint=refused.hint) from None
        for tried in range(_TRIES):
            time.sleep(random.random() * 0.1 * tried)  # noqa: S311 - who meets others gives way for longer each time
            left = self.manifest(reference)
            if left is None and reference.version not in self._all_tags(reference.repository):
                break
            if left is not None and not _is_thrown_away(left):
                raise self._has_still(reference, left.digest)
            self._remove_tag(reference)
        else:
            raise self._has_still(reference, "nothing")
        if before is not None and self.digest(reference.with_digest(before)) is None:
            raise Unreachable(
                f"the registry removed the image {before} together with its tag",
                where=str(reference),
                hint="Push the image again if another tag needs it, and report which registry this is.",
            )

    def delete(self, reference: Reference) -> None:
        """See `Registry.delete`. A tag points to the digest behind it."""
        digest = self._named(reference)
        if digest is None:
            return
        self._delete_manifest(reference.repository, digest)
        if self.digest(reference.with_digest(digest)) is not None:
            raise Unreachable(
                f"the registry said that it deleted {digest} but still has it",
                where=str(reference),
                hint="Something else pushed it at the same time, or the registry only seems to delete.",
            )

    def existing(self, reference: Reference) -> Manifest:
        """The manifest of an image that has to be there.

        Raises:
            BadInput: It is not.
        """
        manifest = self.manifest(reference)
        if manifest is None:
            raise BadInput(
                "the registry has no such image", where=str(reference), hint="Is the name right, and was it pushed?"
            )
        return manifest

    def put_manifest(self, repository: str, version: str, manifest: Manifest) -> None:
        """Store the bytes of a manifest under a tag or its digest, and read back that they are there.

        Raises:
            Unreachable: Also if the registry stored something else.
        """
        answer = self.send_manifest(repository, version, manifest)
        where = Reference(self.host, repository)
        where = where.with_digest(version) if ":" in version else where.with_tag(version)
        # What is claimed to be there is enough where it is known what has to be.
        stored, now = self._named_digest(answer, where), self._named(where)
        for claimed in filter(None, (stored, now)):
            if claimed != _digest_like(claimed, manifest.body):
                raise self._corrupt(str(where), manifest.digest, claimed)
        if now is None:
            raise self._corrupt(str(where), manifest.digest, "nothing")
        self._verified[repository, version] = manifest.digest

    def send_manifest(self, repository: str, version: str, manifest: Manifest) -> requests.Response:
        """The same without reading back: for a tag that others may write at the same moment."""
        return self._ask(
            "PUT",
            f"/v2/{repository}/manifests/{version}",
            f"to store {repository}:{version}",
            data=manifest.body,
            headers={"Content-Type": manifest.media_type},
        )

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether a repository has a blob."""
        answer = self._ask(
            "HEAD",
            f"/v2/{repository}/blobs/{digest}",
            f"for blob {digest}",
            absent_is_fine=True,
            expected=requests.codes.ok,
        )
        named = self._check_named(answer, Reference(self.host, repository, digest=digest)) if answer.ok else ""
        # A storage to which the registry leads names no digest; another page of the registry is no blob.
        if answer.ok and not named and _is_redirected(answer) and origin(answer.url) == origin(self._base):
            raise self._not_a_registry(f"for blob {digest}", f" (it leads to {answer.url[:200]})")
        return answer.ok

    @contextlib.contextmanager
    def open_blob(self, repository: str, digest: str) -> Iterator[VerifiedBlob]:
        """Read a blob without holding it in memory; reading to the end verifies it.

        Raises:
            BadInput: There is no such blob.
            Unreachable: Also if the bytes do not match the digest.
        """
        what = f"for blob {digest} of {repository}"
        answer = self._ask(
            "GET",
            f"/v2/{repository}/blobs/{digest}",
            what,
            absent_is_fine=True,
            expected=requests.codes.ok,
            stream=True,
            headers=_AS_STORED,
        )
        with answer, self._errors(what):
            if not answer.ok:
                raise BadInput(
                    f"the registry has no blob {digest}",
                    where=f"{self.host}/{repository}",
                    hint="The image is incomplete: push it again.",
                )
            yield VerifiedBlob(answer, digest, lambda reason: self._no_answer(what, reason), self._corrupt)

    def upload_blob(self, repository: str, digest: str, body: bytes | VerifiedBlob) -> None:
        """Store a blob, and make sure that it is there; the registry verifies its digest.

        Source: distribution-spec, "Pushing a blob monolithically", POST then PUT.

        Raises:
            Unreachable: Also if the registry does not keep to the specification, or does not have the blob then.
        """
        what = f"to store blob {digest} in {repository}"
        started = self._ask("POST", f"/v2/{repository}/blobs/uploads/", what, expected=requests.codes.accepted)
        location = self._address(started.headers.get("Location", ""), what)
        location += ("&" if urlsplit(location).query else "?") + f"digest={digest}"
        stored = self._ask(
            "PUT",
            location,
            what,
            data=body,
            headers={"Content-Type": "application/octet-stream"},
            session=self._streaming,
            expected=requests.codes.created,
        )
        self._check_named(stored, Reference(self.host, repository, digest=digest))
        if not self.has_blob(repository, digest):
            raise Unreachable(
                f"the registry said that it stored blob {digest}, and does not have it",
                where=f"{self.host}/{repository}",
                hint="See the registry's own log, and its storage.",
            )

    def _address(self, location: str, what: str) -> str:
        """Where an upload goes on: relative to the registry, or at another host, which sees no login of ours.

        Source: distribution-spec, "Pushing a blob monolithically".
        """
        try:
            address = urldefrag(urljoin(f"{self._base}/", location)).url if location else ""
        except ValueError:
            address = ""
        scheme, host, _ = origin(address)
        if not host or scheme not in ("http", "https") or (scheme == "http" and self._base.startswith("https:")):
            raise self._not_a_registry(what, f" (its upload location is {location[:200]!r})")
        return address

    def _named(self, reference: Reference) -> str | None:
        """The digest behind a tag as the head of an answer names it, or of the content if it names none.

        None when there is nothing. A digest is always found under itself.
        """
        answer = self._ask_manifest("HEAD", reference)
        if answer is None:
            return None
        named = self._check_named(answer, reference)
        if named:
            return named
        manifest = self.manifest(reference)
        if manifest is None:
            return None
        # Where nothing says what the content has to be, any page of any server would be some image.
        if not reference.digest and "schemaVersion" not in (_json_object(manifest.body) or {}):
            raise self._not_a_registry(f"for {reference}")
        self._verified[reference.repository, reference.version] = manifest.digest
        return reference.digest or manifest.digest

    def _check_named(self, answer: requests.Response, reference: Reference) -> str:
        """The digest that an answer names, which has to be that of the reference if it has one."""
        named = self._named_digest(answer, reference)
        if named and reference.digest and named != reference.digest:
            raise self._corrupt(str(reference), reference.digest, named)
        return named

    def _named_digest(self, answer: requests.Response, reference: Reference) -> str:
        """The digest that the registry names in the head of its answer; empty when it names none."""
        named = answer.headers.get("Docker-Content-Digest", "")
        if named and not is_digest(named):
            raise Unreachable(
                f"the registry names {named[:100]!r} as the digest of {reference}, which is not a digest",
                where=self.host,
                hint="Is there a proxy or another server at this address?",
            )
        return named

    def _ask_manifest(self, method: str, reference: Reference) -> requests.Response | None:
        if reference.digest and not is_digest(reference.digest):  # of a record, which may have been edited
            raise BadInput(
                f"{reference.digest[:100]!r} is not a digest",
                where=reference.name,
                hint="Where is it from? A digest is sha256: and 64 of 0-9 and a-f.",
            )
        answer = self._ask(
            method,
            f"/v2/{reference.repository}/manifests/{reference.version}",
            f"for {str(reference).removeprefix(f'{reference.registry}/')}",
            headers={"Accept": ACCEPT},
            absent_is_fine=True,
            expected=requests.codes.ok,
        )
        return answer if answer.ok else None

    def _delete_manifest(self, repository: str, version: str, *, may_refuse: bool = False) -> None:
        what = f"to delete {repository}:{version}"
        answer = self._ask(
            "DELETE", f"/v2/{repository}/manifests/{version}", what, absent_is_fine=True, check=not may_refuse
        )
        if may_refuse and answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
            raise self._refusal(answer, what)

    def _remove_tag(self, reference: Reference) -> None:
        thrown_away = self._throw_away_manifest(reference.repository)
        try:
            self.put_manifest(reference.repository, reference.version, thrown_away)
        except Unreachable:
            # Somebody else may remove the tag at this moment, and have done so already.
            left = self.manifest(reference)
            if left is not None and not _is_thrown_away(left):
                raise
        self._delete_manifest(reference.repository, reference.version, may_refuse=True)
        self._delete_manifest(reference.repository, thrown_away.digest)

    def _put_back(self, reference: Reference, before: str) -> str:
        """Give a tag back to its image after a removal that was refused; says what it stands for now."""
        try:
            if self._named(reference) != before:
                self.put_manifest(reference.repository, reference.version, self.existing(reference.with_digest(before)))
        except (Unreachable, BadInput):
            return f"the tag may stand for an empty image now, and no longer for {before}"
        return f"the tag stands for {before} as before"

    @staticmethod
    def _has_still(reference: Reference, left: str) -> Unreachable:
        return Unreachable(
            f"the registry still has the tag, now for {left}",
            where=str(reference),
            hint="Something else pushed it at the same time, or the registry only seems to delete.",
        )

    def _all_tags(self, repository: str) -> Sequence[str]:
        return self._list(f"/v2/{repository}/tags/list", "tags", f"the tags of {repository}", is_tag)

    def _ask_patiently(self, url: str, what: str, *, absent_is_fine: bool) -> requests.Response:
        """A look-up that waits while the registry says that there are too many."""
        give_up = time.monotonic() + _THROTTLED_SECONDS
        while True:
            try:
                return self._ask(
                    "GET",
                    url,
                    what,
                    absent_is_fine=absent_is_fine,
                    expected=requests.codes.ok,
                    headers={"Accept": OCI_INDEX},
                )
            except TooManyRequests as refusal:
                wait = max(refusal.pause_seconds, _PAUSE_SECONDS)
                if time.monotonic() + wait > give_up:
                    raise
                time.sleep(wait)

    def _throw_away_manifest(self, repository: str) -> Manifest:
        """A unique manifest and blob: a registry may refuse content that two clients write at once."""
        unique = str(uuid.uuid4())
        content = json.dumps({"removed tag": unique}).encode()
        blob = {"digest": _sha256(content), "size": len(content)}
        self.upload_blob(repository, str(blob["digest"]), content)
        body = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": OCI_CONFIG, **blob},
                "layers": [{"mediaType": "application/octet-stream", **blob}],
                "annotations": {_REMOVED_TAG: unique},
            }
        ).encode()
        return Manifest(_sha256(body), OCI_MANIFEST, body)

    def _list(
        self, path: str, key: str, what: str, is_name: Callable[[str], bool], *, absent_is_fine: bool = True
    ) -> list[str]:
        """All pages of a list. Source: distribution-spec, "Listing tags", and RFC 8288 for the Link header."""
        what = f"for {what}"
        found: dict[str, None] = {}
        seen: set[str] = set()
        url = f"{self._base}{path}?n={_PAGE}"
        with time_limit(_LIST_SECONDS):
            while url:
                if len(seen) == _MOST_PAGES:
                    raise self._not_a_registry(what, f" (more than {_MOST_PAGES:,} pages)")
                if url in seen:
                    raise self._not_a_registry(what, " (the next page is one that was there before)")
                # A list that begins and does not go on is no list that is absent.
                absent_is_fine = absent_is_fine and not seen
                seen.add(url)
                answer = self._ask("GET", url, what, absent_is_fine=absent_is_fine, expected=requests.codes.ok)
                if not answer.ok:
                    break
                document = self._document(answer.content, what)
                names = document.get(key) or ()
                if (
                    key not in document
                    or not isinstance(names, list | tuple)
                    or not all(isinstance(name, str) and is_name(name) for name in names)
                ):
                    raise self._not_a_registry(what)
                found |= dict.fromkeys(names)
                url = self._next_page(answer, url, what)
        return list(found)

    def _next_page(self, answer: requests.Response, url: str, what: str) -> str:
        """The address of the next page; empty when this is the last one.

        Only its path and query count: behind a proxy, registries name themselves as they know themselves.
        """
        header = answer.headers.get("Link", "")
        links = [{key.lower(): value for key, value in link.items()} for link in parse_header_links(header)]
        following = next((link["url"] for link in links if "next" in link.get("rel", "").lower().split()), None)
        if following is None:
            if header and not any(link.get("rel") for link in links):
                raise self._not_a_registry(what, f" (its Link is {header[:200]!r})")
            return ""
        try:
            parts = urlsplit(urljoin(url, following))
        except ValueError:
            raise self._not_a_registry(what, f" (its Link is {header[:200]!r})") from None
        return f"{self._base}{parts.path}?{parts.query}"

    def _document(self, body: bytes, what: str) -> Mapping[str, Any]:
        document = _json_object(body)
        if document is None:
            raise self._not_a_registry(what)
        return document

    def _not_a_registry(self, what: str, why: str = "") -> Unreachable:
        return Unreachable(
            f"asked {what}, the answer is not from a registry{why}",
            where=self.host,
            hint="Is there a proxy or another server at this address?",
        )

    def _ask(
        self,
        method: str,
        path: str,
        what: str,
        *,
        absent_is_fine: bool = False,
        expected: int | None = None,
        check: bool = True,
        session: requests.Session | None = None,
        **options: Any,
    ) -> requests.Response:
        """One request; every error names the request and the registry.

        Args:
            method: Of HTTP.
            path: Below the registry, or a whole URL.
            what: What is asked, for messages.
            absent_is_fine: Whether the registry may answer that there is no such thing.
            expected: The status of a success; None takes every one.
            check: Whether any other answer is an error.
            session: Default: the one that repeats.
            options: Of `requests`.
        """
        with self._errors(what):
            try:
                answer = (session or self._session).request(
                    method, urljoin(self._base, path), timeout=self._timeout, **options
                )
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
                raise self._not_a_registry(what, f" (it leads to no address: {str(error)[:200]})") from None
            except requests.RequestException:
                raise
            except (urllib3.exceptions.HTTPError, ValueError) as error:  # of an address that requests cannot read
                raise self._not_a_registry(what, f" (it leads to no address: {str(error)[:200]})") from None
        # Where a redirect leads to nothing, the registry has not said that there is no such thing.
        absent = answer.status_code == requests.codes.not_found and absent_is_fine and not _is_redirected(answer)
        if check and not answer.ok and not absent:
            with answer, self._errors(what):
                raise self._refusal(answer, what)
        if expected and not absent and answer.status_code != expected:
            with answer:
                raise self._not_a_registry(what, f" (HTTP {answer.status_code} where {expected} is the answer)")
        return answer

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except requests.exceptions.SSLError as error:
            raise Unreachable(
                f"asked {what}, TLS failed: {plain_reason(error)}",
                where=self.host,
                hint="Does it have a certificate that this machine trusts (REQUESTS_CA_BUNDLE), or does it speak HTTP?",
            ) from None
        except requests.exceptions.TooManyRedirects as error:
            last = error.response.url if error.response is not None else ""
            raise Unreachable(
                f"asked {what}, the registry redirects without end, at last to {last[:200]}",
                where=self.host,
                hint="Is the address right? The registry, its storage or a proxy in front of it leads in a circle.",
            ) from None
        except requests.RequestException as error:
            raise self._no_answer(what, plain_reason(error)) from None

    def _no_answer(self, what: str, reason: str) -> NoAnswer:
        setting = f" (setting {self._setting})" if self._setting else ""
        return NoAnswer(
            f"asked {what}, the registry does not answer: {reason}",
            where=self.host,
            hint=f"Is it running, is the address right{setting}, and can this machine reach it?",
        )

    def _refusal(self, answer: requests.Response, what: str) -> Unreachable:
        status, pause = answer.status_code, asked_pause(answer.headers)
        if origin(answer.url) != origin(self._base):
            place = urlsplit(answer.url).netloc
            problem = f"{place}, to which the registry leads, refuses"
            hint = f"It is not the login at {self.host} that is refused: see why its storage or a proxy does."
        elif status == requests.codes.unauthorized:
            problem, hint = "the login is missing or wrong", f"Sign in to {self.host}, or check the password."
        elif status == requests.codes.forbidden:
            problem, hint = "this login may not do that", "Ask the registry's owner for the right to do it."
        elif status == requests.codes.too_many_requests:
            problem, hint = "too many requests", "Wait, sign in for a higher limit, or use a mirror."
        elif status in (400, 405) and answer.request.method == "DELETE":
            problem = "deletion is disabled"
            hint = "Allow it: storage.delete.enabled, REGISTRY_STORAGE_DELETE_ENABLED=true for distribution's registry."
        else:
            problem, hint = "the request failed", "See the registry's own log."
        if pause >= 1:
            problem += f", come back in {_told(pause)}"
        said = _error_message(answer)
        told = f"asked {what}, {problem} (HTTP {status}{f': {said}' if said else ''})"
        if status == requests.codes.too_many_requests:
            return TooManyRequests(told, where=self.host, hint=hint, pause_seconds=pause)
        return Unreachable(told, where=self.host, hint=hint)

    def _corrupt(self, what: str, wanted: str, got: str) -> Unreachable:
        return Unreachable(
            f"{what} should be {wanted} but is {got}",
            where=self.host,
            hint="The registry, its storage or a proxy changes or truncates content: push the image again.",
        )


def read_manifest(manifest: Manifest) -> dict[str, Any]:
    """A manifest's document: an image (`config`, `layers`) or an index (`manifests`).

    Raises:
        BadInput: It is of another kind, e.g. schema 1, which registries gave up.
    """
    document = _json_object(manifest.body) or {}
    kinds = [
        _IS_INDEX[kind] for kind in map(str, (document.get("mediaType"), manifest.media_type)) if kind in _IS_INDEX
    ]
    described: list[Any] | None = None
    if isinstance(entries := document.get("manifests"), list):
        described = entries if all(map(_names_platform, entries)) else None
    elif isinstance(layers := document.get("layers"), list):
        described = [document.get("config"), *layers]
    is_index = "manifests" in document
    # One that could be read as either is read differently by others (CVE-2021-41190).
    is_one = not (is_index and {"config", "layers"} & document.keys()) and all(kind == is_index for kind in kinds)
    if is_one and described is not None and all(map(is_descriptor, described)):
        return document
    raise BadInput(
        f"the manifest {manifest.digest} ({manifest.media_type}) is neither an image nor an index",
        hint="Push the image again with a current engine.",
    )


def too_deep(reference: Reference) -> BadInput:
    """The error of an index that leads to no image within a reasonable number of steps."""
    return BadInput(
        f"indexes are nested more than {DEEPEST} deep", where=str(reference), hint="Name one of its images by digest."
    )


def _json_object(body: bytes) -> dict[str, Any] | None:
    """The object that a JSON document is; None when it is none."""
    try:
        document = json.loads(body, object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object that every program reads alike.

    For programs in Go names differ in more than case, and of two that are equal both count; here the last one would.

    Raises:
        ValueError: It is none.
    """
    seen = Counter(name.casefold() for name, _ in pairs)
    for name, value in pairs:
        known = _STRUCTURE.get(name.casefold())
        if known and isinstance(value, dict | list) and (name != known or seen[name.casefold()] > 1):
            raise ValueError(f"{name} may be read in two ways")
    return dict(pairs)


def referrers_tag(digest: str) -> str:
    """The tag of the index of what is attached to a manifest, where the registry keeps no list.

    Source: distribution-spec, "Referrers Tag Schema".
    """
    return digest.replace(":", "-")


def subject_of_tag(tag: str) -> str:
    """The digest that such a tag belongs to; empty for any other tag."""
    digest = tag.replace("-", ":", 1)
    return digest if _REFERRERS_TAG.fullmatch(tag) and is_digest(digest) else ""


def is_descriptor(part: object) -> bool:
    """Whether a part of a document describes content. Source: image-spec, "descriptor.md"."""
    if not isinstance(part, dict):
        return False
    digest, size = part.get("digest"), part.get("size")
    return isinstance(digest, str) and is_digest(digest) and type(size) is int and 0 <= size <= _LARGEST


def _names_platform(entry: object) -> bool:
    """Whether an entry of an index names its platform in texts, or none. Source: image-spec, "image-index.md"."""
    platform = (entry.get("platform") or {}) if isinstance(entry, dict) else None
    return isinstance(platform, dict) and all(
        isinstance(platform.get(key) or "", str) for key in ("os", "architecture", "variant")
    )


def _is_config(document: Mapping[str, Any]) -> bool:
    """Whether what is read of a configuration has its types. Source: image-spec, "config.md"."""
    texts = [document.get(key, "") for key in ("os", "architecture", "variant")]
    config = document.get("config") or {}
    labels = (config.get("Labels") or {}) if isinstance(config, dict) else None
    triggers = (config.get("OnBuild") or []) if isinstance(config, dict) else None
    if not isinstance(labels, dict) or not isinstance(triggers, list):
        return False
    return all(isinstance(text, str) for text in [*texts, *labels.values(), *triggers])


def _media_type(answer: requests.Response, body: bytes) -> str:
    """What a manifest says that it is, or else the answer. Source: image-spec, "mediaType" of a manifest."""
    said = str((_json_object(body) or {}).get("mediaType"))
    return said if said in _IS_INDEX else answer.headers.get("Content-Type", "").split(";")[0].strip()


def _is_redirected(answer: requests.Response) -> bool:
    return any(step.is_redirect for step in answer.history)


def _told(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _digest_like(digest: str, body: bytes) -> str:
    """The digest of a body by the algorithm of another digest."""
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


def _sha256(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _platform(entry: Mapping[str, Any]) -> tuple[str, str]:
    platform = entry.get("platform")
    return (platform.get("os", ""), platform.get("architecture", "")) if isinstance(platform, dict) else ("", "")


def _error_message(answer: requests.Response) -> str:
    """What the registry said. Source: distribution-spec, "Error codes"."""
    with contextlib.suppress(TypeError, AttributeError, LookupError):
        errors = (_json_object(answer.content) or {})["errors"]
        return "; ".join(str(error.get("message") or error.get("code")) for error in errors)[:_LONGEST_MESSAGE]
    return ""


def _is_thrown_away(manifest: Manifest) -> bool:
    """Whether a manifest was made to be removed with a tag."""
    return _REMOVED_TAG.encode() in manifest.body
