"""Reports of a real session: kept, verified by others' code too, and everything that may be done to a file of them."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from securesystemslib import dsse, signer

import infrastructure_sdk as isdk
import infrastructure_sdk.sync as sync
from infrastructure_sdk.reports import FORMATS
from infrastructure_sdk.reports.signed import SignedReport, sign_waiver, verify

Infra = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def infra(state_dir: Path) -> Infra:
    def run(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infrastructure_sdk.cli", "--state-dir", str(state_dir), "isolation"]
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == expect, (words, done.stdout, done.stderr)
        return done

    return run


def pae(kind: bytes, body: bytes) -> bytes:
    """By the text of the DSSE specification."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def check_with_cryptography(report: SignedReport, pem: str) -> None:
    envelope = json.loads(report.envelope)
    key = serialization.load_pem_public_key(pem.encode())
    assert isinstance(key, ed25519.Ed25519PublicKey)
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = base64.b64decode(envelope["payload"], validate=True)
    (signature,) = envelope["signatures"]
    assert signature["keyid"] == hashlib.sha256(der).hexdigest() == report.key_id
    key.verify(base64.b64decode(signature["sig"]), pae(envelope["payloadType"].encode(), body))
    assert hashlib.sha256(report.envelope.encode()).hexdigest() == report.digest
    statement = json.loads(body)
    subject = {key: statement["predicate"]["report"][key] for key in ("session_id", "vm_id", "instance_epoch")}
    text = json.dumps(subject, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert statement["subject"][0]["digest"]["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def check_with_securesystemslib(report: SignedReport, pem: str) -> None:
    envelope = dsse.Envelope.from_dict(json.loads(report.envelope))
    loaded = serialization.load_pem_public_key(pem.encode())
    key = signer.SSlibKey.from_crypto(loaded, keyid=report.key_id)
    assert set(envelope.verify([key], 1)) == {report.key_id}


async def test_reports_of_a_session_are_kept_signed_and_chained(
    config: isdk.InfraSDKConfig, tmp_path: Path, infra: Infra
) -> None:
    author = ed25519.Ed25519PrivateKey.generate()
    private, public, waivers = tmp_path / "author.pem", tmp_path / "author.pub", tmp_path / "waivers.dsse"
    private.write_bytes(
        author.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public.write_bytes(
        author.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    waived = {"reason": "no KVM here", "approved_by": "the owner", "private_key": private}
    waivers.write_text(
        sign_waiver("CMP-01", expires_at="2100-01-01T00:00:00Z", **waived)
        + sign_waiver("RUN-04", expires_at="2020-01-01T00:00:00Z", **waived)
    )
    # Only the reports that are asked for are kept.
    options = {"waivers_file": str(waivers), "waiver_keys_file": str(public), "recheck_interval": "0s"}
    files = {"isolation": options}
    async with isdk.InfrastructureSDK(config.overlaid_with(isdk.InfraSDKConfig.from_dict(files))) as sdk:
        session = await sdk.sessions.create(isdk.SessionRequest(user_id="alice"))
        await session.wait_until_active()
        report = await sdk.isolation.validate(session)
        await sdk.isolation.validate(session, layers=["memory"])
        first, second = await sdk.isolation.history(session)
        assert (first.sequence, second.sequence) == (1, 2)
        assert first.report == report
        assert await sdk.isolation.report(report.id) == first
        pem = await sdk.isolation.public_keys()
        for kept in (first, second):
            check_with_cryptography(kept, pem)
            check_with_securesystemslib(kept, pem)

        # Accepted for a time and still counted.
        found = {finding.check_id: finding for finding in report.findings}
        assert found["CMP-01"].status == "waived" and "no KVM here" in found["CMP-01"].reason
        assert found["RUN-04"].status == "fail"  # its waiver has ended
        assert report.verdict == "not_isolated" and report.lower <= 50

        text = str(await sdk.isolation.explain(f"{session.id}/MEM-01"))  # the last report: of one layer
        assert "MEM-01" in text and "Evidence:" in text
        assert "Accepted by the owner" in str(await sdk.isolation.explain(f"{report.id}/CMP-01"))
        with pytest.raises(isdk.NotFoundError):
            await sdk.isolation.explain(f"{session.id}/CMP-01")
        view = await sdk.isolation.compliance(session, "soc2")
        assert view.report_id == second.report_id and view.controls
        for name in FORMATS:
            assert len(first.export(name)) > 1000

        chain, anchor = tmp_path / "chain.dsse", tmp_path / "anchor.dsse"
        chain.write_text(await sdk.isolation.chain(session))
        anchor.write_text(await sdk.isolation.anchor([session]))
        verified = await sdk.isolation.verify(chain, anchor=anchor, session=session.id, complete=True, max_age="1h")
        assert verified and not verified.notes, verified
        await session.terminate()
        with pytest.raises(isdk.NotFoundError):
            await sdk.isolation.compliance("s-nothing")
        with pytest.raises(isdk.NotFoundError):
            await sdk.isolation.anchor(["s-nothing"])
    # By the command line, when the session is gone.
    listed = json.loads(infra("history", session.id, "-o", "json").stdout)
    assert [item["report_id"] for item in listed] == [first.report_id, second.report_id]
    keys = tmp_path / "keys.pem"
    infra("keys", "-o", str(keys))
    assert keys.read_text() == pem
    for name in ("dsse", "html"):
        infra("report", first.report_id, "--format", name, "-o", str(tmp_path / name))
        assert (tmp_path / name).read_text() == first.export(name)
    assert verify(tmp_path / "dsse", keys)
    infra("verify", str(chain), "--trust", str(keys), "--anchor", str(anchor), "--complete")
    assert "CC6.1" in infra("compliance", session.id, "--framework", "soc2").stdout
    assert "MEM-01" in infra("explain", f"{session.id}/MEM-01").stdout

    # What is done to a file of them is seen.
    one, two = chain.read_text().splitlines(keepends=True)
    for changed, why in (
        (two + one, "reordered"),
        (one + one, "replayed"),
        (one, "truncated"),
        (one + two.replace("A", "B", 1), "bad_signature"),
    ):
        chain.write_text(changed)
        assert why in {problem["kind"] for problem in verify(chain, keys, anchor=anchor).problems}
    told = infra("verify", str(chain), "--key", str(keys), "--anchor", str(anchor), expect=6).stdout
    assert "bad_signature" in told and "NOT verified" in told
    infra("report", "nothing", expect=3)
    infra("report", first.report_id, "--format", "pdf", expect=2)
    infra("verify", str(tmp_path / "missing"), "--key", str(keys), expect=2)
    new = infra("rotate-key").stdout.strip()
    infra("keys", "-o", str(keys))
    assert keys.read_text().startswith(pem) and keys.read_text() != pem and len(new) == 64


def test_the_sync_twin_has_the_same(config: isdk.InfraSDKConfig) -> None:
    with sync.InfrastructureSDK(config) as sdk:
        assert sdk.isolation.history("s-nothing") == []
        assert "PUBLIC KEY" in sdk.isolation.public_keys()
        assert str(sdk.isolation.explain("MEM-01")).startswith("MEM-01")
        with pytest.raises(isdk.NotFoundError):
            sdk.isolation.report("nothing")


def test_bad_requests_name_the_field(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    for arguments, field in (
        (([], [empty]), "trusted_keys"),
        ((empty, []), "trusted_keys"),
        ((tmp_path / "none", empty), "files"),
        ((empty, tmp_path / "none"), "keys"),
    ):
        with pytest.raises(isdk.ValidationError) as caught:
            verify(*arguments)  # type: ignore[arg-type]
        assert caught.value.context["field"] == field, arguments
    for changes, field in (({"check_id": "MEM-99"}, "check_id"), ({"reason": ""}, "reason"), ({}, "private_key")):
        given = {"check_id": "MEM-01", "reason": "x", "approved_by": "y", "expires_at": "2100-01-01T00:00:00Z"}
        with pytest.raises(isdk.ValidationError) as refused:
            sign_waiver(**{**given, **changes}, private_key=empty)
        assert refused.value.context["field"] == field


def test_a_waivers_file_that_nobody_trusted_signed_fails_the_start(config: isdk.InfraSDKConfig, tmp_path: Path) -> None:
    waivers, keys = tmp_path / "waivers.dsse", tmp_path / "keys.pem"
    waivers.write_text("nonsense\n")
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    keys.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    for options in ({"waivers_file": str(waivers)}, {"waivers_file": str(waivers), "waiver_keys_file": str(keys)}):
        chosen = config.overlaid_with(isdk.InfraSDKConfig.from_dict({"isolation": options}))
        with pytest.raises(isdk.InfrastructureSDKError, match="waiver"), sync.InfrastructureSDK(chosen):
            pass
