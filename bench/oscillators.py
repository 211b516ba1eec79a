"""How fast the two hot loops are on one core: `python bench/oscillators.py`.

A sample of one partial, or of one noise band, counts as one; silent partials are not counted. Best of several runs.
"""

import argparse
import time

import numpy as np

from miao.synth import oscillators

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

    def work(add=oscillators.add_partials):
        for part in parts:
            add(out, *part, ratios, offsets, gains, 1e-5)

    return work, n_samples * n_partials


def noise_case(n_bands: int, interval_seconds: float, is_stereo: bool, n_samples: int = SAMPLE_RATE):
    rng = np.random.default_rng(1)
    knots = np.arange(0.3, n_samples + 1, interval_seconds * SAMPLE_RATE)
    gains = rng.random((len(knots), n_bands), dtype=np.float32) + 0.1
    table = oscillators.noise_table(np.geomspace(50, 20000, n_bands + 1), SAMPLE_RATE, seed=1)
    offsets = rng.integers(0, table.shape[1], (n_bands, 2))
    if not is_stereo:
        offsets[:, 1] = offsets[:, 0]
    out = np.zeros((2, n_samples), dtype=np.float32)

    def work(add=oscillators.add_noise):
        add(out, knots, gains, np.ones((n_bands, 2), np.float32), table, offsets, 1e-5)

    return work, n_samples * n_bands


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    variants = {"numpy": (oscillators.add_partials_numpy, oscillators.add_noise_numpy)}
    if oscillators.KERNELS == "compiled":
        variants |= reversed(oscillators._compiled.variants.items())
    print(f"G oscillator samples/s on one core, best of {repeats}; in use: {list(variants)[-1]}")
    print(f"{'':44}" + "".join(f"{name:>9}" for name in variants))

    def row(label: str, case, which: int) -> None:
        work, count = case
        speeds = []
        for name, loops in variants.items():
            seconds = best_seconds(lambda add=loops[which]: work(add), 2 if name == "numpy" else repeats)
            speeds.append(count / seconds / 1e9)
        print(f"{label:44}" + "".join(f"{speed:9.3f}" for speed in speeds))

    for interval in (0.005, 0.020):
        for n_partials in (8, 32, 64, 128, 256):
            case = partials_case(n_partials, interval, False, 4096)
            row(f"{n_partials:4} partials, knots every {1e3 * interval:.0f} ms", case, 0)
    row("  64 partials, 20 ms, spread in stereo", partials_case(64, 0.020, True, 4096), 0)
    row("  64 partials, 20 ms, blocks of 256", partials_case(64, 0.020, False, 256), 0)
    row("  16 noise bands, 20 ms, middle", noise_case(16, 0.020, False), 1)
    row("  16 noise bands, 20 ms, stereo", noise_case(16, 0.020, True), 1)


if __name__ == "__main__":
    main()
