"""What is fitted to music in the power domain: the levels of voices, a room, a filter, a noise floor, gains.

What the notes of voices make of each mel band (`measuring.power`) is added up and sent through filter and room. All of
it is one smooth function of a few numbers and of no separation of notes, so that any polyphony goes, pedal included.
How the numbers are found: `training.learn_music`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from miao.arrays import Floats, Integers
from miao.bank import tokens as tk
from miao.bank.level_shift import AGES, RAMP, SINCE, key_place, knot_shares
from miao.bank.voices import DRUM_KEYS, N_PITCHES, PITCH_NODES, SEMITONES_A_NODE, VoiceTable, kit_rows
from miao.measuring.power import FRAME_SECONDS, LEVEL_PARTS, Courses, band_hz, cell_powers, noise_powers
from miao.sound.room import BAND_HZ, DrawnRoom
from miao.sound.spectrum import AUDIBLE_DB
from miao.training.rests import RestDecays, rests

DB_A_NEPER = 10 / np.log(10)
_T60_SECONDS = (0.08, 8.0)
_MIDDLE = slice(2, 5)  # steps between the octaves from 250 Hz to 2 kHz
_TREBLE = 4  # octaves from 2 kHz on
_REST_WEIGHT, _MANY_REST_FRAMES = 0.3, 60  # what rests count for, from so many frames of them on in full
_ROUGH_DECAY = 1.0  # cost of T60s that go from octave to octave as the usual room's do not, 250 Hz to 2 kHz
_SURE_DECAY, _SURE_ERROR = 6.0, 0.2  # cost of T60s that are not what rests tell, if they tell it so well or better
_EARLY_FRAMES = 6  # 0.14 s: what comes so soon has levels of its own, as walls send single reflections first
_EARLY_COST = 0.005
_ROOM_WEIGHT = 20.0  # what a cell counts for more where it is the room that is heard and not the notes
_TAIL_FRAMES = 160  # 3.7 s: by then a tail of 2 s has fallen by 110 dB, one of 6 s by 37


@dataclass(frozen=True)
class MusicConfig:
    """How voices and a room are learnt from music."""

    room_steps: int = 120  # for gains, filter, floor and room alone, over all excerpts
    steps: int | None = None  # with the voices' levels, an excerpt each; None: as many as suit their number
    rate: float = 0.15  # in levels, and in steps of 2 dB
    smooth_semitones: float = 5.0  # what is learnt at one pitch spreads that far
    is_damped: bool = True  # notes that are let go end as dry ones do (`training.dampers`): what rings on is the room's
    size: float = 0.05  # cost of a shift of one level, mean square
    key_size: float = 0.1  # the same of single keys
    seed: int = 0

    def steps_for(self, n_excerpts: int) -> int:
        """How many steps the levels of voices are learnt for."""
        return int(np.clip(24 * n_excerpts, 120, 480)) if self.steps is None else self.steps


@dataclass(frozen=True, eq=False)
class Piece:
    """A recording and its notes as they will be compared."""

    courses: tuple[Courses, ...]  # of each voice that is learnt
    heard_db: Floats  # [frames, bands] every second frame of `log_mel`, up to the recording's bandwidth
    others: Floats | None = None  # [frames, bands] power of instruments that are not learnt
    n_before: int = 0  # frames at its beginning that sound into the rest and are not compared

    @property
    def n_frames(self) -> int:
        """Its frames, those not compared among them."""
        return len(self.heard_db)

    def part(self, first: int, last: int, n_before: int = 0) -> "Piece":
        """Only its frames [first, last), after as many as `n_before` that are not compared."""
        n_before = min(n_before, first)
        begin, end = first - n_before, min(last, self.n_frames)
        others = None if self.others is None else self.others[begin:end]
        courses = tuple(course.part(begin, end) for course in self.courses)
        return Piece(courses, self.heard_db[begin:end], others, n_before)


class Pairs:
    """The notes of a voice in a piece as tensors: pairs of a note and a frame, by pitch."""

    def __init__(self, courses: Courses, middle_velocity: float) -> None:
        order = np.argsort(courses.pitch, kind="stable")
        self.frame = torch.from_numpy(courses.frame[order].astype(np.int64))
        self.parts = torch.from_numpy(courses.levels[order])  # in quarter levels, a byte each
        ages, since = knot_shares(courses.age[order], AGES), courses.since[order]
        force = courses.velocity[order] - np.float32(middle_velocity)
        ends = knot_shares(np.maximum(since, 0), SINCE)[:, 1:] * (since >= 0)[:, None]
        self.shares = torch.from_numpy(np.concatenate([ages, force[:, None] * ages, ends], axis=1))  # [n, knots]
        pitches, starts = np.unique(courses.pitch[order], return_index=True)
        stops = [*starts[1:].tolist(), len(order)]
        self.spans = list(zip(pitches.tolist(), starts.tolist(), stops, strict=True))


class Ready:
    """A piece as tensors."""

    def __init__(self, piece: Piece, middle_velocities: Sequence[float]) -> None:
        self.voices = [Pairs(c, middle) for c, middle in zip(piece.courses, middle_velocities, strict=True)]
        self.n_before = piece.n_before
        self.heard = torch.from_numpy(piece.heard_db)
        self.others = torch.zeros_like(self.heard) if piece.others is None else torch.from_numpy(piece.others)
        self.threshold = float(piece.heard_db.max()) - AUDIBLE_DB
        self.rests = torch.from_numpy(rests(piece.n_frames, piece.courses, piece.others))
        self.rests[: piece.n_before] = False

    def loss(self, predicted_db: Tensor, room_shares: Tensor | None = None) -> Tensor:
        """The error, and that of rests once more: few frames, but those that tell how a room rings. With shares of the
        room in each cell these count the more, the more of them is the room's."""
        n, inside = int(self.rests.sum()), slice(self.n_before, None)
        weights = None if room_shares is None else 1 + _ROOM_WEIGHT * room_shares[inside]
        error = self._mean_off(self.heard[inside], predicted_db[inside], weights)
        if not n:
            return error
        share = _REST_WEIGHT * min(n / _MANY_REST_FRAMES, 1.0)
        return error + share * self._mean_off(self.heard[self.rests], predicted_db[self.rests])

    def error(self, predicted_db: Tensor) -> Tensor:
        """The log-mel error, as `spectrum.log_mel_error` defines it."""
        return self._mean_off(self.heard[self.n_before :], predicted_db[self.n_before :])

    def _mean_off(self, heard: Tensor, predicted: Tensor, weights: Tensor | None = None) -> Tensor:
        audible = (heard >= self.threshold) | (predicted.detach() >= self.threshold)
        # what is heard and predicted as inaudible pulls the prediction up, though it counts from the threshold on only
        counted = predicted + (predicted.clamp(min=self.threshold) - predicted).detach()
        off = (counted - heard.clamp(min=self.threshold)).abs()[audible]
        if weights is not None and len(off):
            return (off * weights[audible]).sum() / weights[audible].sum()
        return off.mean() if len(off) else off.sum()


class VoiceLevels(nn.Module):
    """One voice: what its levels are shifted by, and what they make of each mel band.

    What is learnt at one pitch spreads to those around; what is learnt of a drum is that drum's alone.
    """

    def __init__(self, table: VoiceTable, voice: int, pitches: Integers, n_bands: int, config: MusicConfig, *,
                 is_kit: bool = False) -> None:  # fmt: skip
        super().__init__()
        self.table, self.voice, self.n_bands = table, voice, n_bands
        self.matrices: dict[int, Tensor] = {}
        self.knows(np.unique(pitches).tolist())
        self.heard = torch.from_numpy(np.unique(pitches).astype(np.int64))
        if is_kit:
            self.nodes = list(DRUM_KEYS)
            rows = np.unique(kit_rows(pitches))
            self.near = torch.zeros(len(DRUM_KEYS), len(rows))  # [nodes, parameters]
            self.near[rows, np.arange(len(rows))] = 1
            places, shares = key_place(np.arange(N_PITCHES))
            self.low, self.share = torch.from_numpy(places), torch.from_numpy(shares)[:, None]
        else:
            self.nodes = [min(SEMITONES_A_NODE * node, N_PITCHES - 1) for node in range(PITCH_NODES)]
            first, last = int(pitches.min() // SEMITONES_A_NODE), int(-(-pitches.max() // SEMITONES_A_NODE))
            own = torch.arange(first, last + 1)
            distance = SEMITONES_A_NODE * (torch.arange(PITCH_NODES).clamp(first, last)[:, None] - own)
            spread = torch.exp(-0.5 * (distance / config.smooth_semitones).square())
            self.near = spread / spread.sum(dim=1, keepdim=True)
            place = torch.arange(N_PITCHES).clamp(max=N_PITCHES - 2) / SEMITONES_A_NODE
            low = place.floor().long().clamp(max=PITCH_NODES - 2)
            self.low, self.share = low, (place - low)[:, None]
        n = self.near.shape[1]
        self.held = nn.Parameter(torch.zeros(len(AGES), 2, n + 1, tk.PITCH_CELL))  # the last is for all pitches
        self.let_go = nn.Parameter(torch.zeros(len(SINCE) - 1, n + 1, tk.PITCH_CELL))
        self.keys = nn.Parameter(torch.zeros(2, N_PITCHES, tk.PITCH_CELL))
        self.ramp = torch.from_numpy(RAMP)[:, None, None]
        self.gain = nn.Parameter(torch.zeros(()))  # in units of 2 dB
        self.damper: Tensor | None = None  # [SINCE - 1, PITCH_NODES, 1] levels: a dry note ends no later than that

    def knows(self, pitches: Sequence[int]) -> None:
        """Makes the matrices from cells to bands that are missing."""
        for pitch in pitches:
            if pitch not in self.matrices:
                found = cell_powers(self.table, self.voice, pitch, noise_powers())[:, : self.n_bands]
                self.matrices[pitch] = torch.from_numpy(found)

    def at_nodes(self, values: Tensor) -> Tensor:
        """Parameters [..., n + 1, C] at all nodes."""
        return self.near @ values[..., :-1, :] + values[..., -1:, :]

    def ends(self) -> Tensor:
        """What is added to levels since a note was let go, at all pitch nodes, [S - 1, N, C]: with dampers, a note
        may end sooner than these have it, but no later."""
        if self.damper is None:
            return self.at_nodes(self.let_go)
        return self.at_nodes(self.let_go.clamp(max=0)) + self.damper

    def damped(self) -> Tensor | None:
        """What dampers alone add at each knot of `Pairs.shares`, [pitches, knots, 1]; None without any."""
        if self.damper is None:
            return None
        ends = torch.lerp(self.damper[:, self.low], self.damper[:, self.low + 1], self.share)
        return torch.cat([torch.zeros(2 * len(AGES), N_PITCHES, 1), ends]).transpose(0, 1)

    def shifts(self) -> Tensor:
        """What is added to levels at each knot of `Pairs.shares`, [pitches, knots, C - 1]."""
        held, let_go = self.at_nodes(self.held), self.ends()  # [A, 2, N, C], [S - 1, N, C]
        held = torch.lerp(held[:, :, self.low], held[:, :, self.low + 1], self.share)
        let_go = torch.lerp(let_go[:, self.low], let_go[:, self.low + 1], self.share)
        return torch.cat([held[:, 0] + self.keys[0] + self.ramp * self.keys[1], held[:, 1], let_go]).transpose(0, 1)

    def added(self, total: Tensor, pairs: Pairs, shifts: Tensor | None) -> Tensor:
        """A piece's powers [frames, bands] with those of this voice's notes, moved by `shifts`, `damped` or nothing."""
        if not pairs.spans:
            return total
        bands = []
        for pitch, a, b in pairs.spans:  # key by key: products of matrices, where gathering would take longer
            levels = pairs.parts[a:b].float() / LEVEL_PARTS
            sounds = levels >= 0.5
            if shifts is not None:
                levels = (levels + pairs.shares[a:b] @ shifts[pitch]).clamp(0.5, tk.N_LEVELS - 1)
            decibels = tk.LEVEL_TOP_DB + (levels - (tk.N_LEVELS - 1)) * tk.LEVEL_STEP_DB
            bands.append((torch.exp(decibels / DB_A_NEPER) * sounds) @ self.matrices[pitch])
        return total.index_add(0, pairs.frame, torch.cat(bands) * torch.exp((2 / DB_A_NEPER) * self.gain))

    def penalty(self, config: MusicConfig) -> Tensor:
        """What shifts cost."""
        sizes = self.held[..., :-1, :].square().mean() + 0.3 * self.held[..., -1, :].square().mean()
        keys = self.keys[:, self.heard].square().mean()
        return config.size * (sizes + self.let_go.square().mean()) + config.key_size * keys


class Music(nn.Module):
    """The parameters, and what they make of a piece."""

    def __init__(self, voices: Sequence[VoiceLevels], n_bands: int, middle_velocities: Sequence[float]) -> None:
        super().__init__()
        self.middle_velocities = tuple(middle_velocities)
        hz = band_hz()[:n_bands]
        octaves = np.interp(np.log2(hz), np.log2(BAND_HZ), np.arange(len(BAND_HZ)))
        near = np.clip(1 - np.abs(octaves[:, None] - np.arange(len(BAND_HZ))), 0, 1)
        self.octave_shares = torch.from_numpy(near.astype(np.float32))  # [bands, 9]
        self.voices = nn.ModuleList(voices)
        self.filter = nn.Parameter(torch.zeros(n_bands))  # in units of 2 dB, as all of these
        self.gain = nn.Parameter(torch.zeros(()))
        self.floor = nn.Parameter(torch.zeros(n_bands))
        self.tail = nn.Parameter(torch.full((len(BAND_HZ),), -6.0))  # of the first frame of the tail, in 2 dB
        self.early = nn.Parameter(torch.zeros(_EARLY_FRAMES, len(BAND_HZ)))  # that its first frames lie above
        usual = torch.from_numpy(np.log(DrawnRoom().decays).astype(np.float32))
        self.decay = nn.Parameter(usual + float(np.log(0.8)))  # logarithm of T60
        self.usual = usual.diff()
        self.rest_decay, self.told_share = torch.zeros(len(BAND_HZ)), torch.zeros(len(BAND_HZ))

    def hear_rests(self, told: RestDecays) -> None:
        """Takes what rests tell of the room's decay for true, as far as they are sure of it."""
        known = np.isfinite(told.t60_seconds)
        share = np.minimum(np.square(_SURE_ERROR / np.where(known, np.maximum(told.error, 1e-6), np.inf)), 1)
        self.rest_decay = torch.from_numpy(np.log(np.where(known, told.t60_seconds, 1.0)).astype(np.float32))
        self.told_share = torch.from_numpy(share.astype(np.float32))

    @property
    def levels(self) -> list[VoiceLevels]:
        """The voices."""
        return [voice for voice in self.voices if isinstance(voice, VoiceLevels)]

    def of_room(self) -> list[nn.Parameter]:
        """What is fitted first: all but the voices' levels."""
        return [
            self.filter,
            self.gain,
            self.floor,
            self.tail,
            self.early,
            self.decay,
            *(voice.gain for voice in self.levels),
        ]

    def of_decay(self) -> list[nn.Parameter]:
        """How the room rings."""
        return [self.tail, self.early, self.decay]

    def of_voices(self) -> list[nn.Parameter]:
        """The voices' levels."""
        return [parameter for voice in self.levels for parameter in (voice.held, voice.let_go, voice.keys)]

    def dry(self, piece: Ready, with_shift: bool, with_dampers: bool = True) -> Tensor:
        """Power of the notes, [frames, bands]: as the voices play them, or as the programs do, with dampers or as they
        are."""
        total = piece.others
        for voice, pairs in zip(self.levels, piece.voices, strict=True):
            shifts = voice.shifts() if with_shift else voice.damped() if with_dampers else None
            total = voice.added(total, pairs, shifts)
        return total

    def times(self) -> Tensor:
        """T60 of each octave, seconds."""
        low, high = np.log(_T60_SECONDS)
        return torch.exp(self.decay.clamp(float(low), float(high)))

    def heard_db(self, dry: Tensor) -> Tensor:
        """What a microphone would hear of it, dB [frames, bands]: filter, room, floor, gain."""
        return self.heard(dry)[0]

    def heard(self, dry: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and how much of the sound is the room's, [frames, bands] from 0 to 1."""
        rate = 6 * np.log(10) * FRAME_SECONDS / (self.octave_shares @ self.times())  # [bands]
        frames = torch.arange(_TAIL_FRAMES)[:, None]
        early = torch.cat([self.early, torch.zeros(_TAIL_FRAMES - _EARLY_FRAMES, len(BAND_HZ))])
        levels = (self.tail + early) @ self.octave_shares.T  # [frames, bands]
        tail = torch.exp(levels * (2 / DB_A_NEPER) - rate[None] * frames)
        n = dry.shape[0] + _TAIL_FRAMES
        wet = torch.fft.irfft(torch.fft.rfft(dry, n, dim=0) * torch.fft.rfft(tail, n, dim=0), n, dim=0)
        wet = torch.cat([torch.zeros_like(wet[:1]), wet[: dry.shape[0] - 1]]).clamp(min=0)
        sound = (dry + wet) * torch.exp((2 / DB_A_NEPER) * (self.filter + self.gain))
        floor = torch.exp((2 / DB_A_NEPER) * self.floor)
        share = (wet / (dry + wet + 1e-14)).detach()
        return DB_A_NEPER * torch.log(sound + floor + 1e-14), share

    def penalty(self, config: MusicConfig) -> Tensor:
        """What shifts cost, and what a rough filter does."""
        total = torch.zeros(())
        for voice in self.levels:
            total = total + voice.penalty(config)
        for rough in (self.filter, self.tail, self.decay):
            total = total + 0.02 * rough.diff().square().mean()
        total = total + _EARLY_COST * self.early.square().mean()
        total = total + _ROUGH_DECAY * (self.decay.diff() - self.usual)[_MIDDLE].square().sum()
        total = total + _SURE_DECAY * (self.told_share * (self.decay - self.rest_decay).square()).sum()
        # air and walls take the treble sooner: what rings longer there than an octave below is strings or hiss
        return total + 0.5 * torch.relu(self.decay.diff()[_TREBLE:]).square().sum()
