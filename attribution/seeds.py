"""Draw at random by keys, the same on every machine, and keep the seeds of drawn pictures apart.

In: a key, such as ("noise", seed, picture, timestep). Out: a generator on the CPU.
"""

import hashlib

import torch

# Of drawn pictures, by their purpose: sets never meet, and the page's own seeds lie below all of them.
FIRST_SEED = {
    "weights": 10_000_000,
    "validation": 20_000_000,  # for choosing settings
    "evaluation": 30_000_000,  # for figures
    "samples": 40_000_000,
    "calibration": 50_000_000,
    "own": 60_000_000,
    "unnamed": 70_000_000,
    "others": 80_000_000,  # that an own concept is compared with
}


def generator(*key: object) -> torch.Generator:
    """Make a CPU generator seeded by SHA-256 of the key, so that no two uses share a stream."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
