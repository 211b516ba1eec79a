"""Voices and their room learnt from music and its notes, by synthesis in the power domain.

What the notes of programs would make of each mel band (`training.music_model`) is compared with the recording, and four
things are fitted to bring them together: gains, a filter and a noise floor by band; a room (level and decay of an
exponential tail by octave); and for each voice a shift of the program's levels by pitch, velocity, age and time since
let go, and by key. A note's own decay depends on its pitch and strength, the room's on neither: that is what tells them
apart.

What is learnt at one pitch spreads to its neighbours, and shifts cost: the program is the prior, so that half a minute
of sound does no harm. A fit that was saved goes on where it was, and comes out as if it had never stopped.
"""

import io
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from miao.arrays import Doubles, Flags, Floats, Reals
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.level_shift import LevelShift
from miao.bank.voices import VoiceTable, pitch_hz
from miao.errors import DataError
from miao.files import make_folder, write_bytes
from miao.measuring.power import FRAME_SECONDS, band_hz
from miao.sound.room import BAND_HZ
from miao.training.dampers import dampers
from miao.training.music_model import DB_A_NEPER, Music, MusicConfig, Piece, Ready, VoiceLevels
from miao.training.rests import decays_in_rests

SAVE_EVERY_SECONDS = 15.0
_ROOM_SHARE = 0.25  # of the time, for gains, filter, floor and room alone


@dataclass(frozen=True, eq=False)
class MusicFit:
    """What was learnt."""

    shifts: tuple[LevelShift, ...]  # of each voice, the filter in it
    t60_seconds: Doubles  # [9] by octave
    room_db: Doubles  # [9] energy of the tail against the direct sound
    early_db: Doubles  # [9] how far the room's beginning lies above its tail
    known: Flags  # [9] octaves within the bandwidth
    gain_db: float
    gains_db: tuple[float, ...]  # of each voice, beside that
    floor_db: Doubles  # [bands]

    @property
    def shift(self) -> LevelShift:
        """That of the first voice."""
        return self.shifts[0]


class Fitted:
    """A fit in the making or made: it tells how far pieces are off, by what is fitted so far.

    ``programs`` are the voices of the bank that those learnt set out from, one for each of a piece's courses.
    """

    def __init__(self, bank: Bank, programs: Sequence[int], pieces: Sequence[Piece], config: MusicConfig) -> None:
        torch.manual_seed(config.seed)
        self.table, self.programs, self.config = bank.table, tuple(programs), config
        n_bands = pieces[0].heard_db.shape[1]
        voices, middles = [], []
        for number, program in enumerate(programs):
            courses = [piece.courses[number] for piece in pieces]
            pitches = np.concatenate([c.pitch for c in courses])
            is_kit = program in bank.own_kits
            if not len(pitches):
                who = "the drum kit" if is_kit else f"program {program + 1}"
                raise DataError(f"{who} plays nothing in what is learnt from")
            voices.append(VoiceLevels(bank.table, program, pitches, n_bands, config, is_kit=is_kit))
            if config.is_damped and not is_kit:
                voices[-1].damper = torch.from_numpy(dampers(bank, program)[1:, :, None])
            middles.append(float(np.concatenate([c.velocity for c in courses]).mean()))
        self.music = Music(voices, n_bands, middles)
        self.ready = [Ready(piece, middles) for piece in pieces]
        self.told = decays_in_rests([p.heard_db for p in pieces], [p.rests.numpy() for p in self.ready],
                                    self.music.octave_shares.numpy())  # fmt: skip
        self.music.hear_rests(self.told)
        self.errors: dict[str, float] = {}  # dB: of pieces learnt from, after each stage
        self.n_done, self.n_steps = 0, config.steps_for(len(pieces))  # done of all; of the voices' levels
        self._room_alone: list[Tensor] = []  # what was fitted before the voices' levels were
        self._optimizer: torch.optim.Optimizer | None = None
        self._dry: list[Tensor] = []

    def learn(self, tell: Callable[[float], None] = lambda done: None, saved: Path | None = None) -> dict[str, float]:
        """Fit; the errors on the pieces learnt from after each stage, dB.

        ``saved`` is a file that the fit is kept in while it is made, and goes on from if it is there; it is for this
        fit and no other. Raises: DataError if it cannot be written.
        """
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._learn(tell, saved)
        finally:
            torch.set_num_threads(n_threads)
        return self.errors

    def _learn(self, tell: Callable[[float], None], saved: Path | None) -> None:
        config, last_saved = self.config, time.monotonic()
        if saved is not None and saved.is_file():
            self._load(saved)
        if not self.n_done and not self.errors:
            self._set_out()
        while self.n_done < config.room_steps + self.n_steps:
            if self.n_done < config.room_steps:
                self._fit_room(self.n_done)
                done = _ROOM_SHARE * (self.n_done + 1) / config.room_steps
            else:
                self._fit_levels(self.n_done - config.room_steps)
                done = _ROOM_SHARE + (1 - _ROOM_SHARE) * (self.n_done + 1 - config.room_steps) / self.n_steps
            self.n_done += 1
            if self.n_done == config.room_steps:
                self.errors["room"] = self.error(with_shift=False)
                self._room_alone = [parameter.detach().clone() for parameter in self.music.of_room()]
                self._optimizer, self._dry = None, []
            if saved is not None and time.monotonic() - last_saved > SAVE_EVERY_SECONDS:
                self.save(saved)
                last_saved = time.monotonic()
            tell(done)
        if "all" not in self.errors:
            self.errors["all"] = self.error(with_shift=True)
            if saved is not None:
                self.save(saved)

    def _set_out(self) -> None:
        """The median gain and noise floor."""
        music, dry = self.music, self._plain()
        with torch.no_grad():
            music.gain.add_(float(np.median([_gain_db(p, d) for p, d in zip(self.ready, dry, strict=True)])) / 2)
            music.floor.add_(torch.stack([p.heard.quantile(0.02, dim=0) for p in self.ready]).median(dim=0).values / 2)
            bare = [music.dry(piece, False, with_dampers=False) for piece in self.ready]
            self.errors["gain"] = float(np.mean([_one_gain(p, d) for p, d in zip(self.ready, bare, strict=True)]))

    def _plain(self) -> list[Tensor]:
        """The power of the notes as the programs play them with the gains that they have, of all pieces."""
        if not self._dry:
            with torch.no_grad():
                self._dry = [self.music.dry(piece, False) for piece in self.ready]
        return self._dry

    def _fit_room(self, step: int) -> None:
        config, at = self.config, step % len(self.ready)
        if self._optimizer is None:
            self._optimizer = _adam([{"params": self.music.of_room()}], config)
        is_fixed = len(self.programs) == 1  # its gain is that of all
        dry = self._plain()[at] if is_fixed else self.music.dry(self.ready[at], False)
        self._step(self.ready[at], dry, step, config.room_steps)

    def _fit_levels(self, step: int) -> None:
        config = self.config
        if self._optimizer is None:
            self._optimizer = _adam([{"params": self.music.of_voices()}, {"params": self.music.of_room()}], config)
        round_, place = divmod(step, len(self.ready))
        at = int(np.random.default_rng([config.seed, round_]).permutation(len(self.ready))[place])
        self._step(self.ready[at], self.music.dry(self.ready[at], True), step, self.n_steps)

    def _step(self, piece: Ready, dry: Tensor, step: int, steps: int) -> None:
        assert self._optimizer is not None
        heard, room_shares = self.music.heard(dry)
        penalty, of_decay = self.music.penalty(self.config), self.music.of_decay()
        # how the room rings is told by cells that it rules: where a note is louder, what is heard is the note alone,
        # half of the time, and not the sum of both
        ringing = torch.autograd.grad(piece.loss(heard, room_shares) + penalty, of_decay, retain_graph=True)
        loss = piece.loss(heard) + penalty
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.rate * min((step + 1) / 8, 0.5 + 0.5 * float(np.cos(np.pi * step / steps)))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for parameter, gradient in zip(of_decay, ringing, strict=True):
            parameter.grad = gradient
        self._optimizer.step()

    # what is kept

    def save(self, path: Path) -> None:
        """Keep the fit as it stands. Raises: DataError."""
        state = {"config": repr(self.config), "n_done": self.n_done, "errors": self.errors,
                 "music": self.music.state_dict(), "room_alone": self._room_alone,
                 "optimizer": None if self._optimizer is None else self._optimizer.state_dict()}  # fmt: skip
        buffer = io.BytesIO()
        torch.save(state, buffer)
        make_folder(path.parent, DataError)
        write_bytes(path, buffer.getvalue(), DataError, force=True)

    def _load(self, path: Path) -> None:
        """Go on from what was kept; from the beginning if it was for another fit or cannot be read."""
        try:
            state = torch.load(path, weights_only=True)
            if state["config"] != repr(self.config):
                return
            self.music.load_state_dict(state["music"])
            self.n_done, self.errors = int(state["n_done"]), dict(state["errors"])
            self._room_alone = list(state["room_alone"])
            if state["optimizer"] is not None:
                groups = [{"params": self.music.of_voices()}] if self.n_done >= self.config.room_steps else []
                self._optimizer = _adam([*groups, {"params": self.music.of_room()}], self.config)
                self._optimizer.load_state_dict(state["optimizer"])
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError):
            self.n_done, self.errors, self._optimizer = 0, {}, None

    # what it is worth

    def error(self, pieces: Sequence[Piece] | None = None, *, with_shift: bool = True) -> float:
        """Mean error of pieces, those learnt from by default, dB."""
        ready = self.ready if pieces is None else self._known(pieces)
        with torch.no_grad():
            return float(np.mean([float(p.error(self.predicted(p, with_shift))) for p in ready]))

    def predicted(self, piece: Ready, with_shift: bool = True) -> Tensor:
        """What the fit says of a piece, dB [frames, bands]."""
        return self.music.heard_db(self.music.dry(piece, with_shift))

    def room_error(self, pieces: Sequence[Piece]) -> float:
        """Mean error of pieces as the programs play them, in the room that was fitted to them, dB."""
        return self._with_room(self._room_alone, lambda: self.error(pieces, with_shift=False))

    def one_gain_error(self, pieces: Sequence[Piece]) -> float:
        """Mean error of pieces as the programs play them, dry, each with the gain that suits it best, dB."""

        def error() -> float:
            with torch.no_grad():
                return float(np.mean([_one_gain(p, self.music.dry(p, False, with_dampers=False))
                                      for p in self._known(pieces)]))  # fmt: skip

        return self._with_room([torch.zeros_like(parameter) for parameter in self.music.of_room()], error)

    def _with_room(self, values: Sequence[Tensor], found: Callable[[], float]) -> float:
        """What is found with other values of all but the voices' levels."""
        kept = [parameter.detach().clone() for parameter in self.music.of_room()]
        self._set_room(values)
        try:
            return found()
        finally:
            self._set_room(kept)

    def _set_room(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.music.of_room(), values, strict=True):
                parameter.copy_(value)

    def _known(self, pieces: Sequence[Piece]) -> list[Ready]:
        ready = [Ready(piece, self.music.middle_velocities) for piece in pieces]
        for number, voice in enumerate(self.music.levels):
            voice.knows([pitch for piece in ready for pitch, _, _ in piece.voices[number].spans])
        return ready

    def result(self, bandwidth_hz: float) -> MusicFit:
        """What was learnt, the filter as part of the voices' levels."""
        music = self.music
        with torch.no_grad():
            filter_db, t60 = 2 * music.filter.numpy(), music.times().numpy().astype(np.float64)
            first = 2 * music.tail.numpy().astype(np.float64)
            early = 2 * music.early[:5].mean(dim=0).numpy().astype(np.float64)
            gain, floor = 2 * float(music.gain), 2 * music.floor.numpy().astype(np.float64)
            gains = np.array([2 * float(voice.gain) for voice in music.levels])
        middle = float(np.median(filter_db))
        shifts = tuple(_shift_of(voice, filter_db - middle, velocity)
                       for voice, velocity in zip(music.levels, music.middle_velocities, strict=True))  # fmt: skip
        rate = 6 * np.log(10) * FRAME_SECONDS / t60
        energy = first - 10 * np.log10(1 - np.exp(-rate))
        mean = float(gains.mean())
        return MusicFit(shifts, t60, energy, early, bandwidth_hz >= 1.4 * BAND_HZ, gain + middle + mean,
                        tuple((gains - mean).tolist()), floor)  # fmt: skip


def _shift_of(voice: VoiceLevels, filter_db: Reals, middle_velocity: float) -> LevelShift:
    """A voice's levels and the filter as one shift."""
    with torch.no_grad():
        held, let_go = voice.at_nodes(voice.held).numpy().copy(), voice.ends().numpy()
        keys = voice.keys.numpy().copy()
    held[:, 0] += _filter_of_cells(voice.table, voice.voice, voice.nodes, filter_db)[None] / tk.LEVEL_STEP_DB
    let_go = np.concatenate([np.zeros_like(let_go[:1]), let_go])
    return LevelShift(held.astype(np.float16), let_go.astype(np.float16), np.array([middle_velocity], np.float32),
                      keys.astype(np.float16))  # fmt: skip


def _filter_of_cells(table: VoiceTable, voice: int, nodes: Sequence[int], filter_db: Reals) -> Floats:
    """The filter at the frequencies of each cell at each of some pitches, dB [nodes, C - 1]; above the bands known as
    in the highest of them."""
    bands = band_hz()[: len(filter_db)]
    middles = np.sqrt(tk.NOISE_EDGES_HZ[:-1] * tk.NOISE_EDGES_HZ[1:])
    found = np.zeros((len(nodes), tk.PITCH_CELL), np.float32)
    for node, pitch in enumerate(nodes):
        partials = table.partials(voice, pitch)
        weight = partials.spread.sum(axis=1)
        hz = (partials.spread @ partials.ratios) / np.maximum(weight, 1e-6) * float(pitch_hz(pitch))
        found[node] = np.interp(np.log(np.concatenate([np.maximum(hz, 20), middles])), np.log(bands), filter_db)
    return found


def _gain_db(piece: Ready, dry: Tensor) -> float:
    """How much louder the recording is, dB."""
    played = DB_A_NEPER * torch.log(dry + 1e-14)
    loud = (piece.heard > piece.heard.max() - 40) & (played > played.max() - 40)
    return float((piece.heard - played)[loud].median()) if bool(loud.any()) else 0.0


def _one_gain(piece: Ready, dry: Tensor) -> float:
    """The error with the gain that suits best, dB."""
    played, middle = DB_A_NEPER * torch.log(dry + 1e-14), _gain_db(piece, dry)
    return min(float(piece.error(played + middle + off)) for off in np.arange(-6, 6.5, 0.5).tolist())


def _adam(groups: list[dict[str, list[torch.nn.Parameter]]], config: MusicConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=config.rate, betas=(0.9, 0.98))
