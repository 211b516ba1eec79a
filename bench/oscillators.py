"""How fast the two hot loops are on one core: `python bench/oscillators.py`.

A sample of one partial, or of one noise band, counts as one; silent partials are not counted. Best of several runs.
"""

import argparse
import time

import numpy as np

from miao.bank import tokens as tk
from miao.synth import band_noise, oscillators

SAMPLE_RATE = 44100


def best_seconds(work, repeats: int) -> float:
    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(once() for _ in range(repeats))


def partials_case(n_partials: int, interval_seconds: float, is_spread: bool, block: int, n_samples: int = SAMPLE_RATE):
    """One note of a second, in blocks; returns the work and its number of oscillator samples."""
    rng = np.random.default_rng(1)
    knots = np.arange(0.3, n_samples + 1, interval_seconds * SAMPLE_RATE)
    phase = knots * (0.45 / n_partials)  # the highest partial at 0.45 of the sample rate
    amplitudes = rng.random((len(knots), n_partials), dtype=np.float32) + 0.1
    ratios, offsets = np.arange(1.0, n_partials + 1), rng.random(n_partials, dtype=np.float32)
    gains = rng.random((n_partials, 2), dtype=np.float32) if is_spread else np.ones((n_partials, 2), np.float32)
    out = np.zeros((2, block), dtype=np.float32)
    parts = []
    for start in range(0, n_samples, block):
        inside = slice(max(0, np.searchsorted(knots, start) - 1), np.searchsorted(knots, start + block) + 1)
        parts.append((knots[inside] - start, phase[inside], amplitudes[inside]))

    def work():
        for part in parts:
            oscillators.add_partials(out, *part, ratios, offsets, gains, 1e-5)

    return work, n_samples * n_partials


def noise_case(n_notes: int, is_wide: bool, n_samples: int = SAMPLE_RATE):
    """So many notes of noise alone, which share it."""
    rng = np.random.default_rng(1)
    table = band_noise.noise_table(tk.NOISE_EDGES_HZ, SAMPLE_RATE, seed=1)
    knots = np.arange(0.3, n_samples + 1, 0.020 * SAMPLE_RATE)
    levels = np.zeros((len(knots), tk.N_CELLS), np.float32)
    levels[:, tk.N_PARTIALS :] = rng.uniform(30, 50, (len(knots), tk.N_CELLS - tk.N_PARTIALS))
    levels[:, oscillators.REACHED] = 1
    none, balance = np.zeros(0, np.float32), np.ones((len(table), 2), np.float32)
    note = oscillators.NotePart(
        knots, knots, knots, levels, none, np.zeros(0), np.zeros(0, np.int32), none, np.zeros((0, 3), np.float32),
        balance, is_wide,
    )  # fmt: skip
    places = rng.integers(0, table.shape[1], (len(table), 2))
    out = np.zeros((2, n_samples), dtype=np.float32)

    def work():
        oscillators.add_notes(out, n_notes * [note], table, places, 0, 1e-6)

    return work, n_notes * n_samples * len(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    variants = oscillators.variants()[::-1]
    print(f"G oscillator samples/s on one core, best of {repeats}; in use: {variants[-1]}")
    print(f"{'':44}" + "".join(f"{name:>9}" for name in variants))

    def row(label: str, case) -> None:
        work, count = case
        speeds = []
        for name in variants:
            oscillators.set_variant(name)
            seconds = best_seconds(work, 2 if name == "numpy" else repeats)
            speeds.append(count / seconds / 1e9)
        print(f"{label:44}" + "".join(f"{speed:9.3f}" for speed in speeds))

    for interval in (0.005, 0.020):
        for n_partials in (8, 32, 64, 128, 256):
            case = partials_case(n_partials, interval, False, 4096)
            row(f"{n_partials:4} partials, knots every {1e3 * interval:.0f} ms", case)
    row("  64 partials, 20 ms, spread in stereo", partials_case(64, 0.020, True, 4096))
    row("  64 partials, 20 ms, blocks of 256", partials_case(64, 0.020, False, 256))
    for n_notes in (1, 8):
        row(f"  31 noise bands of {n_notes} notes, from the middle", noise_case(n_notes, False))
        row(f"  31 noise bands of {n_notes} notes, wide", noise_case(n_notes, True))


if __name__ == "__main__":
    main()
