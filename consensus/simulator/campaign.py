"""``make campaign``: storms of new seeds for as long as one likes; a seed that fails is printed, to be run again."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time

from consensus.simulator.scenario import storm

CHUNK = 16


def failure(seed: int) -> tuple[int, str, int]:
    """(seed, what is foul about it or nothing, messages handled)."""
    try:
        return seed, "", storm(seed).handled
    except Exception as error:
        return seed, f"{type(error).__name__}: {error}", 0


def run(minutes: float, first: int, processes: int) -> int:
    """Run storms; how many failed."""
    begun = time.monotonic()
    runs = failed = handled = 0
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        while time.monotonic() - begun < minutes * 60:
            seeds = range(first + runs, first + runs + CHUNK * processes)
            for seed, problem, messages in pool.imap_unordered(failure, seeds):
                runs, handled = runs + 1, handled + messages
                if problem:
                    failed += 1
                    sys.stdout.write(f"seed {seed}: {problem}\n")
            sys.stderr.write(f"\r{runs} storms, {failed} foul, {handled} messages")
    sys.stderr.write("\n")
    taken = time.monotonic() - begun
    sys.stdout.write(f"{runs} storms from seed {first} on, {failed} foul, {handled} messages in {taken:.0f} s\n")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long")
    parser.add_argument("--first", type=int, default=time.time_ns() // 10**9 * 1000, help="first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at a time")
    options = parser.parse_args()
    sys.exit(1 if run(options.minutes, options.first, options.processes) else 0)
