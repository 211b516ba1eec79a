"""The mixing desk: the gain of each stem over time, from the controllers of its part."""

from collections.abc import Mapping

import numpy as np

from miao.midi.score import Curve

SMOOTHING_SECONDS = 0.005  # long enough that no step of a fader clicks, short enough that no attack is dulled
DEFAULTS = {"volume": 100 / 127, "expression": 1.0, "pan": 0.0}  # General MIDI's, for a track without the controller


def pan_gains(pan: np.ndarray | float) -> np.ndarray:
    """Left and right gain [2, ...] of a position from -1 (left) to 1 (right): constant power, 1 and 1 at the centre."""
    angle = (np.clip(pan, -1, 1) + 1) * (np.pi / 4)
    return np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)])


def track_gains(
    controls: Mapping[str, Curve], start_sample: int, n_samples: int, sample_rate: int, is_live: bool = False
) -> np.ndarray:
    """What a track's stereo stem is multiplied by: volume^2 x expression^2 x pan, as General MIDI has it.

    Each step of a controller becomes a straight ramp of 5 ms (the mean of the steps over 5 ms), a function of time
    alone. It ends when the controller speaks, so that a note that starts together with its fader has its whole
    attack; live, where nothing is known beforehand, it begins then. What is set at time 0 counts from the beginning.
    Pan is a balance: the left of the stem stays left.

    Shape: [2, n_samples] float32.
    """
    span = SMOOTHING_SECONDS * sample_rate
    first = start_sample - span if is_live else float(start_sample)  # the steps from here on matter, in samples
    last = first + n_samples + span
    in_force, found = 0.0, [np.zeros(1 if first < 0 else 0)]  # times of the step before, and of the steps within
    for times in (controls[name].times for name in DEFAULTS if name in controls):
        low, high = np.searchsorted(times, first / sample_rate, "right"), np.searchsorted(times, last / sample_rate)
        in_force = max(in_force, times[low - 1] if low else 0.0)
        found.append(times[low:high])
    inside = np.unique(np.concatenate(found))
    knots = np.concatenate([[first], inside * sample_rate, [last]])
    at = np.concatenate([[in_force], inside])  # the value between two knots is the one in force at the first
    value = {name: controls[name].at(at) if name in controls else np.full(len(at), DEFAULTS[name]) for name in DEFAULTS}
    steps = value["volume"] ** 2 * value["expression"] ** 2 * pan_gains(value["pan"])  # [2, knots - 1]
    if not len(inside):
        return np.broadcast_to(steps.astype(np.float32), (2, n_samples))  # without memory, and quick to multiply by
    begins = first + np.arange(n_samples)
    areas = np.concatenate([np.zeros((2, 1)), np.cumsum(steps * np.diff(knots), axis=1)], axis=1)  # integral at knots
    means = [(np.interp(begins + span, knots, area) - np.interp(begins, knots, area)) / span for area in areas]
    return np.stack(means).astype(np.float32)
