"""A SoundFont as a teacher: single notes and phrases of its presets, rendered by FluidSynth without its effects.

FluidSynth is used as a program beside ours (a shared library found at run time); nothing of it is linked or shipped.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miao.arrays import Floats
from miao.errors import DataError, missing

SAMPLE_RATE = 44_100
_BLOCK = 4410


@dataclass(frozen=True)
class PlayedNote:
    """One note of a phrase: times in seconds, MIDI pitch and velocity."""

    start: float
    end: float
    pitch: int
    velocity: int


class SoundFont:
    """An open SoundFont. Programs are 0..127 of a bank (0 for General MIDI's), drums are keys of a kit, in bank 128."""

    def __init__(self, path: str | Path, gain: float = 1.0) -> None:
        """Raises: DataError if FluidSynth or the file cannot be opened."""
        if not Path(path).is_file():
            raise DataError(f"{path}: no such SoundFont; give the path of an .sf2 or .sf3 file")
        try:
            import fluidsynth
        except ModuleNotFoundError as error:
            raise missing(error.name or "fluidsynth") from None
        except ImportError as error:
            raise DataError(f"FluidSynth cannot be loaded ({error}); install it (apt-get install fluidsynth)") from None
        self.path = Path(path)
        self._synth = fluidsynth.Synth(gain=gain, samplerate=SAMPLE_RATE)
        for key, value in {
            "synth.reverb.active": 0,
            "synth.chorus.active": 0,
            "synth.dynamic-sample-loading": 1,
        }.items():
            self._synth.setting(key, value)
        self._font = self._synth.sfload(str(path))
        if self._font < 0:
            raise DataError(f"{path}: not a SoundFont that FluidSynth can read")
        library = fluidsynth._fl
        self._write = library.fluid_synth_write_float
        channel = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        self._write.argtypes = [ctypes.c_void_p, ctypes.c_int, *channel, *channel]
        self._font_of, self._preset_of = library.fluid_synth_get_sfont_by_id, library.fluid_sfont_get_preset
        self._font_of.restype = self._preset_of.restype = ctypes.c_void_p
        self._font_of.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self._preset_of.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        self._name_of = library.fluid_preset_get_name
        self._name_of.restype, self._name_of.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
        self._n_active = library.fluid_synth_get_active_voice_count
        self._n_active.argtypes = [ctypes.c_void_p]
        self._selected: tuple[int, int] | None = None

    def _select(self, program: int, is_drum: bool, bank: int = 0) -> None:
        channel, bank = (9, 128) if is_drum else (0, bank)
        if self._selected == (bank, program):
            return
        is_there = self._synth.program_select(channel, self._font, bank, program) >= 0
        if not is_there and is_drum:  # a kit that the sound bank lacks sounds as its standard kit, as everywhere
            is_there = self._synth.program_select(channel, self._font, bank, 0) >= 0
        if not is_there:
            name = "drum kit" if is_drum else "program" if not bank else f"bank {bank} program"
            raise DataError(f"{self.path}: has no {name} {program}")
        self._selected = (bank, program)

    def has(self, program: int, bank: int) -> bool:
        """Whether there is such a program in a bank, or such a kit in bank 128."""
        return bool(self._preset(program, bank))

    def name(self, program: int, bank: int) -> str:
        """What the sound bank calls a program of a bank that is there."""
        name: bytes = self._name_of(self._preset(program, bank))
        return name.decode("latin-1").strip()

    def _preset(self, program: int, bank: int) -> int | None:
        found: int | None = self._preset_of(self._font_of(self._synth.synth, self._font), bank, program)
        return found

    def _samples(self, n: int) -> Floats:
        sound = np.zeros((2, n), np.float32)
        left, right = (channel.ctypes.data_as(ctypes.c_void_p) for channel in sound)
        self._write(self._synth.synth, n, left, 0, 1, right, 0, 1)
        return sound

    def note(
        self,
        program: int,
        pitch: int,
        velocity: int,
        hold_seconds: float,
        *,
        is_drum: bool = False,
        bank: int = 0,
        tail_seconds: float = 3.0,
    ) -> Floats:
        """One note alone, from its start until it has died away or ``tail_seconds`` after its release: [2, S]."""
        self._select(program, is_drum, bank)
        channel = 9 if is_drum else 0
        self._synth.noteon(channel, pitch, velocity)
        pieces = [self._samples(round(hold_seconds * SAMPLE_RATE))]
        loudest = float(np.abs(pieces[0]).max(initial=0.0))
        self._synth.noteoff(channel, pitch)
        for _ in range(int(tail_seconds * SAMPLE_RATE / _BLOCK)):
            pieces.append(self._samples(_BLOCK))
            if float(np.abs(pieces[-1]).max()) < max(1e-5, 10 ** (-75 / 20) * loudest):
                break
        self._silence(channel)
        return np.concatenate(pieces, axis=1)

    def phrase(self, program: int, notes: list[PlayedNote], seconds: float, *, is_drum: bool = False) -> Floats:
        """Notes of one preset sounding together, exact to FluidSynth's 64-sample blocks: [2, S]."""
        self._select(program, is_drum)
        channel = 9 if is_drum else 0
        events = sorted(
            [(round(n.end * SAMPLE_RATE), 0, n) for n in notes] + [(round(n.start * SAMPLE_RATE), 1, n) for n in notes],
            key=lambda event: event[:2],
        )
        pieces, now = [np.zeros((2, 0), np.float32)], 0
        for at, is_start, note in events:
            if at > now:
                pieces.append(self._samples(at - now))
                now = at
            if is_start:
                self._synth.noteon(channel, note.pitch, note.velocity)
            else:
                self._synth.noteoff(channel, note.pitch)
        pieces.append(self._samples(max(round(seconds * SAMPLE_RATE) - now, 0)))
        self._silence(channel)
        return np.concatenate(pieces, axis=1)

    def _silence(self, channel: int) -> None:
        self._synth.cc(channel, 120, 0)  # all sound off
        for _ in range(100):
            if not self._n_active(self._synth.synth):
                return
            self._samples(64)

    def close(self) -> None:
        self._synth.delete()
