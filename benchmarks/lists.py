"""What importing a published list costs, and looking numbers up in it: time, memory, and lines read a second.

    python benchmarks/lists.py [--json] [--lines 10000000]

The list is made up: numbers of one country, every thousandth line bad, some prefixes. It is imported as an operator
does it, by ``scamtap lists import`` in a process of its own; the peer reads the same file line by line, no more.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NUM_LOOKUPS = 20_000
BAD_EVERY, PREFIX_EVERY = 1000, 100_000
IMPORT = "import sys; from inference.cli import main; sys.argv[0] = 'scamtap'; main()"


def write_list(path: Path, num_lines: int) -> tuple[int, int, int]:
    """Write a list; returns how many numbers, prefixes and bad lines are in it."""
    num_bad = num_prefixes = 0
    with path.open("w", encoding="ascii") as file:
        for at in range(num_lines):
            if at % BAD_EVERY == BAD_EVERY - 1:
                file.write(f"call me at {at}\n")
                num_bad += 1
            elif at % PREFIX_EVERY == 0:
                file.write(f"8617{at // PREFIX_EVERY:06d}*,sales\n")
                num_prefixes += 1
            else:  # spread over the range, none twice: 7919 and 10**10 have no common divisor
                file.write(f"+861{at * 7919 % 10**10:010d},{'parcel' if at % 3 else 'tax'}\n")
    return num_lines - num_bad - num_prefixes, num_prefixes, num_bad


def import_list(folder: Path, file: Path) -> tuple[str, float, float]:
    """``scamtap lists import``: what it printed, seconds, and MB at its most."""
    config = folder / "scamtap.yaml"
    config.write_text(f"screening: {{path: {folder}/s.db, lists_dir: {folder}/lists}}\n", encoding="utf-8")
    words = ["lists", "import", str(file), "--name", "made-up", "--config", str(config)]
    began_s = time.perf_counter()
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", IMPORT, *words], stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((folder / "errors").read_text())
    return told.strip(), time.perf_counter() - began_s, usage.ru_maxrss / 1024


def measure(num_lines: int) -> dict[str, object]:
    """Everything, in a folder that is taken away afterwards."""
    from inference.screening.bulk import load_bulk

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "numbers.txt"
        want = write_list(file, num_lines)
        began_s = time.perf_counter()
        with file.open("rb") as lines:
            for _ in lines:
                pass
        peer_s = time.perf_counter() - began_s
        told, import_s, most_mb = import_list(folder, file)
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began_s = time.perf_counter()
        (made,) = load_bulk(folder / "lists")
        load_s = time.perf_counter() - began_s
        held_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb
        every = max(1, num_lines // NUM_LOOKUPS)  # half of those looked up are on the list, or nearly so
        numbers = [f"861{(at * every + at % 2 * num_lines) * 7919 % 10**10:010d}" for at in range(NUM_LOOKUPS)]
        began_s = time.perf_counter()
        num_found = sum(made.find(number) is not None for number in numbers)
        find_us = (time.perf_counter() - began_s) / NUM_LOOKUPS * 1e6
    return {
        "lines": num_lines, "said": told, "wanted": want, "numbers": len(made.numbers), "prefixes": len(made.prefixes),
        "import_s": round(import_s, 1), "import_most_mb": round(most_mb), "import_ratio": round(import_s / peer_s, 1),
        "load_s": round(load_s, 2), "held_mb": round(held_mb), "find_us": round(find_us, 2), "found": num_found,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--lines", type=int, default=10_000_000)
    asked = parser.parse_args()
    result = measure(asked.lines)
    if asked.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:16} {value}")


if __name__ == "__main__":
    main()
