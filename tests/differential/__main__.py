"""``python -m tests.differential --networks 5000 --seed 1``: many random networks."""

from __future__ import annotations

import argparse
import collections
import sys
import time

from tests.differential.compare import compare
from tests.differential.networks import random_case


def main() -> int:
    """Compare networks of consecutive seeds; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--networks", type=int, default=5000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first, others follow")
    options = parser.parse_args()
    kinds: collections.Counter[str] = collections.Counter()
    start = time.monotonic()
    for done in range(options.networks):
        case = random_case(options.seed + done)
        failures = compare(case)
        kinds.update({f.kind for f in failures})
        for failure in failures:
            sys.stdout.write(f"{failure}: {case}\n")
        if (done + 1) % 100 == 0 or failures:
            seconds = time.monotonic() - start
            sys.stdout.write(f"{done + 1} networks, {seconds:.0f} s, failed: {dict(kinds)}\n")
            sys.stdout.flush()
    return int(bool(kinds))


if __name__ == "__main__":
    sys.exit(main())
