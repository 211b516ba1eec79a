"""Differentiable digital signal processing: harmonics, filtered noise, and the loss that sound is learnt by.

Engel, Hantrakul, Gu and Roberts, "DDSP: Differentiable digital signal processing", ICLR 2020. Frames lie a hop of 10 ms
apart at 44.1 kHz; sound is made hop by hop, between two frames.

N notes   M hops of any notes   H harmonics   S samples
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from miao.sound.spectrum import SAMPLE_RATE

HOP = 441  # samples of a frame, 10 ms
HOP_SECONDS = HOP / SAMPLE_RATE
INAUDIBLE = 10 ** (-90 / 20)  # the floor of the loss


def phases(hz: Tensor) -> Tensor:
    """The phase of a tone whose frequency runs in straight lines between frames, turns 0..1, 0 at the first frame.

    Shape: [N, frames] Hz -> [N, frames - 1, HOP] float32; summed in float64, so that long notes stay in tune.
    """
    hz = hz.double()
    share = torch.arange(HOP, device=hz.device, dtype=torch.float64) / HOP
    sample_hz = hz[:, :-1, None] * (1 - share) + hz[:, 1:, None] * share
    turns = sample_hz.flatten(1).cumsum(dim=1) - sample_hz.flatten(1)
    phases: Tensor = (turns / SAMPLE_RATE).remainder(1).float().unflatten(1, (-1, HOP))
    return phases


def sines(phase: Tensor, n_harmonics: int) -> Tensor:
    """Sines of harmonics 1..n of a phase in turns, [M, S] -> [M, n rounded up to eights, S].

    Eight are computed, the others follow: sin(a + b) = 2 cos b sin a - sin(a - b), with b eight times the phase.
    """
    n_eights = -(-n_harmonics // 8)
    angle = 2 * torch.pi * phase.unsqueeze(1)
    every = phase.new_empty(len(phase), 8 * n_eights, phase.shape[1])
    numbers = torch.arange(1, 9, device=phase.device, dtype=phase.dtype)[:, None]
    torch.sin(angle * numbers, out=every[:, :8])
    step = 2 * torch.cos(8 * angle)
    if n_eights > 1:
        every[:, 8:16] = step * every[:, :8]
        every[:, 8:15] += every[:, :7].flip(1)  # sin((k - 8) p) = -sin((8 - k) p)
    for first in range(16, 8 * n_eights, 8):
        every[:, first : first + 8] = step * every[:, first - 8 : first]
        every[:, first : first + 8] -= every[:, first - 16 : first - 8]
    return every


def oscillate(phase: Tensor, left: Tensor, right: Tensor, n_audible: Tensor) -> Tensor:
    """The sum of harmonics in some hops, amplitudes in straight lines from one frame to the next.

    Shapes: phase [M, HOP] turns; amplitudes at both frames [M, H] each; harmonics that are more than 0 [M] -> [M, HOP].
    The phase gets no gradient.
    """
    if not len(phase):
        return torch.zeros_like(phase)
    share = torch.arange(HOP, device=phase.device, dtype=phase.dtype) / HOP
    order = torch.argsort(n_audible)
    sounds = []
    for some in order.split(32):  # small enough for the cache; alike in pitch, so that few harmonics are in vain
        n = min(int(n_audible[some[-1]]), left.shape[1])
        with torch.no_grad():
            tones = sines(phase[some], n)[:, :n]  # [m, n, HOP]
        both = torch.stack([left[some, :n], right[some, :n]], dim=1) @ tones  # [m, 2, HOP]
        sounds.append(both[:, 0] * (1 - share) + both[:, 1] * share)
    return torch.cat(sounds)[torch.argsort(order)]


def filtered_noise(noise: Tensor, magnitudes: Tensor) -> Tensor:
    """White noise whose spectrum is shaped at each frame, and blended from one frame to the next.

    Shapes: noise [N, frames + 1, HOP], magnitudes [N, frames, bands] -> [N, frames - 1, HOP]. Magnitudes of 1 give the
    noise itself (without its first and last hop). Filters have no delay and wrap round in a frame of two hops.
    """
    window = torch.hann_window(2 * HOP, device=noise.device)
    frames = torch.cat([noise[:, :-1], noise[:, 1:]], dim=2) * window
    shape = magnitudes @ _band_filters(magnitudes.shape[2]).to(noise.device)
    shaped = torch.fft.irfft(torch.fft.rfft(frames) * shape, n=2 * HOP)
    sound: Tensor = shaped[:, :-1, HOP:] + shaped[:, 1:, :HOP]
    return sound


@cache
def _band_filters(n_bands: int) -> Tensor:
    """Shares of the bands in each FFT bin of a frame of two hops, [bands, HOP + 1]; each column sums to 1."""
    mel = np.log1p(np.arange(HOP + 1) * SAMPLE_RATE / (2 * HOP) / 700)
    place = mel / mel[-1] * (n_bands - 1)
    return torch.from_numpy(np.clip(1 - np.abs(np.arange(n_bands)[:, None] - place), 0, None).astype(np.float32))


def spectral_loss(sound: Tensor, target: Tensor, fft_sizes: tuple[int, ...]) -> Tensor:
    """DDSP's loss: mean absolute difference of magnitudes and of their logarithms, summed over sizes of the FFT.

    Magnitudes are not scaled, as in DDSP; their logarithms have a floor 90 dB below a full-scale sine. Shapes: [B, S].
    """
    losses = []
    for size in fft_sizes:
        window = torch.hann_window(size, device=sound.device)
        ours, theirs = (torch.view_as_real(torch.stft(x, size, size // 4, window=window, center=False,
                                                      return_complex=True)) for x in (sound, target))  # fmt: skip
        floor = INAUDIBLE * size / 4
        ours, theirs = (x.square().sum(dim=-1).add(1e-12).sqrt() for x in (ours, theirs))
        losses.append((ours - theirs).abs().mean())
        losses.append((torch.log(ours + floor) - torch.log(theirs + floor)).abs().mean())
    return torch.stack(losses).sum()
