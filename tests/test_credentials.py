"""What a file says of its making: signed manifests, read in a process of their own, and lines that anybody can write."""
import datetime
import io
import json
import time

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gilt.data.credentials import NOT_LOOKED, Credentials, anchors, in_words, reading
from gilt.data.pixels import open_image
from gilt.data.software import software
from gilt.errors import ConfigError

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def picture(format="JPEG", **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def certificate(name, key, issuer=None, issuer_key=None):
    """An X.509 certificate of the form that C2PA asks for: a root where there is no issuer, else a signer's."""
    x509 = pytest.importorskip("cryptography.x509", reason="a test certificate needs cryptography")
    from cryptography.hazmat.primitives import hashes

    own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
                     x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Test Studio")])
    now, root, above = datetime.datetime.now(datetime.UTC), issuer is None, (issuer_key or key).public_key()
    never = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
    uses = dict.fromkeys(never, False) | {"key_cert_sign": root, "crl_sign": root}
    built = (x509.CertificateBuilder().subject_name(own).issuer_name(own if root else issuer.subject)
             .public_key(key.public_key()).serial_number(x509.random_serial_number())
             .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=9))
             .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
             .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
             .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
             .add_extension(x509.KeyUsage(digital_signature=not root, **uses), critical=True))
    if not root:
        built = built.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return built.sign(issuer_key or key, hashes.SHA256())


@pytest.fixture(scope="module")
def signing():
    """(signer, the root's certificate as PEM): made on the spot."""
    c2pa = pytest.importorskip("c2pa", reason="needs the extra credentials")
    certificate("x", *[_key()])  # skips here without cryptography
    from cryptography.hazmat.primitives import serialization as form

    root_key, key = _key(), _key()
    root = certificate("Root", root_key)
    chain = [one.public_bytes(form.Encoding.PEM) for one in (certificate("Painter Ltd", key, root, root_key), root)]
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", b"".join(chain), private, None)) as signer:
        yield signer, chain[1].decode()


def _key():
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec", reason="a test certificate needs cryptography")
    return ec.generate_private_key(ec.SECP256R1())


def sign(signer, data: bytes, kind: str) -> bytes:
    import c2pa

    manifest = {"claim_generator_info": [{"name": "painter", "version": "1.0"}], "assertions": [
        {"label": "c2pa.actions", "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": SOURCE}]}}]}
    made = io.BytesIO()
    with c2pa.Builder(json.dumps(manifest)) as builder:
        builder.sign(signer, kind, io.BytesIO(data), made)
    return made.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_signed_file_says_who_signed_and_that_it_was_generated(signing, format):
    signer, root = signing
    data = sign(signer, picture(format), f"image/{format.lower()}")
    said = ("signed by Painter Ltd (Test Studio); made with painter 1.0; digital source: trainedAlgorithmicMedia; "
            "signature valid, ")
    with reading() as stranger, reading(root) as friend:
        assert stranger.of(data) == f"{said}signer not on a list of trusted ones"
        assert friend.of(data) == f"{said}signer trusted"


def test_a_picture_changed_after_signing_is_invalid(signing):
    data = bytearray(sign(signing[0], picture(), "image/jpeg"))
    data[-40] ^= 255
    with reading(signing[1]) as reader:
        assert "INVALID (assertion.dataHash.mismatch)" in reader.of(bytes(data))


def test_broken_manifests_cost_a_line_and_nothing_else(signing):
    whole, rng = sign(signing[0], picture(), "image/jpeg"), np.random.default_rng(0)
    with reading() as reader:
        for _ in range(40):
            broken = np.frombuffer(whole, np.uint8).copy()
            broken[rng.integers(0, len(broken), 60)] = rng.integers(0, 256, 60)
            said = reader.of(broken.tobytes()[:rng.integers(3000, len(broken))])
            assert said is None or (said.isprintable() and len(said) < 700)
        assert reader.of(b"jumb and nothing more") is None or "cannot be read" in reader.of(b"jumb and nothing more")
        assert reader.of(whole).startswith("signed by Painter Ltd")


def test_a_reader_that_takes_too_long_is_ended_and_the_next_one_answers(signing):
    data = sign(signing[0], picture(), "image/jpeg")
    reader = Credentials(seconds=1e-4)
    try:
        start = time.monotonic()
        assert reader.of(data) == "present, but reading them crashed or took too long"
        assert time.monotonic() - start < 10
        reader.seconds = 60
        assert reader.of(data).startswith("signed by")
        reader._child.kill()  # as a crash would end it
        reader._child.wait()
        assert reader.of(data).startswith("signed by")
    finally:
        reader.close()


def test_no_process_is_started_for_files_without_a_manifest():
    with reading() as reader:
        reader.there = True
        assert reader.of(picture()) is None
        assert reader.of(picture() + b'<x dcterms:provenance="http://x"/>') == "at an address, which was not fetched"
        assert reader._child is None


def test_without_the_extra_nobody_claims_to_have_looked():
    reader = Credentials()
    reader.there = False
    assert reader.of(picture()) == NOT_LOOKED


def test_a_manifest_of_any_shape_is_put_in_words():
    assert in_words({}) == "signed by unknown; signature None"
    odd = {"active_manifest": "a", "manifests": {"a": {"signature_info": {"common_name": "A\x1b[31m\nB"},
                                                       "claim_generator": "tool/1", "assertions": [{"data": []}, {}]}}}
    assert in_words(odd).startswith("signed by A [31m B; made with tool/1; ")


def test_a_list_of_trusted_signers_is_checked(tmp_path):
    (tmp_path / "a.pem").write_text("no")
    with pytest.raises(ConfigError, match="holds no certificate"):
        anchors(tmp_path / "a.pem")


def opened(data: bytes) -> str | None:
    with open_image(data) as image:
        image.load()
        return software(image, data)


def test_a_camera_and_a_program_are_read_from_exif():
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131] = "Canon", "Canon EOS 5D", "GIMP\x1b 2.10"
    assert opened(picture(exif=exif)) == "camera: Canon EOS 5D; software: GIMP 2.10"
    assert opened(picture()) is None


@pytest.mark.parametrize("key, text, said", [
    ("parameters", "a cat\nSteps: 20, Sampler: Euler, Model: dream_v1", "Stable Diffusion web UI (Steps: 20, model dream_v1)"),
    ("prompt", '{"3": {"class_type": "KSampler"}}', "ComfyUI"), ("invokeai_metadata", "{}", "InvokeAI"),
    ("Description", "a cat --v 6 Job ID: 1234", "Midjourney")])
def test_what_generators_write_into_png_is_read(key, text, said):
    notes = PngInfo()
    notes.add_text(key, text)
    assert opened(picture("PNG", pnginfo=notes)) == f"AI parameters: {said}"


def test_parameters_in_a_jpegs_comment_and_xmp_are_read():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "x\nSteps: 30, Model: m".encode("utf-16-be")
    assert opened(picture(exif=exif)) == "AI parameters: Stable Diffusion web UI (Steps: 30, model m)"
    xmp = f'<x:xmpmeta><rdf xmp:CreatorTool="Firefly" Iptc4xmpExt:DigitalSourceType="{SOURCE}"/></x:xmpmeta>'.encode()
    assert opened(picture(xmp=xmp)) == "software: Firefly; digital source: trainedAlgorithmicMedia"


def test_a_prompt_that_is_plain_text_is_no_claim_and_a_broken_block_says_nothing():
    notes = PngInfo()
    notes.add_text("prompt", "bring the milk")
    assert opened(picture("PNG", pnginfo=notes)) is None
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    data = picture(exif=exif)
    at = data.index(b"Exif\0\0") + 14
    assert opened(data[:at] + b"\xff" * 12 + data[at + 12:]) is None
