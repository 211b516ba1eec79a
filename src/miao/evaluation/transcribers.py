"""Transcribers that are programs of their own.

| transcriber | hears | how | licence |
|---|---|---|---|
| transcription.BasicPitch | notes of any pitched instrument | from the graph in its package | Apache-2.0 |
| harmonica() | the same, more exactly | the command `harmonica-amt`, if you have installed it | none declared |
| CommandTranscriber | whatever it hears: MT3 tells programs and drums | any command that writes a MIDI file | its own |

There is no adapter that loads MT3's weights: they are released as a T5X checkpoint and run in JAX with their own
library, which is more than this package should know. A script of yours that takes a sound file and writes a MIDI file
is enough:

>>> mt3 = CommandTranscriber("python my_mt3.py {audio} {midi}", "mt3")
>>> mt3(audio.samples, audio.sample_rate)  # doctest: +SKIP
"""

import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from miao.arrays import Reals, Records
from miao.errors import ConfigError, DataError, ScoreError
from miao.evaluation.transcription import ATTRIBUTED, score_notes
from miao.midi.events import NOTE_ON
from miao.midi.file import parse_midi_file
from miao.midi.score import read_score
from miao.sound.audio import Audio

HARMONICA_SIZES = ("nano", "small", "medium", "large", "x-large")
LONGEST_SECONDS = 3600.0  # that a command may take


@dataclass(frozen=True)
class CommandTranscriber:
    """A program that is given a WAV file and writes a MIDI file.

    command  its words, with {audio} and {midi} for the two files; quotes as in a shell, but no shell runs it
    name     of the transcriber; "" for the first word

    Pedals and drum channels in the MIDI file count as in any score. Raises: ConfigError if one of the files is not in
    the command.
    """

    command: str
    name: str = ""
    seconds: float = LONGEST_SECONDS  # after which it has failed

    def __post_init__(self) -> None:
        for place in ("{audio}", "{midi}"):
            if place not in self.command:
                raise ConfigError(f"{self.command}: says nowhere {place}; for example `transcribe {{audio}} {{midi}}`")
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise ConfigError(f"{self.command}: not a command ({str(error).lower()})") from None
        if not self.name:
            object.__setattr__(self, "name", Path(words[0]).name)

    def __call__(self, samples: Reals, sample_rate: int) -> Records:
        """The notes heard, ATTRIBUTED. Raises: DataError if the command is not there, fails or writes no MIDI file."""
        with tempfile.TemporaryDirectory() as folder:
            audio, midi = Path(folder) / "sound.wav", Path(folder) / "notes.mid"
            Audio(np.atleast_2d(samples), sample_rate).save(audio)
            words = [w.replace("{audio}", str(audio)).replace("{midi}", str(midi)) for w in shlex.split(self.command)]
            try:
                run = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=self.seconds,
                                     stdin=subprocess.DEVNULL, check=False)  # fmt: skip
            except OSError as error:
                raise DataError(f"{words[0]}: cannot be run: {(error.strerror or str(error)).lower()}") from None
            except subprocess.TimeoutExpired:
                raise DataError(f"{words[0]} has not finished after {self.seconds:g} s") from None
            if run.returncode:
                said = [line.strip() for line in (run.stderr or run.stdout).splitlines() if line.strip()]
                raise DataError(f"{words[0]} failed with {run.returncode}: {said[-1] if said else 'no message'}")
            if not midi.is_file():
                raise DataError(f"{words[0]} wrote no MIDI file to the place given as {{midi}}")
            return _midi_notes(midi.read_bytes(), words[0])


def harmonica(size: str = "medium") -> CommandTranscriber:
    """Harmonica-AMT as its package's command runs it (`harmonica-amt`, version 0.3.0 and on).

    It hears pitched notes, all of them as program 0. Its package declares no licence: it is run where you have
    installed it, and is no part of this one. Raises: ConfigError for a size that it does not have.
    """
    if size not in HARMONICA_SIZES:
        raise ConfigError(f"no size {size}; Harmonica has {', '.join(HARMONICA_SIZES)}")
    return CommandTranscriber(f"harmonica-amt {{audio}} -o {{midi}} --model {size}", f"harmonica-amt {size}")


def _midi_notes(data: bytes, command: str) -> Records:
    """All notes of a MIDI file; a sound one without notes is a transcription of silence."""
    try:
        tables = [track.table() for track in parse_midi_file(data, "notes.mid").tracks]
        if not any((table[:, 1] == NOTE_ON).any() for table in tables):
            return np.zeros(0, ATTRIBUTED)
        return score_notes(read_score(data))
    except ScoreError as error:
        raise DataError(f"{command} wrote no readable MIDI file: {error}") from None
