"""Registries that only a Dockerfile names, and that mean harm: over real sockets.

127.0.0.2 stands for the internet here, every other address is what it is.
"""

from __future__ import annotations

import gc
import gzip
import json
import socket
import ssl
import threading
import time
from collections import defaultdict
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster import http_connection, http_session
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.http_connection import is_public
from aml_images_dagster.http_session import Untrusted
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.registry import oci, resolution
from aml_images_dagster.registry.interface import NoAnswer
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.resolution import BaseResolver
from aml_images_dagster.settings import load_settings
from tests.emulators.hostile_registry import PAUSE, Exchange, HostileRegistry
from tests.memory import memory_growth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import trustme

    Play = Callable[[Exchange], None]
    Open = Callable[[Play], HostileRegistry]

NAME = "registry.test"
PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"
DIGEST = f"sha256:{sha256(b'{}').hexdigest()}"
"""That of the body that they reply with unless a test says otherwise."""
BOMB = gzip.compress(b"0" * (200 * 2**20), 1)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names stand for: the answers of name servers, one after the other, the last one for ever."""
    answers: dict[str, list[list[str]]] = defaultdict(list, {NAME: [[PUBLIC]]})
    asked = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: object, **options: object) -> list[object]:
        if host not in answers:
            return list(asked(host, *arguments, **options))  # type: ignore[arg-type]
        addresses = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [entry for address in addresses for entry in asked(address, *arguments, **options)]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(http_connection, "is_public", lambda address: address == PUBLIC or is_public(address))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return answers


@pytest.fixture
def certificate(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(NAME, "inside.test", PRIVATE).configure_cert(context)
    return context


@pytest.fixture
def stranger(names: object, certificate: ssl.SSLContext) -> Iterator[Open]:
    """Opens a registry on the internet."""
    opened: list[HostileRegistry] = []

    def start(play: Play) -> HostileRegistry:
        registry = HostileRegistry(play, PUBLIC, certificate)
        registry.host = f"{NAME}:{registry.port}"
        opened.append(registry.__enter__())
        return registry

    yield start
    for registry in opened:
        registry.__exit__()


@pytest.fixture
def inside(certificate: ssl.SSLContext) -> Iterator[HostileRegistry]:
    """A service that only this network reaches."""
    with HostileRegistry(lambda exchange: exchange.reply(), PRIVATE, certificate) as service:
        yield service


def digest_of(host: str, **options: float) -> str | None:
    registry = OciRegistry(host, trusted=False, **options)
    return registry.digest(Reference(host, "team/base", "1"))


def challenge(realm: str) -> Play:
    return lambda exchange: exchange.reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="x"')


def redirect(location: str) -> Play:
    return lambda exchange: exchange.reply(307, Location=location)


def test_a_stranger_on_the_internet_answers(stranger):
    registry = stranger(lambda exchange: exchange.reply(Docker_Content_Digest=DIGEST))
    assert digest_of(registry.host) == DIGEST


@pytest.mark.parametrize("leads", [challenge, redirect])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", [PRIVATE, "localhost", "inside.test", "[::ffff:127.0.0.1]"])
def test_it_leads_to_nothing_inside(stranger, inside, names, leads, scheme, host):
    names["inside.test"] = [[PRIVATE]]
    registry = stranger(leads(f"{scheme}://{host}:{inside.port}/admin/delete?all=1"))
    with pytest.raises(Untrusted, match=f"{registry.host}: it leads to .*{host.strip('[]')}") as refused:
        digest_of(registry.host)
    assert f"add {registry.host} to AML_IMAGES_TRUSTED_REGISTRIES" in refused.value.hint
    assert inside.seen == []


def test_every_address_of_a_name_counts(stranger, inside, names):
    names[NAME] = [[PUBLIC, PRIVATE]]
    registry = stranger(lambda exchange: exchange.reply(Docker_Content_Digest=DIGEST))
    with pytest.raises(Untrusted, match=rf"leads to {NAME} \({PRIVATE}\), which is not a public address"):
        digest_of(registry.host)
    assert registry.seen == []


def test_the_address_that_was_checked_is_the_one_that_is_used(stranger, names):
    names[NAME] = [[PUBLIC], [PRIVATE]]
    registry = stranger(lambda exchange: exchange.reply(Docker_Content_Digest=DIGEST))
    manifest = OciRegistry(registry.host, trusted=False).manifest(Reference(registry.host, "team/base", "1"))
    assert manifest and manifest.digest == DIGEST


def test_each_new_connection_is_checked_again(stranger, names):
    names[NAME] = [[PUBLIC], [PRIVATE]]
    registry = stranger(redirect("/again"))
    with pytest.raises(Untrusted, match=PRIVATE):
        digest_of(registry.host)
    assert registry.seen == ["/v2/team/base/manifests/1"]


def test_what_is_a_private_address_is_not_sent_to_a_proxy(names, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    names["inside.test"] = [["10.0.0.5"]]
    for host in ("10.0.0.5", "inside.test"):
        with pytest.raises(Untrusted, match=r"10\.0\.0\.5"):
            digest_of(host)
    with pytest.raises(NoAnswer, match="Connection refused"):
        digest_of("known-to-the-proxy.invalid")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.5", "169.254.169.254"])
@pytest.mark.parametrize("profile", ["local", "azure"])
def test_a_dockerfile_names_nothing_inside_unless_a_setting_does(tmp_path: Path, monkeypatch, host, profile):
    monkeypatch.setenv("AML_IMAGES_PROFILE", profile)
    name = f"{host}:9"
    resolver = backends_for(load_settings(repo=tmp_path)).resolver
    answer = resolver.observe([f"{name}/team/base:1"])[f"{name}/team/base:1"]
    assert isinstance(answer, BadInput)
    assert f"leads to {host.strip('[]')}" in answer.what
    assert (
        answer.hint == f"No setting names this registry; if you trust it, add {name} to AML_IMAGES_TRUSTED_REGISTRIES."
    )


@pytest.mark.parametrize("setting", ["TRUSTED_REGISTRIES={}", "BASE_MIRRORS=docker.io={}/x", "STAGING_REGISTRY={}"])
def test_what_a_setting_names_is_asked(tmp_path: Path, monkeypatch, setting):
    with HostileRegistry(lambda exchange: exchange.reply(Docker_Content_Digest=DIGEST)) as registry:
        name, _, value = setting.format(registry.host).partition("=")
        monkeypatch.setenv(f"AML_IMAGES_{name}", value)
        resolver = backends_for(load_settings(repo=tmp_path)).resolver
        assert resolver.resolve(f"{registry.host}/team/base:1").digest == DIGEST


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:1.1.1.1", True),
        ("64:ff9b::101:101", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("168.63.129.16", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%1", False),
        ("fec0::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(address, public):
    assert is_public(address) is public


def drip(exchange: Exchange) -> None:
    exchange.head(Content_Length="100000")
    exchange.endless(b" ", PAUSE)


def drip_headers(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\n")
    exchange.endless(b"X", PAUSE)


@pytest.mark.parametrize("slow", [drip, drip_headers])
@pytest.mark.parametrize("trusted", [True, False])
def test_who_sends_a_byte_now_and_then_is_not_waited_for(stranger, monkeypatch, slow, trusted):
    monkeypatch.setattr(http_session, "_ANSWER_SECONDS_OF_A_STRANGER", 1)
    monkeypatch.setattr(http_session, "_ANSWER_SECONDS", 1)
    registry = stranger(slow)
    reference = Reference(registry.host, "team/base", "1")
    with pytest.raises(NoAnswer, match="no answer in time"):
        OciRegistry(registry.host, trusted=trusted).manifest(reference)


def test_a_token_server_is_not_waited_for_without_end(stranger, monkeypatch):
    monkeypatch.setattr(http_session, "_ANSWER_SECONDS_OF_A_STRANGER", 1)
    server = stranger(drip)
    registry = stranger(challenge(f"https://{server.host}/token"))
    with pytest.raises(Unreachable, match=f"token server {server.host} does not answer: no answer in time"):
        digest_of(registry.host)


def test_a_question_has_a_deadline_for_all_its_answers(monkeypatch):
    """Each answer is in time, and there is always one more."""
    monkeypatch.setattr(resolution, "_SECONDS", 1)
    monkeypatch.setattr(http_session, "_MOST_REDIRECTS", 1000)

    def again(exchange: Exchange) -> None:
        time.sleep(PAUSE)
        exchange.reply(307, Location=f"{exchange.path}x")

    with HostileRegistry(again) as registry, pytest.raises(BadInput, match="no answer in time"):
        BaseResolver({}).resolve(f"{registry.host}/team/base:1")


def test_a_slow_registry_holds_up_no_other_base():
    asked, go_on = threading.Event(), threading.Event()

    def wait(exchange: Exchange) -> None:
        asked.set()
        go_on.wait(60)
        exchange.reply(Docker_Content_Digest=DIGEST)

    quick_one = HostileRegistry(lambda exchange: exchange.reply(Docker_Content_Digest=DIGEST))
    with HostileRegistry(wait) as slow, quick_one as quick:
        resolver = BaseResolver({})
        waiting = threading.Thread(target=resolver.resolve, args=(f"{slow.host}/a:1",))
        waiting.start()
        assert asked.wait(30)
        assert resolver.resolve(f"{quick.host}/a:1").digest == DIGEST
        assert waiting.is_alive()
        go_on.set()
        waiting.join(30)
        assert len(slow.seen) == 2, "HEAD, and GET for the content"


def bomb(exchange: Exchange) -> None:
    exchange.reply(body=BOMB if exchange.command == "GET" else b"", Content_Encoding="gzip")


def endless(exchange: Exchange) -> None:
    exchange.head()
    if exchange.command == "GET":
        exchange.endless(b"0" * 2**16)


def endless_refusal(exchange: Exchange) -> None:
    exchange.head(503)
    exchange.endless(b"0" * 2**16)


def endless_continues(exchange: Exchange) -> None:
    exchange.endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@pytest.mark.parametrize("much", [bomb, endless, endless_refusal, endless_continues])
@pytest.mark.parametrize("trusted", [True, False])
def test_no_answer_fills_the_memory(stranger, monkeypatch, much, trusted):
    monkeypatch.setattr(http_session, "_LONGEST_ANSWER", 4 * 2**20)
    monkeypatch.setattr(http_session, "_ANSWER_SECONDS_OF_A_STRANGER", 300)
    registry = stranger(much)
    reference = Reference(registry.host, "team/base", "1")
    with memory_growth() as memory, pytest.raises(Unreachable, match=r"the answer has more than [\d,]+ bytes"):
        OciRegistry(registry.host, trusted=trusted).manifest(reference)
    assert memory.peak < 60e6
    assert registry.sent < 64 * 2**20


def test_a_list_ends(stranger, monkeypatch):
    monkeypatch.setattr(oci, "_MOST_PAGES", 20)
    count = iter(range(10**9))

    def page(exchange: Exchange) -> None:
        following = f'</v2/a/tags/list?last={next(count)}>; rel="next"'
        exchange.reply(body=json.dumps({"tags": ["t"] * 1000}).encode(), Link=following)

    registry = stranger(page)
    with pytest.raises(Unreachable, match="more than 20 pages"):
        OciRegistry(registry.host).tags("a")
    assert len(registry.seen) == 20


@pytest.mark.parametrize("list_", [b"[]", b'{"tags": 5}', b'{"tags": [5]}', b"[" * 100_000, b"\xff", b"1" * 5000])
def test_a_list_that_is_none(list_):
    with (
        HostileRegistry(lambda exchange: exchange.reply(body=list_)) as registry,
        pytest.raises(Unreachable, match="not from a registry"),
    ):
        OciRegistry(registry.host).tags("a")


@pytest.mark.parametrize("named", ["garbage", "sha256:0", f"md5:{'0' * 32}", f"{DIGEST}0", f"{DIGEST}\t"])
def test_a_digest_that_is_none_is_not_believed(named):
    with HostileRegistry(lambda exchange: exchange.reply(Docker_Content_Digest=named)) as registry:
        for ask in (OciRegistry(registry.host).digest, OciRegistry(registry.host).manifest):
            with pytest.raises(Unreachable, match=r"as the digest of .*, which is not a digest|should be"):
                ask(Reference(registry.host, "a", "1"))


def test_the_digest_of_something_else_is_not_believed():
    asked = f"sha256:{'1' * 64}"
    with (
        HostileRegistry(lambda exchange: exchange.reply(Docker_Content_Digest=DIGEST)) as registry,
        pytest.raises(Unreachable, match=f"should be {asked} but is {DIGEST}"),
    ):
        OciRegistry(registry.host).digest(Reference(registry.host, "a", digest=asked))


def test_a_longer_digest_is_checked_too():
    wrong = f"sha512:{'0' * 128}"
    with (
        HostileRegistry(lambda exchange: exchange.reply()) as registry,
        pytest.raises(Unreachable, match=f"should be {wrong} but is sha512:"),
    ):
        OciRegistry(registry.host).manifest(Reference(registry.host, "a", digest=wrong))


BLOB = {"digest": DIGEST, "size": 1}


@pytest.mark.parametrize(
    "document",
    [
        {"config": BLOB, "layers": None},
        {"config": None, "layers": []},
        {"config": {"digest": DIGEST}, "layers": []},
        {"config": BLOB, "layers": [{**BLOB, "size": "1"}]},
        {"config": BLOB, "layers": [{**BLOB, "digest": "../../x"}]},
        {"config": BLOB, "layers": [5]},
        {"manifests": None},
        {"manifests": [{}]},
        {"manifests": []},
        [],
    ],
)
def test_an_odd_manifest_is_refused_in_words(document):
    body = json.dumps(document).encode()
    with HostileRegistry(lambda exchange: exchange.reply(body=body)) as registry:
        reference = Reference(registry.host, "a", "1")
        with pytest.raises(BadInput, match=r"neither an image nor an index|index without images"):
            OciRegistry(registry.host).size_bytes(reference)


@pytest.fixture
def nothing_collected():
    """What is collected a thousand calls deep has no call left for its finalizer, and pytest none for saying so."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("nothing_collected")
@pytest.mark.parametrize("config", [b"no json", b"[]", b"\xff\xfe", b"[" * 100_000, b" " * (5 * 2**20)])
def test_an_odd_configuration_is_refused_in_words(config):
    digest = f"sha256:{sha256(config).hexdigest()}"
    manifest = json.dumps({"config": {"digest": digest, "size": len(config)}, "layers": []}).encode()

    def play(exchange: Exchange) -> None:
        exchange.reply(body=config if "/blobs/" in exchange.path else manifest)

    with (
        HostileRegistry(play) as registry,
        pytest.raises(Unreachable, match=r"for the configuration of .*not from a registry"),
    ):
        OciRegistry(registry.host).config(Reference(registry.host, "a", "1"))


@pytest.mark.parametrize("started", [(202, {}), (200, {"Location": "/up"}), (202, {"Location": "/up"})])
def test_an_upload_is_done_by_the_specification_or_not_at_all(started):
    status, headers = started

    def play(exchange: Exchange) -> None:
        # Where the upload has begun as it should, its end says 200 for 201.
        exchange.reply(status if exchange.command == "POST" else 200, **headers)

    with HostileRegistry(play) as registry, pytest.raises(Unreachable, match="not from a registry"):
        OciRegistry(registry.host).upload_blob("a", DIGEST, b"x")


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "", "é", 5, None, ["a"]])
def test_a_token_that_no_header_can_have(token):
    def play(exchange: Exchange) -> None:
        if exchange.path.startswith("/token"):
            exchange.reply(body=json.dumps({"token": token, "access_token": token}).encode())
        else:
            challenge(f"http://{exchange.headers['Host']}/token")(exchange)

    with HostileRegistry(play) as registry, pytest.raises(Unreachable, match="without a token"):
        OciRegistry(registry.host).digest(Reference(registry.host, "a", "1"))
