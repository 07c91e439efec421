"""Registries that keep to the specification, and those that do not: cases C10, C11, C22 and messages, by hand."""

from __future__ import annotations

import copy
import gzip
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.http_session import asked_pause
from aml_images_dagster.registry import copy as copying
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.interface import Manifest, NoAnswer
from aml_images_dagster.registry.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, OciRegistry, read_manifest
from aml_images_dagster.registry.platforms import manifests_below
from aml_images_dagster.registry.tokens import origin, read_challenges
from tests.emulators.hostile_registry import HostileRegistry
from tests.emulators.odd_registry import PASSWORD, USER, OddRegistry, State, Told, digest_of
from tests.registry.test_odd_answers import IMAGE, INDEX, OTHER, STATE
from tests.trust.files import files_in

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    import trustme

    from tests.emulators.odd_registry import Asked

NEW = b"a new blob"


@pytest.fixture
def server() -> Iterator[OddRegistry]:
    with OddRegistry() as server:
        server.begin(copy.deepcopy(STATE), lambda _, answer: answer())
        yield server


@pytest.fixture
def guarded() -> Iterator[OddRegistry]:
    with OddRegistry(guarded=True) as server:
        server.begin(copy.deepcopy(STATE), lambda _, answer: answer())
        yield server


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited before something is asked again; it is not."""
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=slept.append, time=time.time))
    return slept


def change(server: OddRegistry, kind: str, told: Callable[[Asked, Told], Told], first: int = 0) -> None:
    """Let the answers to one kind of request be others, from one of them on."""
    count = 0

    def changed(asked: Asked, answer: Callable[[], Told]) -> Told:
        nonlocal count
        if asked.kind != kind:
            return answer()
        count += 1
        return told(asked, answer()) if count > first else answer()

    server.change = changed


def with_headers(**headers: str) -> Callable[[Asked, Told], Told]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _, told: replace(told, headers=told.headers | named)


def without(*names: str) -> Callable[[Asked, Told], Told]:
    return lambda _, told: replace(told, headers={k: v for k, v in told.headers.items() if k not in names})


def reference(server: OddRegistry, tag: str = "1") -> Reference:
    return Reference(server.host, "a", tag)


# ---- C10: digests ----


@pytest.mark.parametrize("named", [OTHER, INDEX, f"sha256:{'0' * 64}", f"sha512:{'0' * 128}", "garbage", IMAGE.upper()])
@pytest.mark.parametrize("kind", ["HEAD manifest", "GET manifest"])
def test_c10_the_digest_of_something_else_is_not_pinned(server: OddRegistry, kind: str, named: str) -> None:
    change(server, kind, with_headers(Docker_Content_Digest=named))
    with pytest.raises(Unreachable, match=r"should be .* but is|which is not a digest"):
        OciRegistry(server.host).digest(reference(server))


@pytest.mark.parametrize("named", [OTHER, "garbage"])
def test_c10_what_a_put_answers_is_compared(server: OddRegistry, named: str) -> None:
    registry = OciRegistry(server.host)
    change(server, "PUT manifest", with_headers(Docker_Content_Digest=named))
    with pytest.raises(Unreachable, match=r"should be|which is not a digest"):
        registry.tag(reference(server), "new")
    change(server, "PUT upload", with_headers(Docker_Content_Digest=named))
    with pytest.raises(Unreachable, match=r"should be|which is not a digest"):
        registry.upload_blob("a", digest_of(NEW), NEW)
    change(server, "HEAD blob", with_headers(Docker_Content_Digest=named))
    with pytest.raises(Unreachable, match=r"should be|which is not a digest"):
        registry.has_blob("a", next(digest for _, digest in STATE.blobs))


def test_c10_a_registry_that_names_no_digests_is_read(server: OddRegistry) -> None:
    server.change = lambda _, answer: without("Docker-Content-Digest")(_, answer())
    registry = OciRegistry(server.host)
    assert registry.digest(reference(server)) == IMAGE
    registry.tag(reference(server), "new")
    registry.untag(reference(server, "new"))
    assert copy_image(registry, registry, reference(server).with_digest(INDEX), "t", ["new"]) == INDEX


def test_c10_a_tag_whose_content_is_known_costs_one_question(server: OddRegistry) -> None:
    registry = OciRegistry(server.host)
    for _ in range(3):
        assert registry.digest(reference(server)) == IMAGE
    assert server.seen == ["HEAD manifest", "GET manifest", "HEAD manifest", "HEAD manifest"]
    server.state.tags["a", "1"] = OTHER
    assert registry.digest(reference(server)) == OTHER
    assert server.seen[4:] == ["HEAD manifest", "GET manifest"]


def test_c10_a_tag_that_moves_between_the_questions_is_asked_for_again(server: OddRegistry) -> None:
    def move(_: Asked, told: Told) -> Told:
        server.state.tags["a", "1"] = OTHER
        return told

    change(server, "HEAD manifest", move)
    assert OciRegistry(server.host).digest(reference(server)) == OTHER


def test_c10_a_blob_with_a_longer_digest_is_verified_by_it(server: OddRegistry) -> None:
    import hashlib

    digest = f"sha512:{hashlib.sha512(NEW).hexdigest()}"
    server.state.blobs["a", digest] = NEW
    with OciRegistry(server.host).open_blob("a", digest) as blob:
        assert b"".join(blob) == NEW
    server.state.blobs["a", digest] = b"other"
    with (
        pytest.raises(Unreachable, match="a blob should be sha512:"),
        OciRegistry(server.host).open_blob("a", digest) as blob,
    ):
        b"".join(blob)


def test_c10_what_comes_behind_the_end_of_a_layer_is_verified_too(server: OddRegistry) -> None:
    """An archive may end before the blob does: what was read of it could be from another layer."""
    manifest = json.loads(STATE.manifests["a", IMAGE][1])
    digest = manifest["layers"][1]["digest"]
    other = gzip.decompress(STATE.blobs["a", manifest["layers"][0]["digest"]])
    server.state.blobs["a", digest] = other + b"\0" * 100_000
    with pytest.raises(Unreachable, match="a blob should be"):
        files_in(OciRegistry(server.host), reference(server), ["/old"])


# ---- C11: answers by the specification ----


def test_c11_an_upload_without_a_place_ends_before_anything_is_sent(server: OddRegistry) -> None:
    change(server, "POST upload", without("Location"))
    with pytest.raises(Unreachable, match=r"not from a registry \(its upload location is ''\)"):
        OciRegistry(server.host).upload_blob("a", digest_of(NEW), NEW)
    assert "PUT upload" not in server.seen


@pytest.mark.parametrize("place", ["http://[bad", "file:///etc/passwd", "ftp://x/", "http://h:99999/", "http://", "#x"])
def test_c11_a_place_that_is_none(server: OddRegistry, place: str) -> None:
    change(server, "POST upload", with_headers(Location=place))
    with pytest.raises(Unreachable, match=r"not from a registry|HTTP 404"):
        OciRegistry(server.host).upload_blob("a", digest_of(NEW), NEW)


@pytest.mark.parametrize(("kind", "status"), [("POST upload", s) for s in (200, 201, 204)])
def test_c11_an_upload_that_does_not_begin(server: OddRegistry, kind: str, status: int) -> None:
    change(server, kind, lambda _, told: replace(told, status=status))
    with pytest.raises(Unreachable, match=f"HTTP {status} where 202 is the answer"):
        OciRegistry(server.host).upload_blob("a", digest_of(NEW), NEW)


@pytest.mark.parametrize("status", [200, 202, 204, 206, 299])
def test_c11_not_every_success_is_a_stored_blob(server: OddRegistry, status: int) -> None:
    change(server, "PUT upload", lambda _, told: replace(told, status=status))
    with pytest.raises(Unreachable, match=f"HTTP {status} where 201 is the answer"):
        OciRegistry(server.host).upload_blob("a", digest_of(NEW), NEW)


def test_c11_a_blob_that_is_said_to_be_stored_has_to_be_there(server: OddRegistry) -> None:
    server.change = lambda asked, answer: Told(201) if asked.kind == "PUT upload" else answer()
    with pytest.raises(Unreachable, match=f"said that it stored blob {digest_of(NEW)}, and does not have it"):
        OciRegistry(server.host).upload_blob("a", digest_of(NEW), NEW)


@pytest.mark.parametrize("form", ["{path}", "http://{host}{path}", "//{host}{path}", "{path}#fragment", "{path}&a=b#c"])
def test_c11_where_an_upload_goes_on_has_many_forms(guarded: OddRegistry, form: str) -> None:
    def at(_: Asked, told: Told) -> Told:
        place = form.format(path=told.headers.get("Location", ""), host=guarded.host)
        return replace(told, headers=told.headers | {"Location": place}) if told.status == 202 else told

    change(guarded, "POST upload", at)
    OciRegistry(guarded.host, RegistryLogin(USER, PASSWORD)).upload_blob("a", digest_of(NEW), NEW)
    assert guarded.state.blobs["a", digest_of(NEW)] == NEW


@pytest.mark.parametrize("place", ["http://{other}/up", "http://x:y@{host}/v2/a/blobs/uploads/1", "//{other}/up"])
def test_c11_no_login_goes_to_another_host(guarded: OddRegistry, place: str) -> None:
    def at(_: Asked, told: Told) -> Told:
        named = place.format(other=guarded.other_host, host=guarded.host)
        return replace(told, headers=told.headers | {"Location": named}) if told.status == 202 else told

    change(guarded, "POST upload", at)
    with pytest.raises(Unreachable):
        OciRegistry(guarded.host, RegistryLogin(USER, PASSWORD)).upload_blob("a", digest_of(NEW), NEW)
    for asked in guarded.elsewhere:
        assert asked.path.endswith(f"?digest={digest_of(NEW)}")
        assert "Authorization" not in asked.headers


def test_c11_no_login_is_sent_without_encryption_to_the_same_host() -> None:
    assert origin("https://a.example/x") == origin("https://A.example:443/y") == ("https", "a.example", 443)
    assert origin("http://a.example/x") != origin("https://a.example/x")
    assert origin("https://a.example:5000") != origin("https://a.example")
    assert origin("http://[bad") == origin("http://h:99999/") == ("", "", 0)


@pytest.fixture
def encrypted(authority: trustme.CA) -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_c11_nothing_leads_from_https_to_http(encrypted: ssl.SSLContext) -> None:
    with HostileRegistry(lambda exchange: exchange.reply()) as plain:

        def lead(exchange: Any) -> None:
            if exchange.command == "POST":
                exchange.reply(202, Location=f"http://{plain.host}/up")
            else:
                exchange.reply(307, Location=f"http://{plain.host}{exchange.path}")

        with HostileRegistry(lead, certificate=encrypted) as registry:
            client = OciRegistry(registry.host, insecure=False)
            with pytest.raises(Unreachable, match=f"leads from https to http://{plain.host}.*, which is not encrypted"):
                client.manifest(Reference(registry.host, "a", "1"))
            with pytest.raises(Unreachable, match="not from a registry"):
                client.upload_blob("a", digest_of(NEW), NEW)
        assert plain.seen == []


@pytest.mark.parametrize(
    "link",
    [
        '<{path}?n=2&last=1>; rel="next"',
        "<{path}?n=2&last=1>; rel=next",
        "<{path}?n=2&last=1>;REL=NEXT",
        '<?n=2&last=1>; title="a, b"; rel="prev next"',
        '<http://internal.example:8080{path}?n=2&last=1>; rel="next"',
        '<{path}?n=2&last=0>; rel="first", <{path}?n=2&last=1>; rel="next"',
    ],
)
def test_c11_a_list_is_read_to_its_end_however_its_pages_are_linked(server: OddRegistry, link: str) -> None:
    """Behind a proxy a registry may name itself as only it knows itself."""

    def told(asked: Asked, told: Told) -> Told:
        if "last" in asked.path:
            return told
        named = link.replace("{path}", "/v2/a/tags/list")
        return replace(told, headers=told.headers | {"Link": named}, body=b'{"tags": ["1"]}')

    change(server, "GET list", told)
    assert sorted(OciRegistry(server.host).tags("a")) == STATE.tags_of("a")


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ('<{path}>; rel="next"', "HTTP 404|there before"),
        ("garbage", "its Link is 'garbage'"),
        ('<http://[bad>; rel="next"', "its Link is"),
        ('</nowhere>; rel="next"', "HTTP 404"),
        ('</v2/>; rel="next"', "not from a registry"),
        ('</v2/a/tags/list?n=100>; rel="next"', "there before"),
    ],
)
def test_c11_a_list_that_is_cut_is_an_error(server: OddRegistry, link: str, why: str) -> None:
    change(server, "GET list", lambda _, told: replace(told, headers=told.headers | {"Link": link}))
    with pytest.raises(Unreachable, match=why):
        OciRegistry(server.host).tags("a")


@pytest.mark.parametrize("page", [b"{}", b'{"manifests": null}', b'{"manifests": [{}]}', b"[]", b"<html>"])
def test_c11_a_page_without_referrers_is_not_an_empty_list(server: OddRegistry, page: bytes) -> None:
    """A signature would be missing."""
    change(server, "GET referrers", lambda _, told: replace(told, body=page))
    with pytest.raises(Unreachable, match="not from a registry"):
        OciRegistry(server.host).referrers("a", IMAGE)


def test_c11_a_catalog_that_a_registry_does_not_have_is_not_empty(server: OddRegistry) -> None:
    change(server, "GET list", lambda *_: Told(404))
    with pytest.raises(Unreachable, match=r"for its repositories.*HTTP 404"):
        OciRegistry(server.host).repositories()
    assert OciRegistry(server.host).tags("none") == []


@pytest.mark.parametrize("page", [b"{}", b'{"tags": ["../x"]}', b'{"tags": [""]}', b'{"tags": {"1": 1}}', b"null"])
def test_c11_a_page_without_names_of_tags_is_no_page(server: OddRegistry, page: bytes) -> None:
    change(server, "GET list", lambda _, told: replace(told, body=page, headers={}), first=1)
    with pytest.raises(Unreachable, match="not from a registry"):
        OciRegistry(server.host).tags("a")


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 304])
def test_c11_only_200_is_the_answer_to_a_question(server: OddRegistry, status: int) -> None:
    server.change = lambda _, answer: replace(answer(), status=status)
    registry = OciRegistry(server.host)
    digest = next(digest for _, digest in STATE.blobs)
    for ask in (
        lambda: registry.ping(),
        lambda: registry.digest(reference(server)),
        lambda: registry.manifest(reference(server)),
        lambda: registry.has_blob("a", digest),
        lambda: registry.tags("a"),
        lambda: registry.open_blob("a", digest).__enter__(),
    ):
        with pytest.raises(Unreachable, match=f"HTTP {status} where 200 is the answer"):
            ask()


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ('Bearer realm="https://a/t",service="x, y"', [("bearer", {"realm": "https://a/t", "service": "x, y"})]),
        ("bearer REALM=https://a/t", [("bearer", {"realm": "https://a/t"})]),
        ('Basic realm="a, Bearer b"', [("basic", {"realm": "a, Bearer b"})]),
        ('Basic realm=x, Bearer realm="t"', [("basic", {"realm": "x"}), ("bearer", {"realm": "t"})]),
        ("Negotiate YWJj==, Basic realm=x", [("negotiate", {"ywjj": "="}), ("basic", {"realm": "x"})]),
        (r'Bearer realm="a\"b"', [("bearer", {"realm": 'a"b'})]),
        ('Bearer realm = "t" , scope = "s"', [("bearer", {"realm": "t", "scope": "s"})]),
        ("Bearer", [("bearer", {})]),
        (",, Basic ,,", [("basic", {})]),
        ("", []),
        ('"', []),
    ],
)
def test_c11_challenges_are_read_as_http_writes_them(header: str, challenges: list[Any]) -> None:
    assert read_challenges(header) == challenges


@pytest.mark.parametrize(
    ("challenge", "said"),
    [
        ("Bearer", "names '' as its token server"),
        ('Bearer realm="/token"', "names '/token' as its token server"),
        ('Bearer realm="http://[bad"', "as its token server"),
        ("Negotiate", "the login is missing or wrong"),
        ("", "the login is missing or wrong"),
    ],
)
def test_c11_a_challenge_that_nobody_can_answer(guarded: OddRegistry, challenge: str, said: str) -> None:
    server = guarded
    server.change = lambda _, answer: replace(answer(), headers={"WWW-Authenticate": challenge})
    with pytest.raises(Unreachable, match=said):
        OciRegistry(server.host, RegistryLogin(USER, PASSWORD)).digest(reference(server))


@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Bearer realm="nowhere", Basic realm="x"', 'basic REALM="x"'])
def test_c11_a_password_of_any_letters_is_sent(guarded: OddRegistry, challenge: str) -> None:
    given: list[str] = []

    def answer_basic(asked: Asked, answer: Callable[[], Told]) -> Told:
        if login := asked.headers.get("Authorization"):
            given.append(login)
            return Told(200, {"Docker-Content-Digest": IMAGE}, STATE.manifests["a", IMAGE][1])
        return Told(401, {"WWW-Authenticate": challenge})

    guarded.change = answer_basic
    OciRegistry(guarded.host, RegistryLogin("robot", "pässwörd-日本")).digest(reference(guarded))
    assert set(given) == {"Basic cm9ib3Q6cMOkc3N3w7ZyZC3ml6XmnKw="}


# ---- C22: odd manifests ----


DIGEST = f"sha256:{'0' * 64}"
BLOB = {"digest": DIGEST, "size": 1}
IMAGE_DOCUMENT = {"config": BLOB, "layers": [BLOB]}


@pytest.mark.parametrize(
    "document",
    [
        {**IMAGE_DOCUMENT, "manifests": [BLOB]},
        {"manifests": [BLOB], "config": BLOB},
        {**IMAGE_DOCUMENT, "mediaType": OCI_INDEX},
        {"manifests": [BLOB], "mediaType": DOCKER_MANIFEST},
        {"config": {**BLOB, "size": 2**63}, "layers": []},
        {"config": {**BLOB, "size": -1}, "layers": []},
        {"config": {**BLOB, "size": True}, "layers": []},
        {"config": {**BLOB, "size": 1.0}, "layers": []},
        {"config": {**BLOB, "digest": [DIGEST]}, "layers": []},
        {"config": [], "layers": []},
        {"layers": [BLOB]},
        {"layers": {}, "config": BLOB},
        {"manifests": {}},
        {"manifests": [[]]},
        {"manifests": [{**BLOB, "platform": ["linux"]}]},
        {"manifests": [{**BLOB, "platform": "linux/amd64"}]},
        {"manifests": [{**BLOB, "platform": {"os": "linux", "architecture": ["arm"]}}]},
        {"mediaType": ["x"]},
        {},
    ],
)
def test_c22_what_is_neither_an_image_nor_an_index(document: object) -> None:
    body = json.dumps(document).encode()
    with pytest.raises(BadInput, match="neither an image nor an index"):
        read_manifest(Manifest(digest_of(body), "", body))


@pytest.mark.parametrize(
    "body", [b"", b"null", b"5", b"[" * 100_000, b'{"a":' * 9999, b"\xff", b'{"size": ' + b"9" * 5000]
)
def test_c22_what_is_no_document(body: bytes) -> None:
    with pytest.raises(BadInput, match="neither an image nor an index"):
        read_manifest(Manifest(digest_of(body), OCI_MANIFEST, body))


def test_c22_the_media_type_in_a_manifest_is_the_one_that_counts(server: OddRegistry) -> None:
    registry = OciRegistry(server.host)
    change(server, "GET manifest", with_headers(Content_Type="text/plain; charset=utf-8"))
    assert registry.existing(reference(server)).media_type == OCI_MANIFEST
    registry.tag(reference(server), "new")
    assert server.state.manifests["a", IMAGE][0] == OCI_MANIFEST


def nested(depth: int, state: State) -> str:
    """An index of an index … of the image."""
    digest, media_type = IMAGE, OCI_MANIFEST
    for _ in range(depth):
        entry = {"mediaType": media_type, "digest": digest, "size": 1}
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry, entry]}
        digest, media_type = state.push_manifest("a", OCI_INDEX, document, "nested"), OCI_INDEX
    return digest


def test_c22_nested_indexes_are_read_and_copied(server: OddRegistry) -> None:
    """Each manifest once, although every index names its own twice."""
    digest = nested(7, server.state)
    registry = OciRegistry(server.host)
    assert registry.size_bytes(reference(server, "nested")) == registry.size_bytes(reference(server))
    copy_image(registry, registry, reference(server).with_digest(digest), "t", ["new"])
    assert server.state.tags["t", "new"] == digest
    assert len(server.state.manifests) == len(STATE.manifests) + 7 + 8
    assert server.seen.count("PUT manifest") == 9
    server.seen.clear()
    assert len(manifests_below(registry, reference(server).with_digest(digest))) == 7
    assert server.seen.count("GET manifest") == 8


def test_c22_indexes_without_end_are_an_error(server: OddRegistry) -> None:
    digest = nested(30, server.state)
    registry = OciRegistry(server.host)
    with pytest.raises(BadInput, match="indexes are nested more than 8 deep"):
        registry.size_bytes(reference(server, "nested"))
    with pytest.raises(BadInput, match="indexes are nested more than 8 deep"):
        copy_image(registry, registry, reference(server).with_digest(digest), "t", ["new"])
    assert ("t", "new") not in server.state.tags


@pytest.mark.parametrize(
    "config",
    [{"os": 5}, {"config": [1]}, {"config": {"Labels": [1]}}, {"config": {"Labels": {"a": 5}}}, {"architecture": None}],
)
def test_c22_a_configuration_of_other_types(server: OddRegistry, config: object) -> None:
    blob = server.state.push_blob("a", json.dumps(config).encode())
    server.state.push_manifest("a", OCI_MANIFEST, {"schemaVersion": 2, "config": blob, "layers": []}, "odd")
    with pytest.raises(Unreachable, match=r"for the configuration of .*not from a registry"):
        OciRegistry(server.host).config(reference(server, "odd"))


@pytest.mark.parametrize("length", ["9" * 5000, "\xb2", "-1", "abc", ""])
def test_c22_the_length_of_a_blob_is_what_is_there(server: OddRegistry, length: str) -> None:
    digest = next(digest for _, digest in STATE.blobs)
    change(server, "GET blob", with_headers(Content_Length=length))
    try:
        with OciRegistry(server.host).open_blob("a", digest) as blob:
            assert b"".join(blob) == STATE.blobs["a", digest]
    except Unreachable as error:
        assert "GET" not in str(error)


def test_c22_a_layer_that_is_damaged_behind_its_beginning(server: OddRegistry) -> None:
    whole = STATE.blobs["a", json.loads(STATE.manifests["a", IMAGE][1])["layers"][1]["digest"]]
    for content in (whole[:-20], whole[: len(whole) // 2] + b"\0" * 99, b"\x1f\x8b" + b"x" * 600, b"BZh9" + b"x" * 600):
        layer = server.state.push_blob("a", content)
        document = {"schemaVersion": 2, "config": layer, "layers": [layer]}
        server.state.push_manifest("a", OCI_MANIFEST, document, "odd")
        assert files_in(OciRegistry(server.host), reference(server, "odd"), ["/none"]) == {"/none": False}


# ---- messages ----


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("pause", ["3600", "99999999999", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_pause_that_is_too_long_is_not_begun(
    server: OddRegistry, slept: list[float], pause: str, status: int
) -> None:
    server.change = lambda *_: Told(status, {"Retry-After": pause})
    with pytest.raises(Unreachable, match=rf"come back in \d+ min \(HTTP {status}\)") as failed:
        OciRegistry(server.host).digest(reference(server))
    assert not isinstance(failed.value, NoAnswer)
    assert (slept, len(server.seen)) == ([], 1)


def test_a_pause_is_told_in_minutes(server: OddRegistry, slept: list[float]) -> None:
    server.change = lambda *_: Told(429, {"Retry-After": "3600"})
    with pytest.raises(Unreachable, match=r"too many requests, come back in 60 min \(HTTP 429\)"):
        OciRegistry(server.host).tags("a")


@pytest.mark.parametrize(
    "pause", ["soon", "-5", "", "1e3", "9" * 5000, "Fri, 99 Foo 2100", "Fri, 31 Dec 1999 23:59:59 GMT"]
)
def test_a_pause_that_says_nothing_is_a_short_one(server: OddRegistry, slept: list[float], pause: str) -> None:
    server.change = lambda *_: Told(429, {"Retry-After": pause})
    with pytest.raises(Unreachable, match=r"too many requests \(HTTP 429\)") as failed:
        OciRegistry(server.host).digest(reference(server))
    assert not isinstance(failed.value, NoAnswer), "it has answered"
    assert sum(slept) < 10
    assert len(server.seen) == 5
    change(server, "HEAD manifest", lambda _, told: told)
    assert OciRegistry(server.host).digest(reference(server)) == IMAGE


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3), (" 7 ", 7), ("0", 0), ("soon", 0), ("-5", 0), ("\xb2", 0), ("9" * 5000, 0)]
)
def test_the_pause_that_is_asked_for(header: str, seconds: float) -> None:
    assert asked_pause({"Retry-After": header}) == seconds
    assert asked_pause({}) == 0


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_storage_host_that_refuses_is_not_called_the_registry(guarded: OddRegistry, status: int) -> None:
    digest = next(digest for _, digest in STATE.blobs)
    with HostileRegistry(lambda exchange: exchange.reply(status, b"no")) as storage:

        def lead(_: Asked, told: Told) -> Told:
            there = f"http://{storage.host}/signed?key=x"
            return replace(told, status=307, headers={"Location": there}) if told.status == 200 else told

        change(guarded, "GET blob", lead)
        registry = OciRegistry(guarded.host, RegistryLogin(USER, PASSWORD))
        said = rf"{storage.host}, to which the registry leads, refuses \(HTTP {status}\)"
        with pytest.raises(Unreachable, match=said) as failed, registry.open_blob("a", digest):
            pass
    assert f"It is not the login at {guarded.host} that is refused" in failed.value.hint


def test_a_circle_of_redirects_is_said(server: OddRegistry) -> None:
    server.change = lambda asked, _: Told(307, {"Location": asked.path})
    with pytest.raises(Unreachable, match="the registry redirects without end, at last to http://") as failed:
        OciRegistry(server.host).digest(reference(server))
    assert "Is it running" not in failed.value.hint
    assert not isinstance(failed.value, NoAnswer)


def elsewhere(status: int) -> Callable[[Asked, Callable[[], Told]], Told]:
    """Lead whoever writes a manifest to another address."""

    def lead(asked: Asked, answer: Callable[[], Told]) -> Told:
        leads = asked.kind == "PUT manifest" and not asked.path.endswith("?there")
        return Told(status, {"Location": f"{asked.path}?there"}) if leads else answer()

    return lead


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_loses_what_is_sent_is_not_followed(server: OddRegistry, status: int) -> None:
    server.change = elsewhere(status)
    said = rf"it answers PUT by a redirect that loses what is sent \(HTTP {status}\), to \S+\?there"
    with pytest.raises(Unreachable, match=said) as failed:
        OciRegistry(server.host).tag(reference(server), "new")
    assert failed.value.where == server.host
    assert ("a", "new") not in server.state.tags


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_repeats_what_is_sent_is_followed(server: OddRegistry, status: int) -> None:
    server.change = elsewhere(status)
    OciRegistry(server.host).tag(reference(server), "new")
    assert server.state.tags["a", "new"] == server.state.tags["a", "1"]


@pytest.mark.parametrize("status", [400, 401, 403, 405, 500])
def test_a_tag_stays_with_its_image_where_deleting_is_refused(
    server: OddRegistry, slept: list[float], status: int
) -> None:
    server.change = lambda asked, answer: Told(status) if asked.method == "DELETE" else answer()
    with pytest.raises(Unreachable, match=f"; the tag stands for {IMAGE} as before"):
        OciRegistry(server.host).untag(reference(server))
    assert server.state.tags["a", "1"] == IMAGE


def test_a_tag_that_cannot_be_given_back_is_said(server: OddRegistry) -> None:
    def refuse(asked: Asked, answer: Callable[[], Told]) -> Told:
        is_back = asked.kind == "PUT manifest" and digest_of(asked.body) == IMAGE
        return Told(405) if asked.method == "DELETE" or is_back else answer()

    server.change = refuse
    with pytest.raises(Unreachable, match=f"; the tag may stand for an empty image now, and no longer for {IMAGE}"):
        OciRegistry(server.host).untag(reference(server))


@pytest.mark.parametrize("place", ["http://[bad", "http://h:99999/", "ftp://x/", "http://" + "a" * 70 + ".x/", "\xff"])
def test_a_redirect_to_nowhere_is_said(server: OddRegistry, place: str) -> None:
    server.change = lambda *_: Told(307, {"Location": place})
    with pytest.raises(Unreachable, match=r"it leads to no address|HTTP 404|redirects without end|does not answer"):
        OciRegistry(server.host).digest(reference(server))


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"errors": 5}', b'{"errors": [5]}', b'{"errors": [{"message": 5}]}']
)
def test_an_error_without_words(server: OddRegistry, body: bytes) -> None:
    server.change = lambda *_: Told(418, {}, body)
    with pytest.raises(Unreachable, match="HTTP 418"):
        OciRegistry(server.host).digest(reference(server))


def test_an_error_of_many_words_is_cut(server: OddRegistry) -> None:
    server.change = lambda *_: Told(418, {}, json.dumps({"errors": [{"message": "x" * 100_000}]}).encode())
    with pytest.raises(Unreachable) as failed:
        OciRegistry(server.host).manifest(reference(server))
    assert len(failed.value.what) < 1000


@pytest.mark.parametrize("page", [b"<html>login</html>", b"{}", b"[]", b"", b"\xff"])
def test_c10_a_page_of_a_proxy_is_not_pinned(page: bytes) -> None:
    with HostileRegistry(lambda exchange: exchange.reply(body=page)) as proxy:
        client = OciRegistry(proxy.host)
        with pytest.raises(Unreachable, match="not from a registry"):
            client.digest(Reference(proxy.host, "a", "1"))
        for ask in (client.size_bytes, client.config, lambda reference: client.tag(reference, "new")):
            with pytest.raises(BadInput, match="neither an image nor an index"):
                ask(Reference(proxy.host, "a", "1"))


@pytest.mark.parametrize(
    "digest", ["garbage", "1", "latest", "../../../v2/b/c/manifests/1", f"sha256:{'A' * 64}", "sha256:"]
)
def test_c10_a_digest_of_a_record_that_is_none_is_not_asked_for(server: OddRegistry, digest: str) -> None:
    """It could be a tag, or lead elsewhere."""
    registry = OciRegistry(server.host)
    odd = Reference(server.host, "a", digest=digest)
    asking: list[Callable[[Reference], object]] = [registry.digest, registry.manifest, registry.config, registry.delete]
    asking += [lambda reference: registry.tag(reference, "new"), lambda it: copy_image(registry, registry, it, "t")]
    for ask in asking:
        with pytest.raises(BadInput, match=r"is not a digest|copied by digest"):
            ask(odd)
    assert server.seen == []


@pytest.mark.parametrize(("pause", "made"), [("7", [7]), ("soon", [1]), ("3600", None)])
def test_a_blob_is_sent_again_after_the_pause_that_is_asked_for(
    server: OddRegistry, monkeypatch: pytest.MonkeyPatch, pause: str, made: list[float] | None
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(copying, "time", SimpleNamespace(sleep=pauses.append))
    busy = [Told(429, {"Retry-After": pause})]
    server.change = lambda asked, answer: busy.pop() if busy and asked.kind == "PUT upload" else answer()
    registry = OciRegistry(server.host)
    if made is None:
        with pytest.raises(Unreachable, match="come back in 60 min"):
            copy_image(registry, registry, reference(server).with_digest(OTHER), "t")
    else:
        copy_image(registry, registry, reference(server).with_digest(OTHER), "t")
    assert pauses == (made or [])
