"""Houses per second of one core, generating alone and with every check, in processor time.

python scripts/bench/house_generate.py [houses]
"""

from __future__ import annotations

import sys
from time import process_time

from wayhand.envs.house.check import check
from wayhand.envs.house.generate import generate


def main(count: int) -> None:
    generate(0)
    start = process_time()
    houses = [generate(seed) for seed in range(count)]
    made = process_time()
    digests = [house.digest for house in houses]
    written = process_time()
    faults = sum(bool(check(house)) for house in houses)
    checked = process_time()
    print(f"{count} houses, {len(set(digests))} different, {faults} with faults")
    print(f"generate: {count / (made - start):.1f} houses/s ({(made - start) / count * 1e3:.1f} ms)")
    print(f"to JSON and digest: {(written - made) / count * 1e3:.1f} ms")
    print(f"check: {(checked - written) / count * 1e3:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
