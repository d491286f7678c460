"""Sign what a page gives out, and tell who signed: Ed25519 (RFC 8032), over JSON in one fixed form.

In: a document that JSON can hold, and its kind, so that one kind never passes for another. Out: the document with its
signature and the public key; or a sentence on them. A signature says which key signed and that nothing changed since.
It says neither whose key that is, which its fingerprint beside the page does, nor that the answer is right.
"""

import base64
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution.errors import InputError

FILE = "signing-key.pem"  # in the folder that a host names
REPORT, ARTIST, REMOVED = "report", "report for an artist", "list of what was removed"
ALGORITHM = "Ed25519"
FIELD = "signature"
DIGITS = 32  # of a fingerprint, hexadecimal: 128 bits
UNSIGNED = "It is not signed: nobody vouches for who made it."
INVALID = "The signature is not valid: the report was changed after it was signed, or the signature is made up."


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise InputError(
            "signatures need cryptography; run pip install 'diffusion-attribution[page]'"
        ) from error
    return ed25519


@dataclass(frozen=True)
class Signer:
    """Whoever holds a private key."""

    key: Any  # Ed25519PrivateKey

    @classmethod
    def in_folder(cls, folder: str | Path) -> "Signer":
        """Read the folder's key; the first time, make it, for its owner's eyes only."""
        path, ed25519 = Path(folder) / FILE, _ed25519()
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if not path.is_file():
            _make(path, ed25519.Ed25519PrivateKey.generate())
        if path.stat().st_mode & 0o077:
            raise InputError(f"others may read {path}; run chmod 600, or make a new key")
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InputError(f"{path} is no key; remove it, and a new one is made") from error
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise InputError(f"{path} is no {ALGORITHM} key; remove it, and a new one is made")
        return cls(key)

    @property
    def public(self) -> bytes:
        """Give the public key."""
        return self.key.public_key().public_bytes_raw()

    @property
    def fingerprint(self) -> str:
        """Give what a page shows of its key."""
        return fingerprint(self.public)

    def signed(self, document: dict, kind: str) -> dict:
        """Give a document with its signature."""
        value = self.key.sign(_message(document, kind))
        parts = {"public_key": self.public, "value": value}
        written = {name: base64.b64encode(part).decode() for name, part in parts.items()}
        return document | {FIELD: {"algorithm": ALGORITHM, **written}}


def _make(path: Path, key: Any) -> None:
    """Write a new key beside and link it: of two that start at once, one makes it and both read it."""
    from cryptography.hazmat.primitives import serialization as form

    text = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent) as part:  # mode 0600
            part.write(text)
            part.flush()
            os.fsync(part.fileno())
            os.link(part.name, path)
    except FileExistsError:
        if not path.is_file():
            raise InputError(f"{path.parent} is no folder to keep a key in; name another") from None
    except OSError as error:
        raise InputError(
            f"no key can be kept in {path.parent} ({error.strerror}); name a folder that can be written"
        ) from error


def fingerprint(public: bytes) -> str:
    """Name a public key so that people can compare it: SHA-256, 32 hexadecimal digits in groups of four."""
    digits = hashlib.sha256(public).hexdigest()[:DIGITS]
    return " ".join(digits[place : place + 4] for place in range(0, DIGITS, 4))


def wanted_key(text: str) -> str:
    """Read a fingerprint that somebody typed, with or without spaces."""
    digits = "".join(text.replace(":", " ").split()).lower()
    if len(digits) != DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise InputError(
            f"the key is {text[:60]!r}; give the fingerprint of {DIGITS} letters and digits that the page shows"
        )
    return digits


def signer_of(document: dict, kind: str) -> str | None:
    """Give the fingerprint of the key that signed a document; None where the signature is not valid."""
    from cryptography.exceptions import InvalidSignature

    said, ed25519 = document[FIELD], _ed25519()
    try:
        public, value = (base64.b64decode(said[n], validate=True) for n in ("public_key", "value"))
        key = ed25519.Ed25519PublicKey.from_public_bytes(public)
        key.verify(value, _message(document, kind))
    except (InvalidSignature, ValueError, TypeError, KeyError):
        return None
    return fingerprint(public) if said.get("algorithm") == ALGORITHM else None


def checked(document: dict, kind: str, key: str = "") -> tuple[bool, str]:
    """Tell whether a document's signature is as it should be, and say so; `key` insists on a fingerprint."""
    wanted = wanted_key(key) if key else ""
    if FIELD not in document:
        return not wanted, UNSIGNED
    signer = signer_of(document, kind)
    if signer is None:
        return False, INVALID
    if wanted and signer.replace(" ", "") != wanted:
        return False, f"The signature is valid, but by another key than the one wanted: {signer}."
    return True, f"The signature is valid: the key {signer} signed it, and nothing was changed."


def _message(document: dict, kind: str) -> bytes:
    """Write a document but for its signature in one fixed form: sorted names, no spaces, ASCII."""
    content = {name: value for name, value in document.items() if name != FIELD}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"diffusion-attribution: {kind}\n{text}".encode()
