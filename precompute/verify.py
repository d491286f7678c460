"""Check a report's signature, and apart from that compute its answer again: picture, sources, scores, shares, p-values.

In: the JSON of a report that the page made, and the model, cache and collection that it was made with. Out: a sentence
on the signature, one on the answer, then what agrees and what differs. The exit code is 0 where all agrees, 1 where
something differs, the signature is not valid or is not by the key that was wanted, 2 for a mistake.
"""

from dataclasses import dataclass, field

from attribution.attributor import Attributor
from attribution.report.report import read_report
from attribution.report.signature import REPORT, checked
from attribution.report.verification import SHADES, TOLERANCE, verify_report

AGREES = "The answer agrees: computed again, all of it is as the report says."
DIFFERS = "The answer differs: computed again, not all of it is as the report says."
MOST_SHOWN = 100  # differences
SECTIONS = {
    "fingerprints": "model, collection, cache, weights and calibration",
    "picture": f"the picture (drawn again where it was generated, within {SHADES} of 255 shades)",
    "origin": "how the picture was made",
    "method": "the method",
    "questions": "the questions",
    "calibration": f"evidence and p-values (within {TOLERANCE})",
    "sources": f"the training pictures and their scores (within {TOLERANCE})",
    "artists": f"the artists' shares (within {TOLERANCE})",
}


@dataclass(frozen=True)
class VerifyConfig:
    """Which report, and what it was made with."""

    report: str = field(metadata={"positional": True, "help": "the report's JSON file"})
    pretrained_model_name_or_path: str = "assets/model"
    train_data_dir: str = "assets/collection"
    cache_dir: str = "assets/cache"
    device: str = "cpu"
    key: str = field(
        default="", metadata={"help": "the fingerprint of the key that must have signed it"}
    )
    opt_out: str = field(
        default="",
        metadata={
            "help": "the list of requests that the page honoured, if it is not beside the images"
        },
    )
    follow_links: bool = False


def run(config: VerifyConfig) -> int:
    """Print who signed, and what agrees and what differs."""
    report = read_report(config.report)
    kind = report.get("kind", REPORT)
    fine, said = checked(report, kind, config.key)
    print(said)
    if kind != REPORT:
        print(f"What this {kind} says is not computed again.")
        return 0 if fine else 1
    attributor = Attributor.from_pretrained(
        config.pretrained_model_name_or_path, config.cache_dir, config.train_data_dir, config.device,
        config.opt_out or None, config.follow_links,
    )  # fmt: skip
    found = verify_report(attributor, report)
    print(DIFFERS if found else AGREES)
    if any(each.path == ("fingerprints", "model") for each in found):
        print("The report is of another model, so that nothing else was compared.")
    else:
        differing = {each.path[0] for each in found}
        for section, words in SECTIONS.items():
            print(f"{'differs' if section in differing else 'agrees'}  {words}")
    for each in found[:MOST_SHOWN]:
        print(f"- {printable(str(each))}")
    if len(found) > MOST_SHOWN:
        print(f"- and {len(found) - MOST_SHOWN} more")
    return 1 if found or not fine else 0


def printable(text: str) -> str:
    """Drop control characters, which could move a terminal's cursor."""
    return "".join(letter for letter in text if letter.isprintable())
