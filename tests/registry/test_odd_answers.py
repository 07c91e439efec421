"""A registry that answers oddly in every field that it can: generated, not picked by hand.

Whatever one of its answers is: the operation has the right result, or there is one clear error. Never a wrong digest, a
list that is cut, half of an image under a tag, a traceback, a login at another host, or a wait without end.

What no client can tell is no oddity: that what is there is absent, that a list has no more pages, or a whole answer
that is the right one of something else.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import tarfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from aml_images_dagster import http_session
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.errors import BadInput, FactoryError, Unreachable
from aml_images_dagster.registry import copy as copying
from aml_images_dagster.registry import oci
from aml_images_dagster.registry.copy import CopyingImporter, copy_image
from aml_images_dagster.registry.oci import OCI_INDEX, OCI_MANIFEST, OciRegistry, read_manifest
from aml_images_dagster.registry.platforms import images_of, manifests_below
from aml_images_dagster.registry.resolution import BaseResolver
from tests.emulators.odd_registry import PASSWORD, USER, Asked, OddRegistry, State, Told, digest_of
from tests.trust.files import files_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.emulators.odd_registry import Change

EXAMPLES = {"long": 20_000}.get(settings.get_current_profile_name(), 600)
LONGEST_SECONDS = 30


def _layer(*names: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    return gzip.compress(content.getvalue(), mtime=0)


CONFIG = {"os": "linux", "architecture": "amd64", "config": {"Labels": {"name": "value"}}}
STATE = State()
_config = STATE.push_blob("a", json.dumps(CONFIG).encode())
_layers = [STATE.push_blob("a", _layer(*names)) for names in (("old", "kept"), ("licenses/notice", ".wh.old"))]
_image = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": _config, "layers": _layers}
IMAGE = STATE.push_manifest("a", OCI_MANIFEST, _image, "1", "latest", "20260101.v1", "20260101.v10")
OTHER = STATE.push_manifest("a", OCI_MANIFEST, {**_image, "layers": _layers[:1]}, "2")
_entry = {"mediaType": OCI_MANIFEST, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}}
INDEX = STATE.push_manifest(
    "a",
    OCI_INDEX,
    {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {**_entry, "digest": OTHER, "platform": {"os": "linux", "architecture": "arm64"}},
            {**_entry, "digest": IMAGE},
        ],
    },
    "index",
)
_subject = {"mediaType": OCI_MANIFEST, "digest": IMAGE, "size": 1}
ATTACHED = STATE.push_manifest("a", OCI_MANIFEST, {**_image, "layers": [], "subject": _subject})
for _name in ("b/c", "d", "e", "f"):
    STATE.push_blob(_name, b"x")
SIZE = sum(int(blob["size"]) for blob in (_config, *_layers))
NEW = b"a new blob"
PATHS = ("/licenses/notice", "/old", "/kept", "/none")


@dataclass(frozen=True)
class World:
    """What an operation works with, before and after."""

    registry: OciRegistry
    server: OddRegistry

    @property
    def state(self) -> State:
        return self.server.state

    def named(self, version: str, repository: str = "a") -> Reference:
        reference = Reference(self.server.host, repository)
        return reference.with_digest(version) if ":" in version else reference.with_tag(version)


def _is(expected: Any) -> Callable[[World, Any], bool]:
    return lambda _, found: bool(found == expected)


def _has_tag(repository: str, tag: str, digest: str) -> Callable[[World, Any], bool]:
    return lambda world, _: world.state.tags.get((repository, tag)) == digest


def _untagged(world: World, _: Any) -> bool:
    state = world.state
    others = {tag: digest for tag, digest in STATE.tags.items() if tag != ("a", "1")}
    return state.tags == others and ("a", IMAGE) in state.manifests


def _deleted(world: World, _: Any) -> bool:
    return ("a", OTHER) not in world.state.manifests and ("a", "2") not in world.state.tags


def _copied(world: World, _: Any) -> bool:
    state = world.state
    blobs = [blob["digest"] for blob in (_config, *_layers)]
    return (
        all(state.manifests.get(("t", digest)) == STATE.manifests["a", digest] for digest in (IMAGE, OTHER, INDEX))
        and all(state.blobs.get(("t", digest)) == STATE.blobs["a", digest] for digest in blobs)
        and state.tags.get(("t", "new")) == INDEX
    )


def _resolver(world: World) -> BaseResolver:
    return BaseResolver({}, None, lambda _: world.registry)


def _observed(world: World) -> Any:
    name = f"{world.server.host}/a:1"
    found = _resolver(world).observe([name])[name]
    if isinstance(found, BadInput):
        raise found
    return found.digest


def _import(world: World) -> None:
    CopyingImporter(world.registry, world.registry).import_image(
        world.named(INDEX), Reference(world.server.host, "t", "new"), replace=False
    )


def _read(world: World) -> bytes:
    with world.registry.open_blob("a", _config["digest"]) as blob:
        return b"".join(blob)


OPERATIONS: dict[str, tuple[Callable[[World], Any], Callable[[World, Any], bool]]] = {
    "ping": (lambda w: w.registry.ping(), _is(None)),
    "digest of a tag": (lambda w: w.registry.digest(w.named("1")), _is(IMAGE)),
    "digest of a digest": (lambda w: w.registry.digest(w.named(IMAGE)), _is(IMAGE)),
    "digest of nothing": (lambda w: w.registry.digest(w.named("none")), _is(None)),
    "manifest": (
        lambda w: (lambda m: read_manifest(m) and (m.digest, m.media_type, m.body))(w.registry.existing(w.named("1"))),
        _is((IMAGE, *STATE.manifests["a", IMAGE])),
    ),
    "manifest of nothing": (lambda w: (m := w.registry.manifest(w.named("none"))) and read_manifest(m), _is(None)),
    "config": (lambda w: w.registry.config(w.named("1")), _is(CONFIG)),
    "size": (lambda w: w.registry.size_bytes(w.named("index")), _is(SIZE)),
    "repositories": (lambda w: w.registry.repositories(), _is(STATE.repositories())),
    "tags": (lambda w: w.registry.tags("a"), _is(STATE.tags_of("a"))),
    "referrers": (lambda w: w.registry.referrers("a", IMAGE), _is(STATE.attached("a", IMAGE))),
    "no referrers": (lambda w: w.registry.referrers("a", OTHER), _is([])),
    "images of an index": (
        lambda w: {platform: image.digest for platform, image in images_of(w.registry, w.named("index")).items()},
        _is({"linux/amd64": IMAGE, "linux/arm64": OTHER}),
    ),
    "images of an image": (
        lambda w: [each.digest for each in images_of(w.registry, w.named("1")).values()],
        _is([IMAGE]),
    ),
    "manifests below": (lambda w: manifests_below(w.registry, w.named(INDEX)), _is((OTHER, IMAGE))),
    "tags of nothing": (lambda w: w.registry.tags("none"), _is([])),
    "tag": (lambda w: w.registry.tag(w.named("1"), "new"), _has_tag("a", "new", IMAGE)),
    "untag": (lambda w: w.registry.untag(w.named("1")), _untagged),
    "delete a tag": (lambda w: w.registry.delete(w.named("2")), _deleted),
    "delete a digest": (lambda w: w.registry.delete(w.named(OTHER)), _deleted),
    "has a blob": (lambda w: w.registry.has_blob("a", _config["digest"]), _is(True)),
    "has no blob": (lambda w: w.registry.has_blob("a", digest_of(NEW)), _is(False)),
    "read a blob": (_read, _is(STATE.blobs["a", _config["digest"]])),
    "upload a blob": (
        lambda w: w.registry.upload_blob("a", digest_of(NEW), NEW),
        lambda w, _: w.state.blobs.get(("a", digest_of(NEW))) == NEW,
    ),
    "copy": (lambda w: copy_image(w.registry, w.registry, w.named(INDEX), "t", ["new"]), _copied),
    "import": (_import, _copied),
    "files": (lambda w: files_in(w.registry, w.named("1"), PATHS), _is(dict(zip(PATHS, (1, 0, 1, 0), strict=True)))),
    "resolve": (lambda w: _resolver(w).resolve(f"{w.server.host}/a:1").digest, _is(IMAGE)),
    "resolve a template": (
        lambda w: _resolver(w).resolve(f"{w.server.host}/a:{{{{latest-image-tag:\\d+\\.v\\d+}}}}").pull,
        lambda w, found: bool(found == f"{w.server.host}/a@{IMAGE}"),
    ),
    "observe": (_observed, _is(IMAGE)),
}


# ---- oddities ----

Oddity = Any
"""Makes an odd answer: `(world, asked, answer) -> Told`."""

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
DIGESTS = st.sampled_from(
    [
        *(
            "",
            "garbage",
            "sha256:",
            f"sha256:{'0' * 63}",
            f"sha256:{'A' * 64}",
            f"md5:{'0' * 32}",
            f"sha256:{'0' * 64}",
        ),
        *(OTHER, INDEX, f"{IMAGE}, {IMAGE}", f'"{IMAGE}"', f"sha512:{'0' * 128}", IMAGE.upper(), "9" * 5000),
    ]
)
PLACES = st.sampled_from(
    [
        *("", "/", "?", "#x", "x", "/v2/", "/nowhere", "//", "http://", "https://", "http://[bad", "http://h:99999/"),
        *(
            "file:///etc/passwd",
            "ftp://127.0.0.1/x",
            "javascript:1",
            "\xff\xfe",
            "http://127.0.0.1:9/x",
            "//127.0.0.1:9",
        ),
        *(f"http://{'a' * 70}.example/", "{own}/v2/", "{own}{path}", "{own}{path}?again", "{path}#x", "{other}/x"),
        *("{other}{path}", "http://robot:right-password@{otherhost}/x", "https://{host}/x", "http://x:y@{host}{path}"),
        "/" + "x" * 3000,
    ]
)
LINKS = st.one_of(
    st.sampled_from(
        [
            *("", "<>", "<", "garbage", ",", ";", '<{path}>; rel="next"', "{path}; rel=next", '</x>; rel="last"'),
            *('<{other}{path}>; rel="next"', '<http://[bad>; rel="next"', '<file:///x>; rel="next"', '<x>; rel="next'),
            *('<{path}?n=2&last=1>; REL="NEXT"', '<{path}?last=0>; title="a,b"; rel="next prev"', "<{path}>"),
            *('<{path}?n=2&last=>; rel="next"', '<#>; rel="next"', "<?last=%ff>; rel=next", "<  >; rel=next"),
        ]
    ),
    TEXTS,
)
CHALLENGES = st.one_of(
    st.sampled_from(
        [
            *("", "Bearer", "Basic", "Negotiate", "Negotiate YWJj==, Basic realm=x", "Bearer realm", "Bearer realm="),
            *('Bearer realm="{other}/token"', 'Bearer realm="{own}/token"', "bearer REALM={own}/token"),
            *(
                'Bearer realm="http://[bad"',
                'Bearer realm="{own}/token',
                'Bearer realm="file:///x"',
                'Basic realm="a, Bearer b"',
            ),
            *('Basic realm="x", Bearer realm="{own}/token",service="a, b"', 'Bearer realm="/token"', "Bearer  ,, ,"),
            *(
                'Digest nonce="x", Bearer realm="{own}/token"',
                'Bearer realm="{own}/to\\ken"',
                "=,=",
                '"',
                "Bearer error=x",
            ),
            'Bearer realm="http://h:99999/token"',
        ]
    ),
    TEXTS,
)
PAUSES = st.sampled_from(
    [
        *("", "0", "-5", "soon", "3600", "99999999999", "9" * 5000, "1e3", "20.5", "\xb2", "Fri, 99 Foo 2100"),
        *("Fri, 31 Dec 2100 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 99999999 23:59:59 GMT"),
    ]
)
LENGTHS = st.sampled_from(["", "-1", "0", "1", "abc", "99999", "9" * 30, "9" * 5000, "2, 2", "\xb2", "0x10"])
HEADERS: dict[str, Any] = {
    "Docker-Content-Digest": DIGESTS,
    "Location": PLACES,
    "Link": LINKS,
    "WWW-Authenticate": CHALLENGES,
    "Retry-After": PAUSES,
    "Content-Length": LENGTHS,
    "Content-Type": st.one_of(
        TEXTS, st.sampled_from([OCI_INDEX, OCI_MANIFEST, f"{OCI_MANIFEST}; charset=utf-8", ",;="])
    ),
    "Content-Encoding": st.sampled_from(["gzip", "deflate", "br", "zstd", "identity", "gzip, gzip", "x"]),
    "Transfer-Encoding": st.sampled_from(["chunked", "gzip", "identity", "gzip, chunked", "x"]),
    "Content-Range": st.sampled_from(["bytes 0-1/2", "bytes */0", "garbage"]),
    "Range": st.sampled_from(["0-0", "bytes=5-100", "garbage", "-1"]),
    "Set-Cookie": TEXTS,
    "Connection": st.sampled_from(["keep-alive", "upgrade", "x"]),
    "Docker-Upload-UUID": TEXTS,
}
_CODES = (
    "200 201 202 203 204 206 299 300 301 302 303 304 305 307 308 400 401 403 404 405 409 412 413 416 418 429 451"
    " 500 501 502 503 504 507 599 999"
)
STATUSES = st.one_of(st.sampled_from(list(map(int, _CODES.split()))), st.integers(200, 599))
DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000
BODIES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            *(b"", b"null", b"[]", b"{", b"5", b'"x"', b"\xff\xfe", b"<html>login</html>", b"[" * 100_000, DEEP),
            *(
                b'{"tags": 5}',
                b'{"tags": [5]}',
                b'{"tags": ["../x"]}',
                b'{"repositories": ["A b"]}',
                b'{"tags": {"a": 1}}',
            ),
            *(b'{"token": 5}', b'{"token": null}', b'{"token": "a b"}', b'{"token": "good", "expires_in": 1e400}'),
            *(
                b'{"token": "good", "expires_in": -1}',
                b'{"token": "good", "expires_in": NaN}',
                b'{"access_token": "good"}',
            ),
            b'{"token": "good", "expires_in": ' + b"9" * 400 + b"}",
            b'{"token": "good", "expires_in": ' + b"9" * 5000 + b"}",
            *(b'{"errors": 5}', b'{"errors": [5]}', b'{"errors": [{"message": "' + b"x" * 5000 + b'"}]}', b"1" * 5000),
        ]
    ),
)


def _filled(text: str, world: World, asked: Asked) -> str:
    own, other = world.server.host, world.server.other_host
    places = {"own": f"http://{own}", "host": own, "other": f"http://{other}", "otherhost": other}
    for name, value in {**places, "path": asked.path.partition("?")[0]}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _hides(status: int, asked: Asked) -> bool:
    """Whether a status says that what is there is not, or that what is not there is: nobody can tell."""
    return asked.method in ("HEAD", "GET") and status in (200, 404)


@st.composite
def header(draw: st.DrawFn) -> Oddity:
    name = draw(st.sampled_from(list(HEADERS)))
    value = draw(st.one_of(st.none(), HEADERS[name]))

    def odd(world: World, asked: Asked, answer: Callable[[], Told]) -> Told:
        told = answer()
        headers = {key: given for key, given in told.headers.items() if key != name}
        if name == "Link" and value is None:
            return told  # a list that ends here, as far as anybody can tell
        return replace(told, headers=headers if value is None else headers | {name: _filled(value, world, asked)})

    return f"{name}: {value!r:.60}", odd


@st.composite
def status(draw: st.DrawFn) -> Oddity:
    code = draw(STATUSES)
    place, challenge, pause = draw(PLACES), draw(CHALLENGES), draw(PAUSES)

    def odd(world: World, asked: Asked, answer: Callable[[], Told]) -> Told:
        told = answer()
        if _hides(code, asked):
            return told
        given = {401: ("WWW-Authenticate", challenge), 429: ("Retry-After", pause), 503: ("Retry-After", pause)}
        name, value = given.get(code, ("Location", place) if 300 <= code < 400 else ("", ""))
        extra = {name: _filled(value, world, asked)} if name else {}
        return replace(told, status=code, headers=told.headers | extra)

    return f"status {code}", odd


@st.composite
def body(draw: st.DrawFn) -> Oddity:
    content = draw(BODIES)
    flip = draw(st.integers(0, 10_000))
    how = draw(st.sampled_from(["replaced", "cut", "longer", "flipped", "halved"]))

    def odd(world: World, asked: Asked, answer: Callable[[], Told]) -> Told:
        told = answer()
        if how == "cut":
            return replace(told, cut=min(flip, max(len(told.body) - 1, 0)))
        if asked.kind in ("GET list", "GET referrers") and how in ("flipped", "halved"):
            return replace(told, body=told.body[:-1])  # another name, as far as anybody can tell
        changed = {
            "replaced": content,
            "longer": told.body + (content or b" "),
            "halved": told.body[: len(told.body) // 2],
            "flipped": bytes(byte ^ (index == flip % max(len(told.body), 1)) for index, byte in enumerate(told.body)),
        }[how]
        if asked.kind in ("GET list", "GET referrers") and how == "longer" and not content.strip():
            return told
        return replace(told, body=changed)

    return f"body {how}", odd


@st.composite
def silence(draw: st.DrawFn) -> Oddity:
    how = draw(st.sampled_from(["hangs up", "does nothing"]))

    def odd(world: World, asked: Asked, answer: Callable[[], Told]) -> Told:
        if how == "hangs up":
            return Told(None)
        success = {"PUT": 201, "DELETE": 202}.get(asked.method)
        return Told(success) if success else answer()

    return how, odd


@dataclass(frozen=True)
class Odd:
    """An oddity of the answers to one kind of request: from the one with this number on, so many times.

    Attributes:
        kind: Counts the kinds of requests that the operation makes.
    """

    kind: int
    first: int
    times: int
    name: str
    change: Any

    def __repr__(self) -> str:
        return f"kind {self.kind} from {self.first} on, {self.times} times: {self.name}"


def odd(what: Any) -> Any:
    return st.builds(
        lambda kind, first, times, change: Odd(kind, first, times, *change),
        st.integers(0, 9),
        st.sampled_from([0, 0, 0, 1, 2, 3]),
        st.sampled_from([1, 1, 2, 1000]),
        what,
    )


# A manifest that is another one in every respect is another one: bodies and digests of manifests are not odd at once.
ODDITIES = st.one_of(
    st.lists(odd(st.one_of(header(), status(), silence())), min_size=1, max_size=3),
    st.lists(odd(st.one_of(body(), silence())), min_size=1, max_size=2),
    st.tuples(odd(status()), odd(body())).map(list),
)


def changing(world: World, oddities: list[Odd], kinds: list[str]) -> Change:
    counts: Counter[str] = Counter()

    def change(asked: Asked, answer: Callable[[], Told]) -> Told:
        number = counts[asked.kind]
        counts[asked.kind] += 1
        for each in oddities:
            if kinds[each.kind % len(kinds)] == asked.kind and each.first <= number < each.first + each.times:
                answer = partial(each.change, world, asked, answer)
        return answer()

    return change


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[bool, OddRegistry]]:
    with OddRegistry() as free, OddRegistry(guarded=True) as guarded:
        yield {False: free, True: guarded}


@pytest.fixture(scope="module")
def kinds(servers: dict[bool, OddRegistry]) -> dict[tuple[str, bool], list[str]]:
    """The requests of each operation, which is right where nothing is odd."""
    found = {}
    for guarded, server in servers.items():
        for operation, (run, is_right) in OPERATIONS.items():
            world = World(OciRegistry(server.host, RegistryLogin(USER, PASSWORD) if guarded else None), server)
            server.begin(copy.deepcopy(STATE), lambda _, answer: answer())
            assert is_right(world, run(world)), operation
            found[operation, guarded] = sorted(set(server.seen))
    return found


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited before something is asked again; it is not."""
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("urllib3.util.retry.time", clock)
    monkeypatch.setattr(copying, "time", clock)
    monkeypatch.setattr(http_session, "_ANSWER_SECONDS", 5)
    monkeypatch.setattr(oci, "_THROTTLED_SECONDS", 0)
    return slept


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operation=st.sampled_from(list(OPERATIONS)), oddities=ODDITIES, guarded=st.booleans())
def test_whatever_a_registry_answers_the_result_is_right_or_a_clear_error(
    servers: dict[bool, OddRegistry],
    kinds: dict[tuple[str, bool], list[str]],
    pauses: list[float],
    operation: str,
    oddities: list[Odd],
    guarded: bool,
) -> None:
    """Cases C10, C11 and C22."""
    server = servers[guarded]
    login = RegistryLogin(USER, PASSWORD) if guarded else None
    world = World(OciRegistry(server.host, login, timeout_seconds=2), server)
    server.begin(copy.deepcopy(STATE), changing(world, oddities, kinds[operation, guarded]))
    run, is_right = OPERATIONS[operation]
    pauses.clear()
    began = time.monotonic()
    try:
        found = run(world)
    except (BadInput, Unreachable) as error:
        event("an error")
        assert server.host in str(error) or error.where or "sha256:" in error.what, f"nobody is named: {error}"
        assert len(error.what) < 3000
        assert error.hint
    except FactoryError as error:  # pragma: no cover
        pytest.fail(f"another kind of error: {error!r}")
    else:
        event("the right result")
        assert is_right(world, found), f"{operation}: {found!r:.300} is wrong"
    assert time.monotonic() - began < LONGEST_SECONDS
    assert max(pauses, default=0) <= 20
    _nothing_is_lost(world)
    for asked in server.elsewhere:
        if asked.path.startswith("/token?"):  # a token server: the registry that the login is for has named it
            continue
        assert "Authorization" not in asked.headers
        assert PASSWORD not in asked.path + str(asked.body)


def _nothing_is_lost(world: World) -> None:
    """However an operation ends: no tag stands for half of an image, or for another one than it may."""
    state = world.state
    for (repository, tag), digest in state.tags.items():
        if repository == "t":
            assert (tag, digest) == ("new", INDEX)
            assert _copied(world, None)
        elif tag == "new":
            assert digest == IMAGE
        elif tag != "1":
            assert digest == STATE.tags[repository, tag]
