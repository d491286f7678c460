"""Say whose unfinished work a folder holds, so that no other run takes its networks for its own.

In: a work folder and what shapes its networks. Out: `belongs_to.json` in it, or a refusal. It knows no network.
"""

import json
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from attribution.files import read_json, write_whole

FILE = "belongs_to.json"


def claim(work: Path, belongs_to: dict[str, Any]) -> None:
    """Mark a folder as work on this, refusing one that holds work on something else or does not say on what."""
    path, advice = work / FILE, "choose another --work_dir, or delete this one"
    work.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        found = read_json(path, advice)
        keys = sorted(found.keys() | belongs_to.keys())
        different = [key for key in keys if found.get(key) != belongs_to.get(key)]
        if different:
            told = f"holds work of another run (another {', '.join(different)})"
            raise InputError(f"{work} {told}; {advice}")
    elif any(work.iterdir()):
        raise InputError(f"{work} does not say what its work belongs to; {advice}")
    else:
        write_whole(path, json.dumps(belongs_to, indent=1) + "\n")
