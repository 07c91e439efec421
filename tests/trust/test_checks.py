"""What `aml-images doctor` says of the signing key, the timestamp service, and whom is trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from aml_images_dagster.checks import CheckResult, perform_all
from aml_images_dagster.settings import load_settings
from aml_images_dagster.trust.checks import trust_checks
from aml_images_dagster.trust.keys import laptop_key, laptop_key_file
from tests.emulators.azure.key_vault import KeyVault
from tests.trust.authority import LEAF, Authority, key_pem, pem, usage
from tests.trust.timestamp_service import TimestampService

NOW = datetime.now(UTC)


def found(settings) -> dict[str, CheckResult]:
    results = {result.name: result for result in perform_all(trust_checks(settings), 30)}
    assert all(result.ok or result.hint for result in results.values())
    return results


@pytest.fixture
def signs_with(settings_of, authority, tmp_path):
    """The checks of a factory with a key file of an authority, which it trusts."""

    def checks(signer=None, **values):
        (tmp_path / "images.pem").write_bytes(
            key_pem(signer := signer or authority.signer(days=90)) + pem(*signer.chain)
        )
        return found(settings_of(signing_key="images.pem", roots=authority.write_root(tmp_path / "root.pem"), **values))

    return checks


def test_a_laptop_has_no_key_before_its_first_build_and_gets_none_by_being_asked(settings_of):
    settings = settings_of()
    (key,) = found(settings).values()
    assert key.ok
    assert key.found.startswith("none yet; the first build makes this machine's test key, which proves nothing")
    assert not laptop_key_file(settings.home).exists()


def test_the_test_key_of_a_laptop_is_said_to_prove_nothing(settings_of):
    settings = settings_of(release_verified=True)
    laptop_key(settings.home)
    results = found(settings)
    assert all(result.ok for result in results.values())
    assert "proves nothing: whoever builds here can sign anything" in results["signing key"].found
    assert "Set trust.signing_key" in results["signing key"].found
    assert results["trust policy"].found.startswith("1 root, ")


def test_a_key_that_signs_and_whom_it_is_trusted_for(signs_with):
    results = signs_with(identities="C=US, O=Contoso")
    assert results["signing key"].ok
    assert results["signing key"].found.startswith("CN=image factory,O=Contoso,ST=WA,C=US; valid until ")
    assert results["signing key"].found.endswith(", 89 days")
    assert results["trust policy"].found == (
        "1 root, who may sign: C=US, O=Contoso; required: signature, provenance, sbom"
    )


def test_a_certificate_that_expires_soon_is_to_be_renewed(signs_with, authority):
    assert "20 days: renew it" in signs_with(authority.signer(days=21))["signing key"].found


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"start": NOW - timedelta(days=60)}, "is valid from"),
        ({"extensions": (LEAF[0], usage("digital_signature", "key_encipherment"))}, "is not for signing alone"),
        ({"extensions": (LEAF[0], usage("key_agreement"))}, "is not for signing"),
    ],
    ids=["expired", "also-for-encryption", "for-another-purpose"],
)
def test_a_certificate_that_signs_nothing_is_a_fault(signs_with, authority, made, said):
    key = signs_with(authority.signer(**made))["signing key"]
    assert not key.ok
    assert said in key.found


def test_a_key_that_is_not_there_is_a_fault(settings_of):
    key = found(settings_of(signing_key="absent.pem"))["signing key"]
    assert not key.ok
    assert "cannot be read" in key.found


def test_a_vault_that_lets_this_identity_not_sign_is_a_fault_with_the_roles_that_it_needs(
    cloud, authority, tmp_path, monkeypatch
):
    vault = cloud.start(KeyVault(cloud.certificate, cloud.identity, authority.signer(days=90)))
    root = authority.write_root(tmp_path / "root.pem")
    for name, value in {"SIGNING_KEY": vault.certificate_url, "SIGNING_CERTIFICATES": root, "ROOTS": root}.items():
        monkeypatch.setenv(f"AML_IMAGES_TRUST__{name}", str(value))
    settings = load_settings(repo=tmp_path)
    assert all(result.ok for result in found(settings).values())
    vault.fail(403, path="/sign", times=None)
    key = found(settings)["signing key"]
    assert not key.ok
    assert "may not sign with the vault's key" in key.found
    assert "Key Vault Crypto User and Key Vault Reader" in key.hint


def test_without_evidence_there_is_nothing_to_sign_with(settings_of):
    assert found(settings_of(attach=False)) == {}


def test_in_azure_a_factory_that_trusts_nobody_is_a_fault(settings_of):
    results = found(settings_of("azure"))
    assert "not configured what signs" in results["signing key"].found
    assert "not configured whose signatures count" in results["trust policy"].found


def test_a_policy_that_refuses_what_this_factory_signs_is_a_fault(signs_with, authority, tmp_path):
    refused = signs_with(identities="C=US, O=Fabrikam")["trust policy"]
    assert not refused.ok
    assert refused.found.endswith("who is not one of those who may sign")
    signer = authority.signer()
    (tmp_path / "list.crl").write_bytes(authority.revoke(signer).public_bytes(Encoding.PEM))
    assert "was revoked on" in signs_with(signer, identities="", revocation_lists="list.crl")["trust policy"].found
    stranger = Authority("another root").signer()
    assert "whom no trusted root names" in signs_with(stranger, revocation_lists="")["trust policy"].found


def test_a_root_that_has_expired_is_a_fault(settings_of, tmp_path):
    old = Authority(days=30)
    results = found(settings_of(attach=False, roots=old.write_root(tmp_path / "old.pem")))
    assert "the root certificate CN=test root,O=Contoso,ST=WA,C=US was valid until" in results["trust policy"].found


def test_the_timestamp_service_is_asked(signs_with, tmp_path):
    with TimestampService(tmp_path) as service:
        url = service.url
        ignored = signs_with(timestamp_url=url)["timestamp service"]
        (tmp_path / "trusted.pem").write_bytes(pem(service.root))
        trusted = signs_with(timestamp_url=url, timestamp_roots="trusted.pem")["timestamp service"]
        (tmp_path / "trusted.pem").write_bytes(pem(Authority().root))
        stranger = signs_with(timestamp_url=url, timestamp_roots="trusted.pem")["timestamp service"]
    away = signs_with(timestamp_url=url)["timestamp service"]
    assert ignored.ok
    assert "ignore timestamps" in ignored.found
    assert trusted == CheckResult("timestamp service", ok=True, found=url)
    assert not stranger.ok
    assert "timestamp_roots" in stranger.hint
    assert not away.ok
    assert "no timestamp" in away.found
