"""From a mel spectrogram back to sound: the vocoder of Midi2Wave and the spectrogram inverter of MI-DDPM, shared.

A generator in the manner of HiFi-GAN (Kong et al. 2020), in the form of iSTFTNet (Kaneko et al. 2022): transposed
convolution, multi-receptive-field fusion, and an inverse short-time Fourier transform in place of the last stages.
Losses are HiFi-GAN's (mel L1, least squares adversarial, feature matching) and the log-magnitudes of three resolutions;
the discriminators look at two resolutions of the spectrogram (UnivNet, Jang et al. 2021).

What differs: as in neural source-filter vocoders (Wang et al. 2019; the predecessor of Midi2Wave has one) the generator
is given a source signal, here what Griffin and Lim's algorithm (the fast one, Perraudin et al. 2013) makes of the mel.
A convolutional generator alone repeats itself with the hop where the mel does not change: it cannot hold a tone whose
frequency is no multiple of 100 Hz; and its pitch would take far more steps to learn than two processor cores do.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from miao.arrays import Floats
from miao.config import Count, Range, Weight, Whole, check
from miao.datasets.pairs import Pair
from miao.peers.inputs import FLOOR_DB, HOP_SAMPLES, MARGIN_SAMPLES, N_BANDS, scaled, sound_mel, torch_mel
from miao.sound.spectrum import FRAME_SAMPLES, mel_filters

_MOMENTUM = 0.99  # of fast Griffin-Lim
_FITS = 20  # iterations from bands to bins
_UP = 7  # rows of the generator for each row of the mel
_FFT, _STEP = 4 * HOP_SAMPLES // _UP, HOP_SAMPLES // _UP  # of the generator's own inverse transform
_RESOLUTIONS = (512, 1024, 2048)  # of the loss
_JUDGED = (512, 1024)  # of the discriminators
_TOUCH = 0.1  # how carefully the source is changed: most of it is right from the start
_SLOPE = 0.1  # of leaky rectifiers
_BLOCK_ROWS, _BLEND_ROWS = 2000, 8  # at once in rendering; blocks overlap by as much


@dataclass(frozen=True)
class InverterConfig:
    """Sizes of the generator, and what it is trained on."""

    channels: Annotated[int, Range(2)] = 128  # before it is made finer, then half as many
    kernels: tuple[Count, ...] = (3, 7)  # of the fused blocks
    dilations: tuple[Count, ...] = (1, 3, 5)
    iterations: Whole = 12  # of Griffin-Lim
    judge_channels: Count = 16  # of the discriminators
    crop_rows: Count = 48  # 10 ms each, of a window in training
    adversarial_from: Whole = 1200  # step
    adversarial: Weight = 0.02  # against log-magnitude errors in nepers
    matching: Weight = 0.05  # of the discriminators' features

    def __post_init__(self) -> None:
        check(self, "model")


@dataclass(frozen=True)
class InverterBatch:
    """Crops of sounds."""

    mel: Tensor  # [B, T, N_BANDS] dB
    source: Tensor  # [B, T HOP_SAMPLES]
    sound: Tensor  # [B, T HOP_SAMPLES]


class _Fusion(nn.Module):
    """HiFi-GAN's multi-receptive-field fusion: the mean of residual blocks, one for each kernel size."""

    def __init__(self, channels: int, config: InverterConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv1d(channels, channels, k, dilation=d, padding=k // 2 * d) for d in config.dilations)
            for k in config.kernels
        )

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for block in self.blocks:
            y = x
            for conv in block:  # type: ignore[attr-defined]  # which torch takes for any module
                y = y + conv(F.leaky_relu(y, _SLOPE))
            total = total + y
        return total / len(self.blocks)


class Inverter(nn.Module):
    """The generator."""

    def __init__(self, config: InverterConfig) -> None:
        super().__init__()
        self.config = config
        wide, narrow = config.channels, config.channels // 2
        self.before = nn.Conv1d(2 * N_BANDS, wide, 7, padding=3)
        self.coarse = _Fusion(wide, config)
        self.finer = nn.ConvTranspose1d(wide, narrow, 2 * _UP, _UP, padding=_UP // 2 + 1, output_padding=1)
        self.listen = nn.Conv1d(2 * (_FFT // 2 + 1), narrow, 3, padding=1)
        self.fine = _Fusion(narrow, config)
        self.after = nn.Conv1d(narrow, 3 * (_FFT // 2 + 1), 7, padding=3)
        nn.init.zeros_(self.after.weight)
        assert self.after.bias is not None
        nn.init.zeros_(self.after.bias)

    def forward(self, mel: Tensor, source: Tensor) -> Tensor:
        """Sound [B, T HOP_SAMPLES] of mel spectrograms [B, T, N_BANDS] in dB and their source signals."""
        missing = (mel - _mel_of(source)).clamp(-20, 20) / 10  # what the source has too little of
        x = self.coarse(self.before(torch.cat([scaled(mel), missing], dim=2).transpose(1, 2)))  # [B, W, T]
        spectrum = _transform(source)  # [B, bins, 7 T + 1]
        level = spectrum.abs().clamp(min=1e-6)
        heard = torch.cat([level.log() / 4 + 1, torch.cos(spectrum.angle())], dim=1)
        x = F.pad(self.finer(F.leaky_relu(x, _SLOPE)), (0, 1)) + self.listen(heard)  # [B, W/2, 7 T + 1]
        gain, turn, own = (_TOUCH * self.after(F.leaky_relu(self.fine(x), _SLOPE))).chunk(3, dim=1)
        # the source, each bin made louder or softer and turned; and what has no phase that it could take from there
        made = spectrum * torch.polar(gain.clamp(-6, 4).exp(), torch.pi * turn)
        made = made + torch.complex(own, torch.zeros_like(own)) * level
        window = torch.hann_window(_FFT, device=mel.device)
        return torch.istft(made, _FFT, _STEP, window=window, length=source.shape[1])


def _mel_of(sound: Tensor) -> Tensor:
    """[B, T HOP_SAMPLES] -> [B, T, N_BANDS] in dB, silence beyond both ends."""
    return torch_mel(F.pad(sound, (MARGIN_SAMPLES, FRAME_SAMPLES - HOP_SAMPLES - MARGIN_SAMPLES)))


def _transform(sound: Tensor) -> Tensor:
    return torch.stft(sound, _FFT, _STEP, window=torch.hann_window(_FFT, device=sound.device), return_complex=True)


def bin_magnitudes(mel_db: Tensor) -> Tensor:
    """Magnitudes of 1025 bins that have this mel spectrogram: [..., T, N_BANDS] -> [..., T, bins].

    What is not negative and fits, by Richardson and Lucy's iterations from equal power in every bin.
    """
    filters = torch.from_numpy(mel_filters(N_BANDS)).to(mel_db.device)  # [bands, bins]
    wanted = 10 ** (mel_db / 10)
    share = filters.sum(dim=0).clamp(min=1e-3)
    power = (wanted / filters.sum(dim=1)) @ filters / share
    for _ in range(_FITS):
        power = power * ((wanted / (power @ filters.T).clamp(min=1e-12)) @ filters / share)
    return power.sqrt()


def griffin_lim(magnitudes: Tensor, iterations: int, phases: Tensor) -> Tensor:
    """A sound whose spectrogram (rows as in `sound_mel`) comes near to magnitudes [B, T, bins]: [B, T HOP_SAMPLES].

    ``phases`` [B, T, bins] in turns are what it sets out from.
    """
    window = torch.hann_window(FRAME_SAMPLES, device=magnitudes.device)
    rows = magnitudes.shape[1]
    length = (rows - 1) * HOP_SAMPLES + FRAME_SAMPLES
    weight = _overlapped(window.square().expand(1, rows, -1), length).clamp(min=1e-3)

    def sound_of(spectrum: Tensor) -> Tensor:
        return _overlapped(torch.fft.irfft(spectrum, FRAME_SAMPLES) * window, length) / weight

    angles = torch.polar(torch.ones_like(magnitudes), 2 * torch.pi * phases)
    before = torch.zeros_like(angles)
    for _ in range(iterations):
        now = torch.fft.rfft(sound_of(magnitudes * angles).unfold(1, FRAME_SAMPLES, HOP_SAMPLES) * window)
        ahead = now + _MOMENTUM * (now - before)
        angles, before = ahead / ahead.abs().clamp(min=1e-9), now
    scale = window.sum() / 2  # `torch_mel` divides by it
    return scale * sound_of(magnitudes * angles)[:, MARGIN_SAMPLES : MARGIN_SAMPLES + rows * HOP_SAMPLES]


def _overlapped(frames: Tensor, length: int) -> Tensor:
    """Frames [B, T, FRAME_SAMPLES] added up, HOP_SAMPLES apart: [B, length]."""
    size, step = (1, FRAME_SAMPLES), (1, HOP_SAMPLES)
    return F.fold(frames.transpose(1, 2), (1, length), size, stride=step)[:, 0, 0]


class _Judge(nn.Module):
    """A discriminator of log-magnitudes at one resolution; gives its verdicts and features."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.ModuleList(
            [nn.Conv2d(1, channels, (3, 9), stride=(1, 4), padding=(1, 4)),
             nn.Conv2d(channels, channels, (3, 5), stride=(1, 2), padding=(1, 2)),
             nn.Conv2d(channels, channels, (3, 5), stride=(2, 2), padding=(1, 2)),
             nn.Conv2d(channels, 1, 3, padding=1)]
        )  # fmt: skip

    def forward(self, sound: Tensor) -> list[Tensor]:
        x = _log_magnitudes(sound, self.size).transpose(1, 2).unsqueeze(1) / 4 + 1  # [B, 1, frames, bins]
        features = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), _SLOPE)
            features.append(x)
        return [*features, self.layers[-1](x)]


class InverterObjective(nn.Module):
    """The generator against the sound itself, and against discriminators that learn beside it."""

    parts = ("model",)

    def __init__(self, config: InverterConfig, precision: str) -> None:
        super().__init__()
        self.config, self.precision = config, precision
        self.model = Inverter(config)
        self.judges = nn.ModuleList(_Judge(size, config.judge_channels) for size in _JUDGED)

    def collate(self, pairs: list[Pair], rng: np.random.Generator) -> InverterBatch:
        """One crop of each pair, somewhere where it is not silent if there is such a place."""
        rows, crops, mels = self.config.crop_rows, [], []
        for pair in pairs:
            assert pair.sound is not None
            whole = sound_mel(pair.sound)
            loud = np.flatnonzero(whole[: len(whole) - rows + 1].max(axis=1) > whole.max() - 50)
            first = int(rng.choice(loud)) if len(loud) else 0
            mels.append(whole[first : first + rows])
            crops.append(pair.sound[first * HOP_SAMPLES : (first + rows) * HOP_SAMPLES])
        mel = torch.from_numpy(np.stack(mels))
        phases = torch.from_numpy(rng.random((*mel.shape[:2], FRAME_SAMPLES // 2 + 1), np.float32))
        source = griffin_lim(bin_magnitudes(mel), self.config.iterations, phases)
        return InverterBatch(mel, source, torch.from_numpy(np.stack(crops)))

    def forward(self, batch: InverterBatch, step: int) -> dict[str, Tensor]:
        """Losses by name; those of generator and discriminators are descended at once, each on its own parameters."""
        config = self.config
        device = batch.mel.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16" and device != "cpu"):
            made = self.model(batch.mel, batch.source).float()
        mel = (_mel_of(made) - _mel_of(batch.sound)).abs().mean()
        fine = torch.stack([(_log_magnitudes(made, size) - _log_magnitudes(batch.sound, size)).abs().mean()
                            for size in _RESOLUTIONS]).mean()  # fmt: skip
        results = {"loss/mel_db": mel, "loss/magnitudes": fine}
        total = mel / 4 + fine
        if step >= config.adversarial_from:
            pleased, alike, judged = self._judged(made, batch.sound)
            results |= {"loss/adversarial": pleased, "loss/matching": alike, "loss/judges": judged}
            total = total + config.adversarial * pleased + config.matching * alike + judged
        else:  # every parameter has a gradient, as several processes want it
            total = total + 0.0 * sum(p.sum() for p in self.judges.parameters())
        return results | {"loss/total": total}

    def _judged(self, made: Tensor, sound: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Least squares losses: of the generator, of features it should match, of the discriminators."""
        pleased, alike, judged = [], [], []
        for judge in self.judges:
            fixed = {name: value.detach() for name, value in judge.named_parameters()}
            for_it = functional_call(judge, fixed, (made,))
            true, false = judge(sound), judge(made.detach())
            pleased.append((for_it[-1] - 1).square().mean())
            alike += [(a - b.detach()).abs().mean() for a, b in zip(for_it[:-1], true[:-1], strict=True)]
            judged.append((true[-1] - 1).square().mean() + false[-1].square().mean())
        return torch.stack(pleased).mean(), torch.stack(alike).mean(), torch.stack(judged).mean()


def _log_magnitudes(sound: Tensor, size: int) -> Tensor:
    """[B, S] -> [B, bins, frames] in nepers, a full-scale sine about 0."""
    window = torch.hann_window(size, device=sound.device)
    spectrum = torch.stft(sound, size, size // 4, window=window * (2 / window.sum()), return_complex=True)
    return 0.5 * torch.log(torch.view_as_real(spectrum).square().sum(dim=-1) + 10 ** (FLOOR_DB / 10))


@torch.no_grad()
def invert(model: Inverter, mel_db: Floats) -> Floats:
    """The sound of a mel spectrogram [T, N_BANDS] in dB, [T HOP_SAMPLES]; the same each time.

    Long ones are made in blocks that are blended into each other, silent ones (all below -90 dB) are left out.
    """
    sound = np.zeros(len(mel_db) * HOP_SAMPLES, np.float32)
    for first in range(0, len(mel_db), _BLOCK_ROWS):
        begin, end = max(first - _BLEND_ROWS, 0), min(first + _BLOCK_ROWS, len(mel_db))
        part = torch.from_numpy(np.ascontiguousarray(mel_db[begin:end]))[None]
        if end - begin < 2 or float(part.max()) < FLOOR_DB + 10:
            continue
        random = torch.Generator().manual_seed(first)
        phases = torch.rand(1, end - begin, FRAME_SAMPLES // 2 + 1, generator=random)
        source = griffin_lim(bin_magnitudes(part), model.config.iterations, phases)
        made = model(part, source)[0].numpy()
        ramp = np.ones(len(made), np.float32)
        n_before, n_after = (first - begin) * HOP_SAMPLES, _BLEND_ROWS * HOP_SAMPLES
        ramp[:n_before] = np.linspace(0, 1, n_before, dtype=np.float32)
        if end < len(mel_db):
            ramp[-n_after:] = np.linspace(1, 0, n_after, dtype=np.float32)
        sound[begin * HOP_SAMPLES : end * HOP_SAMPLES] += made * ramp
    return sound
