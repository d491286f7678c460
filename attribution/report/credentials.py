"""Read what a file's Content Credentials say of it (C2PA): who signed, and how the picture was made.

In: the bytes of a file as it was uploaded, before anything saves it again. Out: `Credentials`, or None where the file
carries none. They are somebody's statement, valid or not, and no part of our answer. Nothing is fetched: neither
manifests that lie elsewhere, nor identities, nor whether a certificate was revoked. No list of trusted signers is
shipped, so that a signer is `untrusted` unless the caller names whom to trust.
"""

import io
import json
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from attribution.errors import InputError

MOST_BYTES = 20 * 2**20
MOST_TEXT = 200  # characters of each statement
MOST_ITEMS = 20
KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}
SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {
        "allowed_network_hosts": [],
        "decode_identity_assertions": False,
        "max_decompressed_manifest_size_in_mb": 20,
    },
}
STATES = {"Trusted": "valid", "Valid": "untrusted", "Invalid": "invalid"}
STATE_WORDS = {
    "valid": "valid, by a trusted signer",
    "untrusted": "unchanged since it was signed, but anybody can sign: the signer is on no list of ours",
    "invalid": "not valid: the file or its credentials were changed, or are faulty",
    "unreadable": "cannot be read",
}
SOURCES = {  # IPTC's digital source types that speak of AI
    "trainedAlgorithmicMedia": "made by AI",
    "compositeWithTrainedAlgorithmicMedia": "made partly by AI",
    "algorithmicallyEnhanced": "enhanced by an algorithm",
    "digitalCapture": "taken by a camera",
}


@dataclass(frozen=True)
class Credentials:
    """What the last who signed a file says of it."""

    state: str  # a key of STATE_WORDS
    signer: str = ""
    generator: str = ""  # the program that wrote the claim
    time: str = ""  # of signing, where a time stamp tells
    title: str = ""
    actions: tuple[str, ...] = ()
    ingredients: tuple[str, ...] = ()  # titles
    by_ai: bool = False  # an action says that AI made it, at least in part
    error: str = ""  # why they cannot be read, or are not valid

    def facts(self) -> list[tuple[str, str]]:
        """Give all that is stated, in words, for a table; the text is not escaped."""
        rows = [
            ("Credentials", STATE_WORDS[self.state]),
            ("Reason", self.error),
            ("Signed by", self.signer),
            ("Signed at", self.time),
            ("Written by", self.generator),
            ("Title", self.title),
            ("What was done", "; ".join(self.actions)),
            ("Made from", "; ".join(self.ingredients)),
        ]
        return [(name, value) for name, value in rows if value]


def can_read() -> bool:
    """Tell whether the extra that reads credentials is installed."""
    return find_spec("c2pa") is not None


def _c2pa() -> ModuleType:
    try:
        import c2pa
    except ImportError as error:
        raise InputError(
            "reading Content Credentials needs c2pa; run pip install 'diffusion-attribution[credentials]'"
        ) from error
    return c2pa


def read_credentials(data: bytes, trusted: str = "") -> Credentials | None:
    """Read a JPEG's, PNG's or WebP's credentials; `trusted` holds certificates (PEM) of signers to trust."""
    kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), None)
    if kind is None:
        return None
    if len(data) > MOST_BYTES:
        return Credentials(
            "unreadable", error=f"the file has more than {MOST_BYTES // 2**20} MB; make it smaller"
        )
    c2pa = _c2pa()
    settings = SETTINGS | ({"trust": {"trust_anchors": trusted}} if trusted else {})
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(kind, io.BytesIO(data), context=context) as reader,
        ):
            store = json.loads(reader.json())
        return _credentials(store)
    except c2pa.C2paError.ManifestNotFound:
        return None
    except (
        c2pa.C2paError, ValueError, RecursionError, TypeError, AttributeError, LookupError,
    ) as error:  # fmt: skip
        # The last three: a manifest may hold anything where it should hold something.
        remote = str(error).startswith("Remote:")
        why = "they lie on another machine, which is not asked" if remote else "they are damaged"
        return Credentials("unreadable", error=why)


def _credentials(store: dict) -> Credentials:
    """Take the active manifest's statements out of a manifest store."""
    manifest = store["manifests"][store["active_manifest"]]
    state = STATES.get(store.get("validation_state"), "invalid")
    failures = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    signature = manifest.get("signature_info") or {}
    generators = manifest.get("claim_generator_info") or []
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    sources = [_source(action) for action in actions]
    reasons = [failure.get("explanation") or failure["code"] for failure in failures]
    return Credentials(
        state,
        signer=_text(", ".join(filter(None, map(signature.get, ("common_name", "issuer"))))),
        generator=_text(
            ", ".join(f"{g['name']} {g.get('version') or ''}".strip() for g in generators)
            or manifest.get("claim_generator")
        ),
        time=_text(signature.get("time")),
        title=_text(manifest.get("title")),
        actions=tuple(map(_action, actions[:MOST_ITEMS])),
        ingredients=tuple(
            _text(each.get("title") or "without a title")
            for each in manifest.get("ingredients", [])[:MOST_ITEMS]
        ),
        by_ai=any("rainedAlgorithmicMedia" in source for source in sources),
        error=_text("; ".join(reasons)) if state == "invalid" else "",
    )


def _source(action: dict) -> str:
    """Give the last part of a digital source type's address."""
    return str(action.get("digitalSourceType") or "").rsplit("/", 1)[-1]


def _action(action: dict) -> str:
    """Say an action in words, such as "created by Some Model: made by AI"."""
    agent, source = action.get("softwareAgent") or "", _source(action)
    agent = agent.get("name", "") if isinstance(agent, dict) else agent
    words = action["action"].removeprefix("c2pa.").replace("_", " ")
    by, how = f" by {agent}" * bool(agent), SOURCES.get(source, source)
    return _text(f"{words}{by}{': ' * bool(how)}{how}")


def _text(value: Any) -> str:
    """Cut a stranger's text and drop letters that cannot be seen, which could turn the text around it."""
    shown = "".join(letter for letter in str(value or "")[: 2 * MOST_TEXT] if letter.isprintable())
    return shown if len(shown) <= MOST_TEXT else f"{shown[: MOST_TEXT - 1]}…"
