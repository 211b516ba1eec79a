"""What can be evaluated: anything that turns a score into sound, by a name.

    miao, miao:BANK, miao:BANK+effects          our banks; with effects: in their room
    fluidsynth:FILE.sf2, ...+effects            a sampler; with effects: its reverb and chorus
    midi2wave:RUN, midi-ddsp:RUN, mi-ddpm:RUN   the paper's peers, trained (see peers/trained.py)
    encoded, encoded:FILE.sf2                   analysis and synthesis of the reference's notes: the ceiling of miao
    inverter:RUN                                the reference's mel spectrogram made sound again: the ceiling of
                                                midi2wave and mi-ddpm
    reference                                   the audio of the benchmark itself: the ceiling of every metric
    silence, noise, sine                        floors: nothing; noise as loud as the reference from moment to moment;
                                                a sine for each note

Systems are small frozen dataclasses of names and paths, so that they can be sent to other processes; what they open
stays open there. All sound is at 44.1 kHz and as long as the reference. Stems lie behind their faders and without
effects, in every system; the mix is their sum, with effects where these are asked for. Levels are left as they are:
whoever compares, aligns them.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from miao.arrays import Floats, Reals
from miao.bank.bank import Bank
from miao.datasets.pairs import pair_notes
from miao.datasets.soundfont import SAMPLE_RATE, SoundFont
from miao.errors import ConfigError, DataError
from miao.evaluation.encoded import encoded_sound, encoded_track
from miao.evaluation.floors import noise_like, sines
from miao.evaluation.sampler import Sampler, file_checksum
from miao.midi.score import Score
from miao.peers import NEED_INVERTER, PEERS
from miao.sound.desk import Desk, track_gains
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems
from miao.synth.synthesizer import Synthesizer

if TYPE_CHECKING:
    from miao.peers.inverter import Inverter
    from miao.peers.trained import Peer

NAMES = ("miao[:BANK]", "fluidsynth:FILE.sf2", *(f"{name}:RUN" for name in PEERS), "encoded", "inverter:RUN",
         "reference", "silence", "noise", "sine")  # fmt: skip
EFFECTS = "+effects"
_EFFECTS_GAIN_DB = -20.0  # low enough that the limiter has no work


@dataclass(frozen=True, eq=False)
class Sound:
    """A piece as it sounds."""

    mix: Floats  # [2, S] at 44.1 kHz
    stems: Floats | None  # [tracks, 2, S]; None where only the mix is known


@dataclass(frozen=True, eq=False)
class Piece:
    """What a system is given: the score, and what only ceilings and floors may look at."""

    score: Score
    seconds: float  # how much sound is wanted
    reference: Sound
    source: Path | None  # the SoundFont that plays the reference; None for a recording


class System(Protocol):
    """Something that plays pieces."""

    @property
    def name(self) -> str:
        """As it is asked for on the command line, without folders."""

    @property
    def is_floor(self) -> bool:
        """Whether a metric must rank it behind everything that plays the music."""

    @property
    def checksum(self) -> str:
        """Changes with what the system sounds like."""

    def play(self, piece: Piece) -> Sound:
        """The piece's sound. Raises: MiaoError if the system cannot play it."""


@dataclass(frozen=True)
class MiaoSystem:
    """A bank, played by the engine."""

    bank: str = "gm"
    effects: bool = False
    is_floor: bool = False

    @property
    def name(self) -> str:
        return f"miao:{Path(self.bank).name}" + EFFECTS * self.effects

    @cached_property
    def checksum(self) -> str:
        return _bank(self.bank).checksum

    def play(self, piece: Piece) -> Sound:
        bank = _bank(self.bank)
        stems = played_stems(bank, piece.score, piece.seconds)
        if not self.effects:
            return Sound(stems.sum(axis=0), stems)
        audio = Synthesizer(bank).render(piece.score, gain_db=_EFFECTS_GAIN_DB)
        return Sound(_fitted(audio.samples / 10 ** (_EFFECTS_GAIN_DB / 20), piece.seconds), stems)


@dataclass(frozen=True)
class FluidSynthSystem:
    """A SoundFont, played by FluidSynth."""

    path: Path
    effects: bool = False
    is_floor: bool = False

    @property
    def name(self) -> str:
        return f"fluidsynth:{self.path.name}" + EFFECTS * self.effects

    @cached_property
    def checksum(self) -> str:
        return f"{file_checksum(self.path)}-2"  # the number to be raised when it is played otherwise

    def play(self, piece: Piece) -> Sound:
        stems = _sampler(self.path, False).stems(piece.score, piece.seconds)
        wet = _sampler(self.path, True).stems(piece.score, piece.seconds) if self.effects else stems
        return Sound(wet.sum(axis=0), stems)


@dataclass(frozen=True)
class EncodedSystem:
    """The notes of the reference, measured one by one and played back."""

    path: Path | None = None  # of the SoundFont; None: the one that the benchmark was made with
    is_floor: bool = False

    @property
    def name(self) -> str:
        return "encoded" if self.path is None else f"encoded:{self.path.name}"

    @property
    def checksum(self) -> str:
        return "" if self.path is None else file_checksum(self.path)

    def play(self, piece: Piece) -> Sound:
        source = self.path or piece.source
        if source is None:
            return self._recorded(piece)
        if not source.is_file():
            raise DataError(f"encoded needs the SoundFont of the benchmark, and {source} is not there; "
                            "say encoded:FILE.sf2")  # fmt: skip
        stems = np.zeros((len(piece.score.tracks), 2, round(piece.seconds * SAMPLE_RATE)), np.float32)
        for row, track in zip(stems, piece.score.tracks, strict=True):
            alone = replace(piece.score, tracks=(track,))
            row[:] = played_stems(encoded_track(_soundfont(source), track), alone, piece.seconds)[0]
        return Sound(stems.sum(axis=0), stems)

    def _recorded(self, piece: Piece) -> Sound:
        """Of a recording: each track measured from its own stem, or one track from the mix."""
        heard = piece.reference.stems
        if heard is None:
            if len(piece.score.tracks) > 1:
                raise DataError("encoded is not available for recordings of several tracks without stems")
            heard = piece.reference.mix[None]
        stems = np.stack([encoded_sound(piece.score, sound, n) for n, sound in enumerate(heard)])
        return Sound(stems.sum(axis=0), stems)


@dataclass(frozen=True)
class PeerSystem:
    """A peer of the paper, track by track; it plays mono, and pan and fader are put behind it. It does not bend notes.

    Each track is played for each of its instruments apart, as a peer's window holds one.
    """

    run: Path
    kind: str
    is_floor: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.run.name}"

    @cached_property
    def checksum(self) -> str:
        return _run_checksum(self.run, self.kind in NEED_INVERTER)

    def play(self, piece: Piece) -> Sound:
        from miao.peers.inputs import instruments

        parts = []
        for n, notes in enumerate(pair_notes(track.notes) for track in piece.score.tracks):
            kinds = instruments(notes)
            parts += [(n, notes[kinds == kind]) for kind in np.unique(kinds)]
        sounds = _peer(self.run).play([notes for _, notes in parts], piece.seconds)
        stems = np.zeros((len(piece.score.tracks), 2, round(piece.seconds * SAMPLE_RATE)), np.float32)
        for (n, _), sound in zip(parts, sounds, strict=True):
            stems[n] += sound
        for stem, track in zip(stems, piece.score.tracks, strict=True):
            stem *= track_gains(track.controls, 0, stem.shape[1], SAMPLE_RATE)
        return Sound(stems.sum(axis=0), stems)


@dataclass(frozen=True)
class InverterSystem:
    """The reference's mel spectrograms, made sound again, stem by stem where there are stems; mono."""

    run: Path
    is_floor: bool = False

    @property
    def name(self) -> str:
        return f"inverter:{self.run.name}"

    @cached_property
    def checksum(self) -> str:
        return _run_checksum(self.run, False)

    def play(self, piece: Piece) -> Sound:
        from miao.peers.trained import again

        heard = piece.reference.mix[None] if piece.reference.stems is None else piece.reference.stems
        stems = np.stack([np.tile(again(_inverter(self.run), sound.mean(axis=0)), (2, 1)) for sound in heard])
        return Sound(stems.sum(axis=0), None if piece.reference.stems is None else stems)


@dataclass(frozen=True)
class ReferenceSystem:
    """The reference itself."""

    name: str = "reference"
    is_floor: bool = False
    checksum: str = ""

    def play(self, piece: Piece) -> Sound:
        return piece.reference


@dataclass(frozen=True)
class SilenceSystem:
    """Nothing."""

    name: str = "silence"
    is_floor: bool = True
    checksum: str = ""

    def play(self, piece: Piece) -> Sound:
        silence = np.zeros((2, round(piece.seconds * SAMPLE_RATE)), np.float32)
        return Sound(silence, np.broadcast_to(silence, (len(piece.score.tracks), *silence.shape)))


@dataclass(frozen=True)
class NoiseSystem:
    """White noise with the level that the reference has from moment to moment."""

    name: str = "noise"
    is_floor: bool = True
    checksum: str = ""

    def play(self, piece: Piece) -> Sound:
        reference = piece.reference
        random = np.random.default_rng(0)
        if reference.stems is None:
            return Sound(noise_like(reference.mix, random), None)
        stems = np.stack([noise_like(stem, random) for stem in reference.stems])
        return Sound(stems.sum(axis=0), stems)


@dataclass(frozen=True)
class SineSystem:
    """A sine for each note, bent as it is, from its start to its end; for a drum, a tenth of a second of it."""

    name: str = "sine"
    is_floor: bool = True
    checksum: str = "2"  # to be raised when it sounds otherwise

    def play(self, piece: Piece) -> Sound:
        stems = np.stack([sines(track, piece.seconds) for track in piece.score.tracks])
        return Sound(stems.sum(axis=0), stems)


def system(text: str) -> System:
    """The system of that name. Raises: ConfigError if there is none; BankError or DataError for a file at fault."""
    kind, _, rest = text.removesuffix(EFFECTS).partition(":")
    effects = text.endswith(EFFECTS)
    plain: dict[str, System] = {
        "reference": ReferenceSystem(), "silence": SilenceSystem(), "noise": NoiseSystem(), "sine": SineSystem()
    }  # fmt: skip
    if kind == "miao":
        _bank(rest or "gm")
        return MiaoSystem(rest or "gm", effects)
    if kind == "fluidsynth":
        if not rest:
            raise ConfigError(f"{text}: which SoundFont? say fluidsynth:FILE.sf2")
        return FluidSynthSystem(_sampler(Path(rest), effects).path, effects)
    if kind in (*PEERS, "inverter"):
        return _trained_system(text, kind, Path(rest))
    if effects:
        raise ConfigError(f"{text}: only miao and fluidsynth have effects")
    if kind == "encoded":
        if rest and not Path(rest).is_file():
            raise DataError(f"{rest}: no such SoundFont; give the path of an .sf2 or .sf3 file")
        return EncodedSystem(Path(rest) if rest else None)
    if kind not in plain or rest:
        raise ConfigError(f"{text}: no such system; there are {', '.join(NAMES)}")
    return plain[kind]


def _trained_system(text: str, kind: str, run: Path) -> System:
    """A peer or an inverter, tried out: loading fails here, in one line, rather than in a process."""
    if text.endswith(EFFECTS) or text == kind:
        raise ConfigError(f"{text}: say {kind}:RUN, the folder of a run of `miao train {kind}`")
    if kind == "inverter":
        _inverter(run)
        return InverterSystem(run)
    peer = _peer(run)
    if peer.name != kind:
        raise ConfigError(f"{text}: {run} is a run of {peer.name}")
    return PeerSystem(run, kind)


# what stays open in a process


@cache
def _bank(name: str) -> Bank:
    return Bank.load(name, n_threads=1)


@cache
def _sampler(path: Path, effects: bool) -> Sampler:
    return Sampler(path, effects)


@cache
def _peer(run: Path) -> "Peer":
    from miao.peers.trained import load_peer

    return load_peer(run)


@cache
def _inverter(run: Path) -> "Inverter":
    from miao.peers.trained import load_inverter

    return load_inverter(run)


def _run_checksum(run: Path, with_inverter: bool) -> str:
    """Of a run's weights, and of those of the inverter beside it."""
    runs = [run, *([run.parent / "inverter"] if with_inverter else [])]
    return "-".join(file_checksum(path / "model.safetensors") for path in runs)


@cache
def _soundfont(path: Path) -> SoundFont:
    return SoundFont(path)


# sound


def played_stems(bank: Bank, score: Score, seconds: float) -> Floats:
    """The stems of a score behind their faders, without a room, [tracks, 2, S]."""
    stems = np.zeros((len(score.tracks), 2, round(seconds * SAMPLE_RATE)), np.float32)
    desk = Desk(SAMPLE_RATE, len(score.tracks))
    for block in stream_stems(bank, score, PlaySettings(sample_rate=SAMPLE_RATE)):
        for step in block.steps:
            desk.set(*step)
        lines, _ = desk.mix(block.start_sample, block.stems, block.busy, block.extra)
        n = min(lines.shape[2], stems.shape[2] - block.start_sample)
        if n <= 0:
            break
        stems[:, :, block.start_sample : block.start_sample + n] = lines[:, :, :n]
    return stems


def _fitted(samples: Reals, seconds: float) -> Floats:
    """The sound, cut or continued by silence to a length."""
    n_samples = round(seconds * SAMPLE_RATE)
    return np.pad(samples, ((0, 0), (0, max(n_samples - samples.shape[1], 0))))[:, :n_samples]
