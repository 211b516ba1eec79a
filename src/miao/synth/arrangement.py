"""What a listener changes about a song: instruments, faders, tempo, pitch, expression, room; one thing for the page,
Python and `miao render --arrangement`.

An arrangement makes another score, and settings to play it with; whoever plays these, live or into a file, plays the
same. It is JSON on the outside, of which only what differs need be said:

{"tempo": 0.8, "room": "church", "tracks": {"1": {"program": 41, "volume_db": -6}, "2": {"muted": true}}}
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from miao.bank.learnt_voice import LearntVoice, find_voice
from miao.config import Range, from_table
from miao.errors import ConfigError
from miao.expression import expressed
from miao.files import reason
from miao.midi.score import Curve, Score, Track
from miao.synth.settings import Cast, PlaySettings

SLOWEST, FASTEST = 0.25, 2.0
QUIETEST_DB, LOUDEST_DB = -60.0, 6.0
MOST_SEMITONES = 24
MOST_TRACKS = 4096

FindVoice = Callable[[str], LearntVoice]


@dataclass(frozen=True)
class TrackChanges:
    """What is changed about one track; of program, kit and voice one at the most."""

    program: Annotated[int, Range(0, 128)] = 0  # General MIDI, 1 to 128, all its notes; 0: as the song has it
    variation: Annotated[int, Range(0, 127)] = 0  # of that program, as GS numbers them; 0: the program itself
    kit: Annotated[int, Range(-1, 127)] = -1  # the same of a drum kit, 0 to 127; -1: as the song has it
    voice: str = ""  # a learnt voice
    volume_db: Annotated[float, Range(QUIETEST_DB, LOUDEST_DB)] = 0.0  # beside what the song's faders say
    pan: Annotated[float, Range(-2, 1)] = -2.0  # -1 left to 1 right throughout; -2: as the song has it
    muted: bool = False
    solo: bool = False  # where any track is, all others are silent


@dataclass(frozen=True)
class Arrangement:
    """How a song is changed. Raises: ConfigError for what is out of range."""

    tempo: Annotated[float, Range(SLOWEST, FASTEST)] = 1.0  # 1 is the song's
    transpose: Annotated[int, Range(-MOST_SEMITONES, MOST_SEMITONES)] = 0  # semitones; not of drums
    room: str = ""  # a room's name, "none", or as the song asks
    wet: Annotated[float, Range(0, 4)] = 1.0  # how much of it
    loudness: Annotated[float, Range(-60, -5)] = -16.0  # LUFS
    expression: Annotated[float, Range(0, 2)] = 0.0
    mood: str = ""
    valence: Annotated[float, Range(-1, 1)] = 0.0
    arousal: Annotated[float, Range(-1, 1)] = 0.0
    tracks: Mapping[int, TrackChanges] = field(default_factory=dict)  # by number, from 1

    @classmethod
    def of(cls, source: Any) -> "Arrangement":
        """From what JSON says. Raises: ConfigError, which names what does not fit."""
        if not isinstance(source, dict):
            raise ConfigError('an arrangement is a JSON object, such as {"tempo": 0.8}')
        table = dict(source)
        listed = table.pop("tracks", {})
        if not isinstance(listed, dict) or len(listed) > MOST_TRACKS:
            raise ConfigError('"tracks" is an object of tracks by number, such as {"1": {"muted": true}}')
        tracks = {}
        for number, changes in listed.items():
            if not str(number).isdecimal() or not isinstance(changes, dict):
                raise ConfigError(f'"tracks" has {str(number)[:20]!r}; tracks are objects by number, from 1')
            made = from_table(TrackChanges, changes, f"tracks.{number}.")
            if (made.program > 0) + (made.kit >= 0) + bool(made.voice) > 1:
                raise ConfigError(f"track {number} is given several instruments; give one of program, kit and voice")
            if made.variation and not made.program:
                raise ConfigError(f"track {number} is given a variation of no program; give its program, too")
            tracks[int(number)] = made
        return replace(from_table(_Plain, table).arrangement(), tracks=tracks)

    @classmethod
    def load(cls, path: str | Path) -> "Arrangement":
        """From a file. Raises: ConfigError if it cannot be read or does not fit."""
        try:
            return cls.of(json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {reason(error)}") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not JSON ({error})") from None

    def is_heard(self, number: int) -> bool:
        """Whether a track is neither muted nor silent because others play alone."""
        changes = self.tracks.get(number, AS_IT_IS)
        any_alone = any(other.solo for other in self.tracks.values())
        return changes.solo if any_alone else not changes.muted

    def played(self, score: Score) -> Score:
        """All tracks of the song with expression and at its tempo, but none changed: what its clock is."""
        if self.expression or self.mood or self.valence or self.arousal:
            score = expressed(
                score, self.expression, mood=self.mood or None, valence=self.valence, arousal=self.arousal
            )
        return score if self.tempo == 1 else slowed(score, self.tempo)

    def score(self, score: Score, played: Score | None = None) -> Score:
        """The score to play: only the tracks that are heard, changed. ``played`` is `played`'s, if it is known.

        Notes that transposing takes out of MIDI's range are left out. Raises: ConfigError if there is no such track, or
        none is heard.
        """
        wrong = [number for number in self.tracks if not 1 <= number <= len(score.tracks)]
        if wrong:
            raise ConfigError(f"there is no track {wrong[0]}; the song has tracks 1 to {len(score.tracks)}")
        done = self.played(score) if played is None else played
        heard = [number for number in range(1, len(score.tracks) + 1) if self.is_heard(number)]
        if not heard:
            raise ConfigError("all tracks are muted; nothing is heard")
        if len(heard) < len(score.tracks):
            done = done.select([number - 1 for number in heard])
        changed = [_changed(t, self.tracks[n]) if n in self.tracks else t
                   for n, t in zip(heard, done.tracks, strict=True)]  # fmt: skip
        if any(new is not old for new, old in zip(changed, done.tracks, strict=True)):
            done = replace(done, tracks=tuple(changed))
        return _transposed(done, self.transpose) if self.transpose else done

    def cast(self, score: Score, find: FindVoice = find_voice) -> Cast | None:
        """The learnt voices, by the number that their track has in `score`. Raises: BankError if there is no such."""
        heard = [number for number in range(1, len(score.tracks) + 1) if self.is_heard(number)]
        named = {place: self.tracks[number].voice for place, number in enumerate(heard, start=1)
                 if number in self.tracks and self.tracks[number].voice}  # fmt: skip
        return {place: find(name) for place, name in named.items()} or None

    def settings(
        self, score: Score, settings: PlaySettings | None = None, find: FindVoice = find_voice
    ) -> PlaySettings:
        """The settings to play what `score` gives. Raises: BankError if there is no such voice."""
        return replace(
            settings or PlaySettings(), room=self.room or None, wet=self.wet, loudness=self.loudness,
            voices=self.cast(score, find),
        )  # fmt: skip

    @property
    def changes_notes(self) -> bool:
        """Whether anything is changed that a MIDI file can say."""
        return replace(self, room="", wet=1.0, loudness=-16.0) != Arrangement()


AS_IT_IS = TrackChanges()


@dataclass(frozen=True)
class _Plain:
    """All of an arrangement but its tracks."""

    tempo: Annotated[float, Range(SLOWEST, FASTEST)] = 1.0
    transpose: Annotated[int, Range(-MOST_SEMITONES, MOST_SEMITONES)] = 0
    room: str = ""
    wet: Annotated[float, Range(0, 4)] = 1.0
    loudness: Annotated[float, Range(-60, -5)] = -16.0
    expression: Annotated[float, Range(0, 2)] = 0.0
    mood: str = ""
    valence: Annotated[float, Range(-1, 1)] = 0.0
    arousal: Annotated[float, Range(-1, 1)] = 0.0

    def arrangement(self) -> Arrangement:
        return Arrangement(**vars(self))


def slowed(score: Score, tempo: float) -> Score:
    """The score at another tempo, all of it: 0.5 takes twice as long."""
    factor = 1 / tempo
    tracks = []
    for track in score.tracks:
        notes, pressure = track.notes.copy(), track.key_pressure.copy()
        for name in ("start", "end", "damp", "cut", "glide_seconds"):
            notes[name] *= factor
        pressure["time"] *= factor
        controls = {name: replace(curve, times=curve.times * factor) for name, curve in track.controls.items()}
        tracks.append(replace(track, notes=notes, controls=controls, key_pressure=pressure))
    tempi = Curve(score.tempi.times * factor, score.tempi.values * tempo, score.tempi.initial * tempo)
    meters = tuple(replace(meter, time=meter.time * factor) for meter in score.meters)
    return replace(
        score, tracks=tuple(tracks), duration=score.duration * factor, end=score.end * factor, tempi=tempi,
        meters=meters,
    )  # fmt: skip


def _changed(track: Track, changes: TrackChanges) -> Track:
    """The track with another instrument (learnt voices come by the settings) and other faders."""
    notes, controls = track.notes, track.controls
    if changes.program or changes.kit >= 0:
        notes = notes.copy()
        notes["is_drum"] = changes.kit >= 0
        notes["program"] = changes.kit if changes.kit >= 0 else changes.program - 1
        notes["bank"] = 128 * changes.variation
    if changes.volume_db:
        factor = 10 ** (changes.volume_db / 40)  # a fader's gain is its square
        volume = controls["volume"]
        controls = controls | {"volume": Curve(volume.times, volume.values * factor, volume.initial * factor)}
    if changes.pan >= -1:
        controls = controls | {"pan": Curve(np.zeros(0), np.zeros(0), changes.pan)}
    return track if notes is track.notes and controls is track.controls else replace(
        track, notes=notes, controls=controls
    )  # fmt: skip


def _transposed(score: Score, semitones: int) -> Score:
    """The score moved, without the notes that would leave the keys; tracks stay, be they empty."""
    tracks = []
    for track in score.tracks:
        moved = track.notes["pitch"] + semitones
        stays = track.notes["is_drum"] | ((moved >= 0) & (moved <= 127))
        notes = track.notes[stays].copy()
        pitched = ~notes["is_drum"]
        notes["pitch"][pitched] += semitones
        pressure = track.key_pressure.copy()
        if pitched.any():
            pressure["pitch"] = np.clip(pressure["pitch"] + semitones, 0, 127)
        order = np.lexsort((notes["pitch"], notes["start"]))
        tracks.append(replace(track, notes=notes[order], key_pressure=pressure))
    if not any(len(track.notes) for track in tracks):
        raise ConfigError(f"transposed by {semitones}, all notes leave the keys that there are")
    return replace(score, tracks=tuple(tracks))
