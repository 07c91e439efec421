"""What the factory attaches, before programs that others wrote: notation, cosign, oras, @sigstore/verify, openssl."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from aml_images_dagster.builds.steps import scenarios
from aml_images_dagster.builds.steps.staging import stage
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.release.production import Releaser
from aml_images_dagster.release.release_files import publish
from aml_images_dagster.release.rollback import roll_back
from aml_images_dagster.trust import referrers
from aml_images_dagster.trust.dsse import BUNDLE
from aml_images_dagster.trust.encoding import from_base64url, json_object, to_base64url, to_json
from aml_images_dagster.trust.keys import laptop_key
from aml_images_dagster.trust.notary import ARTIFACT_TYPE, ENVELOPE, Trust, sign, verify
from aml_images_dagster.trust.referrers import Descriptor
from aml_images_dagster.trust.signing import EvidenceSigner
from aml_images_dagster.trust.statements import PROVENANCE, TEST_RESULT
from aml_images_dagster.trust.timestamps import new_timestamp
from aml_images_dagster.trust.verification import verify_image
from tests.trust.authority import KEYS, LEAF, key_pem, pem, public_pem
from tests.trust.samples import SBOM, statements
from tests.trust.timestamp_service import TimestampService

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trust.conftest import Verifiers

pytestmark = pytest.mark.engine

STRICT = {
    "version": "1.0",
    "trustPolicies": [
        {
            "name": "images",
            "registryScopes": ["*"],
            "signatureVerification": {"level": "strict"},
            "trustStores": ["ca:factory"],
            "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Contoso, CN=image factory"],
        }
    ],
}
OFFLINE = ("--insecure-ignore-tlog=true", "--allow-http-registry=true")


@dataclass(frozen=True)
class Programs:
    """The verifiers, told whom to trust."""

    verifiers: Verifiers

    def trust(self, root: bytes, policy: dict = STRICT) -> None:
        config = self.verifiers.home / ".config" / "notation"
        store = config / "truststore" / "x509" / "ca" / "factory"
        store.mkdir(parents=True, exist_ok=True)
        (store / "root.pem").write_bytes(root)
        (config / "trustpolicy.json").write_text(json.dumps(policy))
        (config / "trustpolicy.json").chmod(0o600)

    def notation(self, image: Reference, *, accepted: bool) -> str:
        run = self.verifiers.accept if accepted else self.verifiers.refuse
        return run("notation", "verify", "--insecure-registry", image)

    def cosign(self, image: Reference, key: Path, kind: str, *, accepted: bool) -> str:
        run = self.verifiers.accept if accepted else self.verifiers.refuse
        return run("cosign", "verify-attestation", "--key", key, "--type", kind, *OFFLINE, image)

    def sigstore(self, bundle: bytes, key: Path, *, accepted: bool) -> str:
        script, file = self.verifiers.home / "verify.cjs", self.verifiers.home / "bundle.json"
        script.write_text(SIGSTORE)
        file.write_bytes(bundle)
        run = self.verifiers.accept if accepted else self.verifiers.refuse
        return run("node", script, file, key, NODE_PATH=str(self.verifiers.folder / "node_modules"))


# As sigstore's documentation of the package does it, with a key in place of its public good instance.
SIGSTORE = """
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity } = require('@sigstore/verify');
const crypto = require('crypto');
const fs = require('fs');
const key = crypto.createPublicKey(fs.readFileSync(process.argv[3]));
const trust = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [],
                publicKey: () => ({ publicKey: key, validFor: () => true }) };
const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0, tsaThreshold: 0 });
verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(fs.readFileSync(process.argv[2])))));
console.log('verified');
"""


@pytest.fixture
def programs(verifiers, authority) -> Programs:
    programs = Programs(verifiers)
    programs.trust(pem(authority.root))
    return programs


@pytest.fixture
def with_evidence(real_registry, image, authority):
    """Attaches all evidence of an image, signed by a kind of key; gives the signer."""

    def attach(signer):
        target = Descriptor.of(real_registry.existing(image))
        evidence = EvidenceSigner(signer).evidence(target, [SBOM], statements(image.digest))
        referrers.attach(real_registry, image, evidence)
        return signer

    return attach


def key_file(signer, folder: Path) -> Path:
    path = folder / f"{signer.chain[0].serial_number}.pub"
    path.write_bytes(public_pem(signer))
    return path


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_notation_accepts_the_signatures_of_image_and_sbom(
    real_registry, image, with_evidence, authority, programs, kind
):
    with_evidence(authority.signer(kind))
    said = programs.notation(image, accepted=True)
    assert f"Successfully verified signature for {image}" in said
    (sbom,) = [each for each in referrers.listed(real_registry, image) if each.artifact_type == SBOM.artifact_type]
    programs.notation(image.with_digest(sbom.digest), accepted=True)


def test_notation_refuses_an_image_without_a_signature(image, programs):
    assert "no signature is associated" in programs.notation(image, accepted=False)


def test_notation_refuses_who_is_not_trusted(image, with_evidence, authority, programs):
    with_evidence(authority.signer(name="somebody else"))
    programs.notation(image, accepted=False)


@pytest.mark.parametrize("of_sbom", [False, True], ids=["of-image", "of-sbom"])
@pytest.mark.parametrize("part", ["payload", "signature", "protected"])
def test_notation_refuses_spoilt_signatures(real_registry, image, authority, programs, part, of_sbom):
    subject = image
    if of_sbom:
        subject = image.with_digest(referrers.attach(real_registry, image, [SBOM])[0])
    target = Descriptor.of(real_registry.existing(subject))
    signature = EvidenceSigner(authority.signer()).sign(target)
    document = json_object(signature.content)
    content = bytearray(from_base64url(document[part]))
    content[len(content) // 2] ^= 1
    spoilt = to_json(document | {part: to_base64url(bytes(content))})
    referrers.attach(real_registry, subject, [replace(signature, content=spoilt)])
    programs.notation(subject, accepted=False)


def test_notation_refuses_a_signature_that_was_moved_to_an_altered_image(
    real_registry, image, push_new_image, authority, programs
):
    altered = image.with_digest(push_new_image(image.repository, "altered").digest)
    signature = EvidenceSigner(authority.signer()).sign(Descriptor.of(real_registry.existing(image)))
    referrers.attach(real_registry, altered, [signature])
    programs.notation(altered, accepted=False)
    referrers.delete(real_registry, altered)


def test_notation_refuses_a_signature_that_has_expired(real_registry, image, authority, programs):
    target, now = Descriptor.of(real_registry.existing(image)), datetime.now(UTC)
    signer = authority.signer(start=now - timedelta(days=10))
    expired = sign(target, signer, now=now - timedelta(days=2), lifetime=timedelta(days=1))
    referrers.attach(real_registry, image, [expired])
    programs.notation(image, accepted=False)
    referrers.attach(real_registry, image, [sign(target, signer, now=now, lifetime=timedelta(days=1))])
    programs.notation(image, accepted=True)


def test_notation_accepts_a_timestamped_signature_of_a_certificate_that_has_expired(
    real_registry, image, authority, programs, tmp_path
):
    service_policy = STRICT["trustPolicies"][0] | {"trustStores": ["ca:factory", "tsa:service"]}
    target, now = Descriptor.of(real_registry.existing(image)), datetime.now(UTC)
    seconds = 8.0
    signer = authority.signer(start=now - timedelta(days=1), days=1 + seconds / 86400)
    with TimestampService(tmp_path) as service:
        store = programs.verifiers.home / ".config/notation/truststore/x509/tsa/service"
        store.mkdir(parents=True)
        (store / "root.pem").write_bytes(pem(service.root))
        stamped = sign(target, signer, now=now, timestamp=partial(new_timestamp, url=service.url))
    referrers.attach(real_registry, image, [stamped])
    time.sleep(max(0, seconds + 1 - (datetime.now(UTC) - now).total_seconds()))
    programs.notation(image, accepted=False)
    programs.trust(pem(authority.root), STRICT | {"trustPolicies": [service_policy]})
    programs.notation(image, accepted=True)


@contextmanager
def served_list(content):
    """The URL of a revocation list whose content is made when it is asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = content().public_bytes(Encoding.DER)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/list.crl"
        server.shutdown()


def test_notation_and_we_refuse_what_the_list_of_the_issuer_revokes(real_registry, image, authority, programs):
    target, signers = Descriptor.of(real_registry.existing(image)), []

    def revoked_list():
        return authority.revoke(signers[0])

    with served_list(revoked_list) as url:
        place = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
        listed_at = (x509.CRLDistributionPoints([place]), False)
        signers += [authority.signer(extensions=(*LEAF, listed_at)) for _ in range(2)]
        trust = Trust((authority.root,), revocation_lists=(revoked_list(),))
        for signer, accepted in zip(signers, (False, True), strict=True):
            referrers.attach(real_registry, image, [EvidenceSigner(signer).sign(target)])
            programs.notation(image, accepted=accepted)
            assert verify_image(real_registry, image, trust, ("signature",), datetime.now(UTC)).ok == accepted


def test_notation_accepts_the_test_key_of_a_laptop_only_from_who_trusts_it(image, with_evidence, programs, tmp_path):
    signer = with_evidence(laptop_key(tmp_path))
    programs.notation(image, accepted=False)
    anybody = STRICT["trustPolicies"][0] | {"trustedIdentities": ["*"]}
    programs.trust(pem(signer.chain[0]), STRICT | {"trustPolicies": [anybody]})
    programs.notation(image, accepted=True)


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048"])
def test_we_accept_the_signatures_of_notation(real_registry, image, authority, verifiers, kind):
    signer = authority.signer(kind)
    folder = verifiers.home / ".config" / "notation" / "localkeys"
    folder.mkdir(parents=True)
    (folder / "images.key").write_bytes(key_pem(signer))
    (folder / "images.crt").write_bytes(pem(*signer.chain))
    for name in folder.iterdir():
        name.chmod(0o600)
    names = {"name": "images", "keyPath": str(folder / "images.key"), "certPath": str(folder / "images.crt")}
    (folder.parent / "signingkeys.json").write_text(json.dumps({"default": "images", "keys": [names]}))
    words = ("notation", "sign", "--insecure-registry", "--signature-format", "jws", "--expiry", "24h")
    verifiers.accept(*words, image)
    (signature,) = referrers.listed(real_registry, image)
    media_type, envelope = referrers.content_of(real_registry, image.repository, signature)
    assert (signature.artifact_type, media_type) == (ARTIFACT_TYPE, ENVELOPE)
    now = datetime.now(UTC)
    signed = verify(envelope, Descriptor.of(real_registry.existing(image)), Trust((authority.root,)), now)
    assert signed.by == "CN=image factory,O=Contoso,ST=WA,C=US"
    assert signed.expires
    assert timedelta(hours=23) < signed.expires - now < timedelta(hours=25)


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048", "rsa-3072"])
def test_cosign_accepts_provenance_and_test_results(image, with_evidence, authority, programs, tmp_path, kind):
    key = key_file(with_evidence(authority.signer(kind)), tmp_path)
    said = programs.cosign(image, key, "slsaprovenance1", accepted=True)
    assert "signatures were verified" in said
    programs.cosign(image, key, PROVENANCE, accepted=True)
    programs.cosign(image, key, TEST_RESULT, accepted=True)
    programs.cosign(image, key, "https://example.org/another", accepted=False)


def test_cosign_refuses_another_key(image, with_evidence, authority, programs, tmp_path):
    with_evidence(authority.signer())
    programs.cosign(image, key_file(authority.signer(), tmp_path), "slsaprovenance1", accepted=False)


def test_cosign_refuses_provenance_of_another_image(real_registry, image, with_evidence, authority, programs, tmp_path):
    signer = authority.signer()
    of_another = EvidenceSigner(signer).evidence(
        Descriptor.of(real_registry.existing(image)), [], statements(f"sha256:{'f' * 64}")
    )
    referrers.attach(real_registry, image, of_another)
    programs.cosign(image, key_file(signer, tmp_path), "slsaprovenance1", accepted=False)


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048"])
def test_sigstore_accepts_provenance_and_refuses_it_spoilt_or_by_another_key(authority, programs, tmp_path, kind):
    signer = authority.signer(kind)
    target = Descriptor("application/vnd.oci.image.manifest.v1+json", f"sha256:{'a' * 64}", 5)
    provenance, *_ = EvidenceSigner(signer).evidence(target, [], statements(target.digest))
    assert provenance.artifact_type == BUNDLE
    key = key_file(signer, tmp_path)
    assert "verified" in programs.sigstore(provenance.content, key, accepted=True)
    programs.sigstore(provenance.content, key_file(authority.signer(kind), tmp_path), accepted=False)
    document = json_object(provenance.content)
    envelope = document["dsseEnvelope"]
    altered = to_json(document | {"dsseEnvelope": envelope | {"payload": envelope["payload"][:-4] + "AAAA"}})
    programs.sigstore(altered, key, accepted=False)


def test_oras_discovers_everything(real_registry, image, with_evidence, authority, verifiers):
    with_evidence(authority.signer())
    said = verifiers.accept("oras", "discover", "--plain-http", "--format", "json", "--depth", "3", image)
    tree = json.loads(said)
    found = {each["digest"] for each in _nodes(tree.get("referrers", []))}
    assert found == {each.digest for each in referrers.walk(real_registry, image)}
    assert len(found) == 5


def test_what_oras_attaches_is_listed_beside_ours(real_registry, image, with_evidence, authority, verifiers, tmp_path):
    (tmp_path / "note.txt").write_text("seen")
    words = ("oras", "attach", "--plain-http", "--artifact-type", "application/vnd.example.note")
    verifiers.accept(*words, "--disable-path-validation", image, f"{tmp_path / 'note.txt'}:text/plain")
    with_evidence(authority.signer())
    assert len(referrers.listed(real_registry, image)) == 5


def test_everything_is_accepted_in_production_after_a_copy(
    real_registry, image, production, with_evidence, authority, programs, verifiers, tmp_path
):
    signer = with_evidence(authority.signer())
    copy = Reference(production.host, image.repository, digest=image.digest)
    copy_image(real_registry, production, image, image.repository)
    programs.notation(copy, accepted=False)
    referrers.copy(real_registry, production, image, image.repository)
    programs.notation(copy, accepted=True)
    programs.cosign(copy, key_file(signer, tmp_path), "slsaprovenance1", accepted=True)
    trust = Trust((authority.root,))
    verify_image(production, copy, trust, ("signature", "provenance", "sbom"), datetime.now(UTC)).require()
    referrers.delete(production, copy)


def test_programs_of_others_accept_what_production_serves_before_and_after_a_rollback(
    new_session, backends, settings, image_repository, verifiers, tmp_path
):
    signer, programs = laptop_key(settings.home), Programs(verifiers)
    anybody = STRICT["trustPolicies"][0] | {"trustedIdentities": ["*"]}
    programs.trust(pem(signer.chain[0]), STRICT | {"trustPolicies": [anybody]})
    name = image_repository.image("tools/shell")
    served = []

    def served_now():
        """What `:latest` of the image is, accepted by all of them."""
        (latest,) = [each for each in releases[0].images[0].destinations if each.endswith(":latest")]
        repository = latest.rpartition(":")[0]
        tag = Reference(backends.production.host, repository, "latest")
        there = tag.with_digest(backends.production.digest(tag))
        programs.notation(there, accepted=True)
        programs.cosign(there, key_file(signer, tmp_path), "slsaprovenance1", accepted=True)
        said = verifiers.accept("oras", "discover", "--plain-http", "--format", "json", "--depth", "3", there)
        found = {each["digest"] for each in _nodes(json.loads(said).get("referrers", []))}
        staged = Reference(backends.staging.host, name.partition("/")[0], digest=there.digest)
        assert found == {each.digest for each in referrers.walk(backends.staging, staged)}
        sboms = [each for each in referrers.listed(backends.production, there) if "spdx" in each.artifact_type]
        programs.notation(there.with_digest(sboms[0].digest), accepted=True)
        return there.digest

    releases = []
    for tag in ("v1", "v2"):
        image_repository.write(image_repository.folder("tools/shell") / "greeting", tag)
        session = replace(new_session("tools/shell", commit=image_repository.commit(tag)), release_tag=tag)
        session.folder.write_run_information()
        scenarios.test(session, stage(session, name, str), str)
        releases.append(publish(session).release)
        Releaser(backends, settings, "somebody", str).release(releases[-1])
        served.append(served_now())
    roll_back(name, "", "it is broken", backends, settings, "somebody", str)

    assert served[0] != served[1]
    assert served_now() == served[0]


def _nodes(referrers_of_oras: list[dict]) -> list[dict]:
    return [node for each in referrers_of_oras for node in (each, *_nodes(each.get("referrers") or []))]
