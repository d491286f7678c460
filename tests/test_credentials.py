"""Content Credentials are read as they were signed, changes show, nothing is fetched and nothing crashes."""

import io
import json
import random
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from attribution.errors import InputError
from attribution.page import views
from attribution.report import credentials
from attribution.report.credentials import MOST_BYTES, MOST_ITEMS, MOST_TEXT, read_credentials

AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
CREATED = {"action": "c2pa.created", "digitalSourceType": AI, "softwareAgent": "Some model"}
USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
USAGES += ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


def picture(kind):
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((64, 64)).save(file, kind)
    return file.getvalue()


def named(words):
    pairs = ((NameOID.ORGANIZATION_NAME, "Test press"), (NameOID.COMMON_NAME, words))
    return x509.Name([x509.NameAttribute(*pair) for pair in pairs])


def certificate(words, key, usages, issuer_key, authority, more=()):
    now, public = datetime.now(UTC), key.public_key()
    made = x509.CertificateBuilder(named("Root"), named(words), public, x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(30))
    extensions = [
        (x509.BasicConstraints(authority, None), True),
        (x509.KeyUsage(**{usage: usage in usages for usage in USAGES}), True),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False),
    ]
    if not authority:
        extensions.append((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False))
    extensions += [(extension, False) for extension in more]
    for extension, critical in extensions:
        made = made.add_extension(extension, critical)
    signed = made.sign(issuer_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def signer():
    """Make a root and a leaf certificate; give the root, the chain and the leaf's key, as PEM."""
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("Root", root_key, ("key_cert_sign", "crl_sign"), root_key, True)
    leaf = certificate("Press office", key, ("digital_signature",), root_key, False)
    plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(*plain, serialization.NoEncryption()).decode()
    return root, leaf + root, private


@pytest.fixture(scope="module")
def sign(signer):
    """Sign a small picture."""

    def signed(kind="PNG", actions=(CREATED,), title="A cat", parents=(), remote=None, by=None):
        chain, key = by or signer[1:]
        info = c2pa.C2paSignerInfo("es256", chain.encode(), key.encode(), None)
        done = {"label": "c2pa.actions", "data": {"actions": list(actions)}}
        generator = [{"name": "Test machine", "version": "1.0"}]
        manifest = {"claim_generator_info": generator, "title": title, "assertions": [done]}
        file, form = io.BytesIO(), f"image/{kind.lower()}"
        with c2pa.Signer.from_info(info) as who, c2pa.Builder(manifest) as builder:
            for parent in parents:
                said = json.dumps({"title": parent, "relationship": "componentOf"})
                builder.add_ingredient(said, "image/png", io.BytesIO(picture("PNG")))
            if remote:
                builder.set_remote_url(remote)
                builder.set_no_embed()
            builder.sign(who, form, io.BytesIO(picture(kind)), file)
        return file.getvalue()

    return signed


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_what_was_signed_is_read(sign, kind):
    edited = {"action": "c2pa.color_adjustments"}
    found = read_credentials(sign(kind, [CREATED, edited], parents=["Parent <b>"]))
    assert found.state == "untrusted"
    assert found.signer == "Press office, Test press"
    assert found.generator == "Test machine 1.0"
    assert found.title == "A cat"
    assert found.actions == ("created by Some model: made by AI", "color adjustments")
    assert found.ingredients == ("Parent <b>",)
    assert found.by_ai
    assert found.error == ""
    assert dict(found.facts())["Signed by"] == found.signer


def test_a_camera_is_no_ai(sign):
    found = read_credentials(sign(actions=[CREATED | {"digitalSourceType": AI.replace(
        "trainedAlgorithmicMedia", "digitalCapture")}]))  # fmt: skip
    assert not found.by_ai
    assert found.actions == ("created by Some model: taken by a camera",)


def test_a_signer_is_trusted_only_by_whom_the_caller_names(sign, signer):
    assert read_credentials(sign(), trusted=signer[0]).state == "valid"
    assert read_credentials(sign()).state == "untrusted"


def test_changed_pixels_and_changed_statements_are_invalid(sign, signer):
    for place in (lambda data: data.rindex(b"IDAT") + 40, lambda data: data.index(b"A cat")):
        data = bytearray(sign())
        data[place(data)] ^= 1
        found = read_credentials(bytes(data), trusted=signer[0])
        assert found.state == "invalid"
        assert found.error


def test_nothing_is_fetched(sign, monkeypatch):
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        data = sign(remote=f"http://127.0.0.1:{server.server_port}/manifest")
        found = read_credentials(data)
        assert asked == []
        assert found.state == "unreadable"
        assert "another machine" in found.error
        for part in ("verify", "core"):  # each of the two locks holds alone
            monkeypatch.setattr(credentials, "SETTINGS", {part: credentials.SETTINGS[part]})
            assert "another machine" in read_credentials(data).error
            assert asked == []
            monkeypatch.undo()
        monkeypatch.setattr(credentials, "SETTINGS", {})  # the file would make a request
        read_credentials(data)
        assert asked == ["/manifest"]
        server.shutdown()


@pytest.mark.parametrize(
    "data",
    [b"", b"text", b"<svg/>", b"%PDF-1.7", picture("PNG"), picture("JPEG"), picture("WEBP")],
)
def test_a_file_without_credentials_has_none(data):
    assert read_credentials(data) is None


def test_a_large_file_is_not_read():
    found = read_credentials(b"\x89PNG" + bytes(MOST_BYTES))
    assert found.state == "unreadable"
    assert "20 MB" in found.error


def test_statements_are_cut_and_cannot_turn_text_around(sign):
    many = [{"action": "c2pa.edited", "softwareAgent": "x" * 9999}] * 50
    found = read_credentials(sign(actions=[CREATED, *many], title="a\u202eb\x07" + "c" * 9999))
    assert found.title.startswith("abccc")
    assert len(found.title) == MOST_TEXT
    assert len(found.actions) == MOST_ITEMS
    assert max(map(len, found.actions)) == MOST_TEXT


@pytest.mark.parametrize(
    "store",
    [
        [], {}, {"active_manifest": "a"}, {"active_manifest": "a", "manifests": {"a": []}},
        {"active_manifest": [], "manifests": {}},
        {"active_manifest": "a", "manifests": {"a": {"assertions": [{"label": "c2pa.actions"}]}}},
        {"active_manifest": "a", "manifests": {"a": {"ingredients": [1]}}},
        {"active_manifest": "a", "manifests": {"a": {"claim_generator_info": {"name": 1}}}},
        {"active_manifest": "a", "manifests": {"a": {"signature_info": "x"}}},
        {"active_manifest": 5, "manifests": []},
    ],
)  # fmt: skip
def test_statements_of_another_shape_are_unreadable(sign, monkeypatch, store):
    monkeypatch.setattr(c2pa.Reader, "json", lambda reader: json.dumps(store))
    assert read_credentials(sign()).state == "unreadable"


MARKUP = "</td><script src=//example.org/a.js></script><img src=x onerror=alert(1)>"
HOSTILE = f"{MARKUP}\u202e\u2066\x1b[2J\x07\u200b{{{{7*7}}}}"


def shown(said):
    """Give what the page and a table show of credentials."""
    return views.render("credentials", said=said), said.facts()


def assert_harmless(said):
    page, facts = shown(said)
    assert "<script" not in page
    assert "<img" not in page
    for _, value in facts:
        assert value.isprintable()
        assert len(value) <= MOST_ITEMS * (MOST_TEXT + 2)


def test_hostile_text_is_escaped_and_cut_wherever_a_signer_may_write_it(sign):
    agents = (HOSTILE, {"name": HOSTILE * 999})
    edited = [{"action": "c2pa.edited", "softwareAgent": agent} for agent in agents]
    actions = [CREATED | {"digitalSourceType": HOSTILE * 999}, *edited]
    actions += [{"action": f"org.{HOSTILE}"}]
    said = read_credentials(sign(actions=actions, title=HOSTILE, parents=[HOSTILE * 999] * 3))
    assert said.state == "untrusted"
    assert said.title == f"{MARKUP}[2J{{{{7*7}}}}"
    assert len(said.ingredients) == 3
    assert_harmless(said)
    assert "&lt;script" in shown(said)[0]


@pytest.mark.parametrize("text", [HOSTILE, "\u202e" * 10**5, "x" * 10**5, "\n\0" * 10**5])
def test_megabytes_of_text_are_cut_whoever_wrote_them(sign, monkeypatch, text):
    everywhere = {
        "title": text,
        "claim_generator": text,
        "claim_generator_info": [{"name": text, "version": text}] * 3,
        "signature_info": {"common_name": text, "issuer": text, "time": text},
        "ingredients": [{"title": text}] * 99,
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [
            {"action": text, "softwareAgent": {"name": {"a": text}}, "digitalSourceType": [text]}
        ] * 3}}],
    }  # fmt: skip
    failure = {"activeManifest": {"failure": [{"code": text, "explanation": text}] * 3}}
    store = {"active_manifest": text, "manifests": {text: everywhere}, "validation_state": text}
    store["validation_results"] = failure
    data = sign()
    monkeypatch.setattr(c2pa.Reader, "json", lambda reader: json.dumps(store))
    said = read_credentials(data)
    assert said.state == "invalid"
    assert len(said.ingredients) == MOST_ITEMS
    assert_harmless(said)


def test_addresses_in_statements_and_certificates_are_not_asked(signer, sign):
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_POST = do_HEAD = do_GET

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        actions = [CREATED | {"digitalSourceType": f"{place}/type", "softwareAgent": place}]
        data = sign(actions=actions, title=place, parents=[place])
        for trusted in ("", signer[0]):
            assert read_credentials(data, trusted).title == place
        chain, key = with_addresses(place)
        said = read_credentials(sign(title=place, by=(chain, key)))
        assert said.title == place
        server.shutdown()
    assert asked == []


def with_addresses(place):
    """Make a chain whose certificates say where to ask whether they were revoked; give it and the leaf's key."""
    url = x509.UniformResourceIdentifier
    oids = x509.oid.AuthorityInformationAccessOID
    asks = [(oids.OCSP, "ocsp"), (oids.CA_ISSUERS, "issuer")]
    access = x509.AuthorityInformationAccess(
        [x509.AccessDescription(oid, url(f"{place}/{path}")) for oid, path in asks]
    )
    points = x509.CRLDistributionPoints(
        [x509.DistributionPoint([url(f"{place}/revoked")], None, None, None)]
    )
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("Root", root_key, ("key_cert_sign", "crl_sign"), root_key, True)
    usages = ("digital_signature",)
    leaf = certificate("Press office", key, usages, root_key, False, (access, points))
    plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return leaf + root, key.private_bytes(*plain, serialization.NoEncryption()).decode()


def test_a_manifest_that_grows_when_unpacked_is_not_read(signer, monkeypatch):
    _, chain, key = signer
    info = c2pa.C2paSignerInfo("es256", chain.encode(), key.encode(), None)
    thumbnail = {"format": "image/jpeg", "identifier": "a"}
    done = {"label": "c2pa.actions", "data": {"actions": [CREATED]}}
    manifest = {"title": "A cat", "assertions": [done], "thumbnail": thumbnail}
    manifest["claim_generator_info"] = [{"name": "Test machine"}]
    file, packed = io.BytesIO(), {"core": {"prefer_compress_manifests": True}}
    with (
        c2pa.Context.from_dict(packed) as context,
        c2pa.Signer.from_info(info) as who,
        c2pa.Builder(manifest, context) as builder,
    ):
        builder.add_resource("a", io.BytesIO(bytes(2 * 2**20)))
        builder.sign(who, "image/png", io.BytesIO(picture("PNG")), file)
    assert len(file.getvalue()) < 10_000
    assert read_credentials(file.getvalue()).title == "A cat"  # 2 MB are fine, 20 MB are not
    tight = credentials.SETTINGS["core"] | {"max_decompressed_manifest_size_in_mb": 1}
    monkeypatch.setattr(credentials, "SETTINGS", credentials.SETTINGS | {"core": tight})
    assert read_credentials(file.getvalue()).state == "unreadable"


def test_damaged_files_never_crash(sign):
    generator = random.Random(0)
    whole = [sign(kind) for kind in ("PNG", "JPEG", "WEBP")]
    states = set()
    for number in range(600):
        data = bytearray(whole[number % 3])
        for _ in range(generator.choice((1, 5, 50))):
            data[generator.randrange(len(data))] = generator.randrange(256)
        if number % 5 == 0:
            del data[generator.randrange(len(data)) :]
        found = read_credentials(bytes(data))
        states.add(found and found.state)
    assert {"invalid", "unreadable"} <= states


def test_without_the_extra_a_sentence_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(InputError, match=r"diffusion-attribution\[credentials\]"):
        read_credentials(picture("png"))
