"""MI-DDPM's way from noise to a mel spectrogram, segment after segment: ancestral sampling with guidance.

Hawthorne et al., see `peers.mi_ddpm`; the steps are those of Ho, Jain and Abbeel, "Denoising diffusion probabilistic
models", NeurIPS 2020, guidance is Ho and Salimans', "Classifier-free diffusion guidance", 2022.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from miao.arrays import Floats, Records
from miao.peers.inputs import N_BANDS
from miao.peers.mi_ddpm import Conditions, Memory, MiDdpm, schedule, unscaled
from miao.peers.note_events import FRAME_SECONDS, SEGMENT_FRAMES, SEGMENT_SECONDS, note_events, stacked

SILENT_DB = -60.0  # a segment whose last tenth of a second stays below this everywhere has ended
_DECAY_FRAMES = 10
GUIDANCE = 1.25  # the original has 5; more makes what is played louder than it was, in a spectrogram in dB by far


def posterior(noisy: Tensor, clean: Tensor, time: float, earlier: float) -> tuple[Tensor, float]:
    """q(x_s | x_t, x_0): mean, and the standard deviation, of the spectrogram at an ``earlier`` time s < t."""
    (alpha_t, alpha_s), (sigma_t, sigma_s) = (
        x.tolist() for x in schedule(torch.tensor([time, earlier], dtype=torch.float64))
    )
    step = alpha_t / alpha_s
    added = sigma_t**2 - step**2 * sigma_s**2  # variance that the way from s to t brings
    mean = (step * sigma_s**2 * noisy + alpha_s * added * clean) / sigma_t**2
    return mean, math.sqrt(added) * sigma_s / sigma_t


def sample_mel(model: MiDdpm, tracks: Sequence[Records], seconds: float, *, steps: int = 20, guidance: float = GUIDANCE,
               seed: int = 0, precision: str = "fp32") -> list[Floats]:  # fmt: skip
    """The mel spectrograms of tracks (PAIR_NOTE, one instrument each), [frames, N_BANDS] in dB each.

    Segment after segment, all tracks at once. ``guidance`` w: ε = ε without conditions + w (ε with them - ε without),
    so 0 leaves the notes unread, and 1 is the plain prediction at half the cost. The noise of a track's segment depends
    on ``seed`` and its number only, so that a track sounds the same whatever is beside it. Where no note sounds and the
    segment before has died away, it is silent, FLOOR_DB everywhere.
    """
    device = model.nothing.device
    n_frames = math.ceil(seconds / FRAME_SECONDS - 1e-6)
    n_segments = -(-n_frames // SEGMENT_FRAMES)
    mels = np.full((len(tracks), n_segments * SEGMENT_FRAMES, N_BANDS), -1, np.float32)
    for number in range(n_segments):
        here = slice(number * SEGMENT_FRAMES, (number + 1) * SEGMENT_FRAMES)
        before = slice(here.start - SEGMENT_FRAMES, here.start)
        events = [note_events(notes, number * SEGMENT_SECONDS, model.config.max_events) for notes in tracks]
        ending = mels[:, max(here.start - _DECAY_FRAMES, 0) : here.start].max(axis=(1, 2), initial=-1)
        sounding = [n for n, some in enumerate(events) if len(some) or unscaled(ending[n]) > SILENT_DB]
        if not sounding:
            continue
        flags = torch.full((len(sounding),), number > 0), torch.ones(len(sounding), dtype=torch.bool)
        context = mels[sounding, before] if number else np.zeros((len(sounding), SEGMENT_FRAMES, N_BANDS), np.float32)
        inputs = (*stacked([events[n] for n in sounding]), torch.from_numpy(context), *flags)
        conditions = Conditions(*(x.to(device) for x in inputs))
        rng = np.random.default_rng([seed, number])
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            mels[sounding, here] = _sampled(model, conditions, steps, guidance, rng).cpu().numpy()
    return [unscaled(mel[:n_frames]) for mel in mels]


def guided_noise(model: MiDdpm, noisy: Tensor, time: Tensor, both: Memory, guidance: float) -> Tensor:
    """ε at diffusion times [B]; ``both`` holds the B segments' memories, then the same without conditions."""
    with_them, without = model.noise(noisy.repeat(2, 1, 1), time.repeat(2), both).chunk(2)
    return torch.lerp(without, with_them, guidance)


@torch.no_grad()
def _sampled(model: MiDdpm, conditions: Conditions, steps: int, guidance: float, rng: np.random.Generator) -> Tensor:
    """Segments x_0 [B, SEGMENT_FRAMES, N_BANDS] from noise, which is the same for all of them."""
    n, device = len(conditions.events), conditions.events.device
    is_guided = guidance != 1
    memory = model.memory(doubled(conditions) if is_guided else conditions)

    def drawn() -> Tensor:
        noise = rng.standard_normal((1, SEGMENT_FRAMES, N_BANDS), np.float32)
        return torch.from_numpy(noise).to(device).expand(n, -1, -1)

    x = drawn()
    for step in range(steps, 0, -1):
        time, earlier = step / steps, (step - 1) / steps
        times = torch.full((n,), time, device=device)
        alpha, sigma = (y[:, None, None] for y in schedule(times))
        noise = guided_noise(model, x, times, memory, guidance) if is_guided else model.noise(x, times, memory)
        clean = ((x - sigma * noise) / alpha).clamp(-1, 1)
        mean, deviation = posterior(x, clean, time, earlier)
        x = mean + deviation * drawn() if step > 1 else clean
    return x


def doubled(conditions: Conditions) -> Conditions:
    """Segments, and the same segments with their notes and context dropped."""
    twice = {name: torch.cat([value, value]) for name, value in vars(conditions).items()}
    is_kept = torch.cat([conditions.is_kept, torch.zeros_like(conditions.is_kept)])
    return Conditions(**twice | {"is_kept": is_kept})
