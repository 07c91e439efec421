"""Keys in files, in a vault, and the one of a laptop; and whose signatures count."""

from __future__ import annotations

import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.settings import load_settings
from aml_images_dagster.trust.dsse import sign_statement, verify_statement
from aml_images_dagster.trust.keys import laptop_key, laptop_key_file
from aml_images_dagster.trust.notary import Trust, sign, verify
from aml_images_dagster.trust.referrers import Descriptor
from aml_images_dagster.trust.signing import EvidenceSigner, signer_of, trust_of
from aml_images_dagster.trust.statements import PROVENANCE
from tests.emulators.azure.key_vault import KeyVault
from tests.trust.authority import KEYS, Authority, key_pem, key_pkcs12, pem
from tests.trust.samples import statements

if TYPE_CHECKING:
    from aml_images_dagster.trust.keys import KeySigner

IMAGE = Descriptor("application/vnd.oci.image.manifest.v1+json", f"sha256:{'a' * 64}", 5)
PASSWORD = "correct horse battery staple"
NOW = datetime.now(UTC)


def signs(signer, authority: Authority) -> None:
    signed = verify(sign(IMAGE, signer, now=NOW).content, IMAGE, Trust((authority.root,)), NOW)
    assert signed.by == "CN=image factory,O=Contoso,ST=WA,C=US"


@pytest.mark.parametrize("kind", sorted(KEYS))
@pytest.mark.parametrize("password", ["", PASSWORD], ids=["plain", "encrypted"])
def test_a_pem_file_signs(settings_of, authority, tmp_path, kind, password):
    held = authority.signer(kind)
    (tmp_path / "images.key").write_bytes(key_pem(held, password))
    (tmp_path / "chain.pem").write_bytes(pem(*held.chain[::-1]))
    given = {"signing_key_password": password} if password else {}
    signs(signer_of(settings_of(signing_key="images.key", signing_certificates="chain.pem", **given)), authority)


def test_one_pem_file_may_have_key_and_certificates(settings_of, authority, tmp_path):
    held = authority.signer()
    (tmp_path / "all.pem").write_bytes(key_pem(held) + pem(*held.chain))
    signs(signer_of(settings_of(signing_key=tmp_path / "all.pem")), authority)


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048"])
def test_a_pkcs12_file_signs(settings_of, authority, tmp_path, kind):
    (tmp_path / "images.p12").write_bytes(key_pkcs12(authority.signer(kind), PASSWORD))
    signs(signer_of(settings_of(signing_key="images.p12", signing_key_password=PASSWORD)), authority)


@pytest.mark.parametrize("name", ["images.p12", "images.key"])
def test_a_wrong_password_is_one_message_without_it(settings_of, authority, tmp_path, name):
    held = authority.signer()
    content = key_pkcs12(held, PASSWORD) if name.endswith("p12") else key_pem(held, PASSWORD)
    (tmp_path / name).write_bytes(content)
    for password in ("wrong password", ""):
        with pytest.raises(BadInput, match="its password is missing or wrong") as refused:
            signer_of(settings_of(signing_key=name, signing_key_password=password))
        assert "wrong password" not in str(refused.value)
        assert refused.value.__cause__ is None


@pytest.mark.parametrize(("content", "what"), [
    (None, "cannot be read: No such file"),
    (b"", "no private key"),
    (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
])  # fmt: skip
def test_a_file_without_a_key(settings_of, tmp_path, content, what):
    if content is not None:
        (tmp_path / "images.key").write_bytes(content)
    with pytest.raises(BadInput, match=what):
        signer_of(settings_of(signing_key="images.key"))


@pytest.mark.parametrize("make", [
    lambda: rsa.generate_private_key(65537, 1024),
    lambda: ec.generate_private_key(ec.SECP256K1()),
    ed25519.Ed25519PrivateKey.generate,
], ids=["rsa-1024", "secp256k1", "ed25519"])  # fmt: skip
def test_a_key_that_the_notary_project_does_not_allow(settings_of, tmp_path, make):
    key = make()
    plain = serialization.NoEncryption()
    (tmp_path / "images.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    with pytest.raises(BadInput, match="cannot sign images"):
        signer_of(settings_of(signing_key="images.key"))


def test_missing_certificates_are_named(settings_of, authority, tmp_path):
    held = authority.signer()
    (tmp_path / "images.key").write_bytes(key_pem(held))
    with pytest.raises(BadInput, match="certificate of the signing key is missing"):
        signer_of(settings_of(signing_key="images.key"))
    (tmp_path / "leaf.pem").write_bytes(pem(held.chain[0]))
    with pytest.raises(BadInput, match=r"certificate of CN=test root.* is missing"):
        signer_of(settings_of(signing_key="images.key", signing_certificates="leaf.pem"))


def test_a_certificate_that_has_expired_signs_nothing(authority):
    expired = authority.signer(start=NOW - timedelta(days=60))
    with pytest.raises(BadInput, match="is valid from") as refused:
        EvidenceSigner(expired).sign(IMAGE)
    assert refused.value.where == "trust.signing_key"


def test_signatures_expire_as_the_settings_say(settings_of, authority, tmp_path):
    held = authority.signer()
    (tmp_path / "all.pem").write_bytes(key_pem(held) + pem(*held.chain))
    signer = EvidenceSigner.of(settings_of(signing_key="all.pem", signature_days="2"))
    signed = verify(signer.sign(IMAGE).content, IMAGE, Trust((authority.root,)), datetime.now(UTC))
    assert abs(signed.expires - NOW - timedelta(days=2)) < timedelta(hours=1)


def test_a_laptop_signs_with_a_test_key_that_only_its_owner_reads(settings_of):
    settings = settings_of()
    signer = signer_of(settings)
    assert signer.is_test
    file = laptop_key_file(settings.home)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    trust = trust_of(settings)
    assert trust.is_test
    assert "proves nothing" in verify(EvidenceSigner(signer).sign(IMAGE).content, IMAGE, trust, datetime.now(UTC)).by
    assert signer_of(settings).chain == signer.chain


def test_processes_that_make_the_test_key_at_once_have_the_same(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        signers = list(pool.map(lambda _: laptop_key(tmp_path), range(8)))
    assert len({signer.chain[0] for signer in signers}) == 1
    assert [path.name for path in laptop_key_file(tmp_path).parent.iterdir()] == [laptop_key_file(tmp_path).name]


def test_elsewhere_it_is_said_what_signs_and_whose_signatures_count(settings_of):
    with pytest.raises(BadInput, match="not configured what signs"):
        signer_of(settings_of("azure"))
    with pytest.raises(BadInput, match="not configured whose signatures count"):
        trust_of(settings_of("azure"))


def test_the_test_key_does_not_count_where_another_signs(settings_of):
    with pytest.raises(BadInput, match="not configured whose signatures count"):
        trust_of(settings_of(signing_key="images.key"))


def test_who_is_trusted_is_read_from_files(settings_of, authority, tmp_path):
    other = Authority("other root")
    authority.write_root(tmp_path / "one.pem")
    other.write_root(tmp_path / "two.pem")
    trust = trust_of(settings_of(roots="one.pem; two.pem", identities="C=US, O=Contoso", timestamp_roots="two.pem"))
    assert trust.roots == (authority.root, other.root)
    assert trust.timestamp_roots == (other.root,)
    assert len(trust.identities) == 1
    assert not trust.is_test


@pytest.mark.parametrize(("content", "what"), [(None, "cannot be read"), (b"none", "no PEM file of certificates")])
def test_a_file_of_roots_that_cannot_be_read(settings_of, tmp_path, content, what):
    if content is not None:
        (tmp_path / "root.pem").write_bytes(content)
    with pytest.raises(BadInput, match=what):
        trust_of(settings_of(roots="root.pem"))


class TestKeyVault:
    @pytest.fixture(params=["ec-p256", "ec-p384", "rsa-2048", "rsa-3072"])
    def held(self, request, authority) -> KeySigner:
        return authority.signer(request.param)

    @pytest.fixture
    def vault(self, cloud, held) -> KeyVault:
        return cloud.start(KeyVault(cloud.certificate, cloud.identity, held))

    @pytest.fixture
    def signer(self, vault, cloud, authority, tmp_path, monkeypatch):
        authority.write_root(tmp_path / "root.pem")
        monkeypatch.setenv("AML_IMAGES_TRUST__SIGNING_KEY", vault.certificate_url)
        monkeypatch.setenv("AML_IMAGES_TRUST__SIGNING_CERTIFICATES", str(tmp_path / "root.pem"))
        return signer_of(load_settings(repo=tmp_path))

    def test_a_key_in_a_vault_signs_images_and_statements(self, vault, signer, authority):
        signs(signer, authority)
        (statement, _) = statements(IMAGE.digest)
        bundle = sign_statement(statement, signer).content
        key = signer.chain[0].public_key()
        assert verify_statement(bundle, [key], IMAGE.digest, PROVENANCE) == statement
        assert len(vault.requests("GET", "/certificates/")) == 1
        for request in vault.requests("POST", "/sign"):
            assert set(request.json()) == {"alg", "value"}, "a digest goes there, and nothing else"

    @pytest.mark.parametrize("held", ["ec-p256"], indirect=True)
    def test_a_busy_vault_is_asked_again(self, vault, signer, authority):
        vault.fail(429, retry_after=1)
        vault.fail(503, path="/sign", retry_after=1)
        signs(signer, authority)

    @pytest.mark.parametrize("held", ["ec-p256"], indirect=True)
    @pytest.mark.parametrize(("status", "error", "what"), [
        (403, Unreachable, "may not sign with the vault's key"),
        (401, Unreachable, "may not sign with the vault's key"),
        (404, BadInput, "no such certificate or key"),
        (400, Unreachable, "does not sign"),
    ])  # fmt: skip
    def test_a_refusal_says_what_to_do(self, vault, signer, status, error, what):
        vault.fail(status)
        with pytest.raises(error, match=what) as refused:
            sign(IMAGE, signer, now=NOW)
        assert refused.value.where == vault.certificate_url

    @pytest.mark.parametrize("held", ["ec-p256"], indirect=True)
    def test_the_token_is_in_no_message_and_no_log(self, vault, signer, cloud, caplog, authority):
        caplog.set_level(logging.DEBUG)
        signs(signer, authority)
        assert cloud.identity.issued
        for token in cloud.identity.issued:
            assert token not in caplog.text

    @pytest.mark.parametrize("held", ["ec-p256"], indirect=True)
    def test_the_token_goes_to_no_other_host(self, vault, signer):
        # A vault that names a key elsewhere.
        signer.__dict__["_certificate"] = {"kid": "https://elsewhere.example/keys/images/1", "cer": ""}
        with pytest.raises(Unreachable, match="not from a key vault"):
            signer.sign("ES256", b"0" * 32)


@pytest.mark.parametrize(("name", "value", "what"), [
    ("signing_key", "http://contoso.vault.azure.net/certificates/images", "az keyvault certificate show"),
    ("signing_key", "https://contoso.vault.azure.net/secrets/images", "az keyvault certificate show"),
    ("timestamp_url", "timestamps.example", "URL that begins with"),
    ("builder_id", "our factory", "write a URI"),
    ("required", "signature;luck", "luck|'signature', 'provenance' or 'sbom'"),
    ("signature_days", "-1", "must be at least 0"),
])  # fmt: skip
def test_a_wrong_setting_is_bad_input(settings_of, name, value, what):
    with pytest.raises(BadInput, match=what) as refused:
        settings_of(**{name: value})
    assert f"AML_IMAGES_TRUST__{name.upper()}" in str(refused.value)
