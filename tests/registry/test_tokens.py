"""Signing in, at a token server in front of a real registry."""

from __future__ import annotations

import ssl

import pytest

from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.tokens import is_loopback
from tests.emulators.faulty_registry import Fault
from tests.emulators.token_registry import TokenRegistry

pytestmark = pytest.mark.engine

ROBOT = RegistryLogin("robot", "right-password")
USERS = {ROBOT.username: ROBOT.password}


@pytest.fixture
def guarded(staging):
    with TokenRegistry(staging.host, USERS) as front:
        yield front


def test_a_login_does_everything(staging, guarded, pushed):
    registry = OciRegistry(guarded.host, ROBOT)
    registry.ping()
    registry.tag(pushed, "2")
    assert sorted(registry.tags(pushed.repository)) == ["1", "2"]
    registry.untag(pushed.with_tag("2"))
    assert pushed.repository in registry.repositories()
    copy_image(registry, registry, pushed, f"{pushed.repository}/copy", ["1"])
    registry.delete(pushed)
    assert staging.digest(pushed) is None


def test_a_token_is_kept(guarded, pushed):
    registry = OciRegistry(guarded.host, ROBOT)
    for _ in range(5):
        assert registry.digest(pushed) == pushed.digest
    assert guarded.given == [f"repository:{pushed.repository}:pull"]


def test_a_token_that_the_registry_forgot_is_replaced(guarded, pushed):
    registry = OciRegistry(guarded.host, ROBOT)
    registry.digest(pushed)
    guarded._tokens.clear()
    assert registry.digest(pushed) == pushed.digest
    assert len(guarded.given) == 2


def test_a_token_is_not_used_after_its_end(staging, pushed):
    with TokenRegistry(staging.host, USERS, life=0.5) as front:
        registry = OciRegistry(front.host, ROBOT)
        assert registry.digest(pushed) == registry.digest(pushed) == pushed.digest


def test_anybody_may_pull_what_is_public(staging, pushed):
    with TokenRegistry(staging.host, USERS, public=(pushed.repository,)) as front:
        registry = OciRegistry(front.host)
        assert registry.digest(pushed) == pushed.digest
        with pytest.raises(Unreachable, match="refuses anonymous use"):
            registry.tag(pushed, "2")


def test_a_wrong_password_is_named_without_being_shown(guarded, pushed):
    registry = OciRegistry(guarded.host, RegistryLogin("robot", "wr0ng-password"))
    with pytest.raises(Unreachable, match="refuses the login of robot") as failed:
        registry.digest(pushed)
    assert "wr0ng-password" not in f"{failed.value!r}"


def test_the_login_may_change_between_calls(guarded, pushed):
    logins = [RegistryLogin("robot", "old"), ROBOT]
    registry = OciRegistry(guarded.host, lambda: logins.pop(0))
    with pytest.raises(Unreachable):
        registry.digest(pushed)
    assert registry.digest(pushed) == pushed.digest


def test_basic_sign_in(staging, pushed):
    with TokenRegistry(staging.host, USERS, scheme="basic") as front:
        assert OciRegistry(front.host, ROBOT).digest(pushed) == pushed.digest
        for login in (None, RegistryLogin("robot", "wrong")):
            with pytest.raises(Unreachable, match=r"login is missing or wrong \(HTTP 401"):
                OciRegistry(front.host, login).digest(pushed)


def test_over_https(staging, pushed, authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with TokenRegistry(staging.host, USERS, certificate=context) as front:
        registry = OciRegistry(front.host, ROBOT, insecure=False)
        registry.tag(pushed, "2")
        assert registry.digest(pushed.with_tag("2")) == pushed.digest


def test_a_certificate_that_is_not_trusted(staging, pushed, authority, monkeypatch):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    front = TokenRegistry(staging.host, USERS, certificate=context)
    with front, pytest.raises(Unreachable, match="TLS failed") as failed:
        OciRegistry(front.host, ROBOT, insecure=False).digest(pushed)
    assert "REQUESTS_CA_BUNDLE" in failed.value.hint


def test_a_registry_that_speaks_plain_http(staging, pushed):
    with pytest.raises(Unreachable, match="TLS failed: it speaks plain HTTP where HTTPS is needed\n"):
        OciRegistry(staging.host, insecure=False).digest(pushed)


def test_a_password_is_not_sent_unencrypted_to_another_machine(guarded, pushed):
    guarded.realm = "http://token.example/token"
    with pytest.raises(Unreachable, match="without encryption"):
        OciRegistry(guarded.host, ROBOT).digest(pushed)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("127.example.com", False),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_what_this_machine_is(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize("realm", ["", "ftp://x/y", "token"])
def test_a_realm_that_is_no_url(guarded, pushed, realm):
    guarded.realm = realm
    with pytest.raises(Unreachable, match="as its token server"):
        OciRegistry(guarded.host, ROBOT).digest(pushed)


def test_a_token_server_that_fails_is_named(guarded, pushed):
    guarded.faults.append(Fault("status", path="^/token", status=500))
    with pytest.raises(Unreachable, match=f"token server {guarded.host} answered 500 without a token"):
        OciRegistry(guarded.host, ROBOT).digest(pushed)


def test_a_token_server_that_is_silent_is_named(guarded, pushed):
    guarded.faults.append(Fault("hang", path="^/token"))
    with pytest.raises(Unreachable, match=f"token server {guarded.host} does not answer"):
        OciRegistry(guarded.host, ROBOT, timeout_seconds=1).digest(pushed)
