"""Songs that clients have brought: the score, what the page shows of it, and who they belong to."""

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miao.midi.general_midi import GM_DRUM_KITS
from miao.midi.score import Score, read_score
from miao.sound.rooms import NO_ROOM, room_paths
from miao.synth.arrangement import Arrangement
from miao.web.guard import Refusal
from miao.web.limits import Limits

EXAMPLES = Path(__file__).parent / "page" / "examples"
MOST_DRAWN = 20_000  # notes that are sent for one stretch of the roll
DRAWN = np.dtype([("start", "<f4"), ("end", "<f4"), ("track", "<u2"), ("pitch", "u1"), ("velocity", "u1")])
N_COLUMNS = 1200  # of the roll as a whole,
N_ROWS = 128
KNOTS = 512  # of the clock


def clock_of(arrangement: Arrangement) -> tuple[float | str, ...]:
    """What decides when the notes of an arrangement are heard."""
    a = arrangement
    return a.tempo, a.expression, a.mood, a.valence, a.arousal


@dataclass(eq=False)
class Song:
    """A song as it came, and what was worked out for the arrangement played last."""

    key: str  # nobody guesses it
    name: str
    data: bytes
    score: Score
    owner: str  # a session, or "" for who has no page
    touched: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._played: OrderedDict[tuple[float | str, ...], Score] = OrderedDict()

    @property
    def seconds(self) -> float:
        """Its length."""
        return max(self.score.end, self.score.duration)

    def played(self, arrangement: Arrangement) -> Score:
        """`Arrangement.played`, remembered: expression takes its time."""
        key = clock_of(arrangement)
        with self._lock:
            if key not in self._played:
                self._played[key] = arrangement.played(self.score)
                while len(self._played) > 3:
                    self._played.popitem(last=False)
            self._played.move_to_end(key)
            return self._played[key]

    def clock(self, arrangement: Arrangement) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Moments of the song, and when they are heard as arranged, both rising; straight lines between."""
        played = self.played(arrangement)
        end = max(played.end, played.duration)
        if played is self.score or not (arrangement.expression or arrangement.mood or arrangement.valence
                                        or arrangement.arousal):  # fmt: skip
            return np.array([0.0, self.seconds]), np.array([0.0, end])
        before = np.concatenate([track.notes["start"] for track in self.score.tracks])
        after = np.concatenate([track.notes["start"] for track in played.tracks])
        before, first = np.unique(before, return_index=True)
        after = np.maximum.accumulate(after[first])
        chosen = np.unique(np.linspace(0, len(before) - 1, KNOTS).astype(int))
        before = np.concatenate([[0.0], before[chosen], [self.seconds]])
        after = np.concatenate([[0.0], after[chosen], [max(end, after[-1])]])
        keep = np.append(True, np.diff(before) > 1e-3)
        return before[keep], np.maximum.accumulate(after[keep])

    def about(self) -> dict[str, Any]:
        """What the page is told."""
        tracks = []
        for number, (track, told) in enumerate(zip(self.score.tracks, self.score.describe(), strict=True), start=1):
            first = track.notes[0]
            tracks.append({
                "number": number, "name": told.name, "channel": told.channel + 1,
                "instrument": ", ".join(told.programs),
                "is_drum": bool(first["is_drum"]), "program": int(first["program"]) + (not first["is_drum"]),
                "notes": told.n_notes, "lowest": told.lowest, "highest": told.highest,
                "pan": round(float(track.controls["pan"].at(float(first["start"]))), 3),
                "volume": round(float(track.controls["volume"].at(float(first["start"]))), 3),
            })  # fmt: skip
        return {
            "song": self.key, "name": self.name, "seconds": round(self.seconds, 3), "notes": self.score.n_notes,
            "tracks": tracks, "warnings": [*self.score.warnings], "ignored": [*self.score.ignored],
        }  # fmt: skip

    def drawn(self, start: float, end: float) -> bytes:
        """The notes that sound in a stretch, `DRAWN`; where there are too many, those that are seen: one for each
        pitch, track and two-thousandth of the stretch, or less of it if they are still too many."""
        found = []
        for number, track in enumerate(self.score.tracks):
            notes = track.notes
            inside = notes[(notes["start"] < end) & (np.maximum(notes["end"], notes["start"]) >= start)]
            some = np.zeros(len(inside), DRAWN)
            for name in ("start", "end", "pitch", "velocity"):
                some[name] = inside[name]
            some["track"] = number
            found.append(some)
        notes = np.concatenate(found)
        n_columns = 2000
        while len(notes) > MOST_DRAWN and n_columns:
            columns = np.floor((notes["start"] - start) / max(end - start, 1e-9) * n_columns).astype(np.int64)
            _, first = np.unique((columns * 128 + notes["pitch"]) * 65536 + notes["track"], return_index=True)
            notes = notes[np.sort(first)]
            n_columns //= 2
        return notes.tobytes()

    def picture(self) -> bytes:
        """The whole roll as u1[128 pitches, 1200 columns]: 0 where nothing sounds, else 1 + the track modulo 16."""
        image = np.zeros((N_ROWS, N_COLUMNS), np.uint8)
        scale = N_COLUMNS / max(self.seconds, 1e-9)
        for number, track in enumerate(self.score.tracks):
            notes = track.notes
            first = np.clip((notes["start"] * scale).astype(int), 0, N_COLUMNS - 1)
            last = np.clip((notes["end"] * scale).astype(int), first, N_COLUMNS - 1)
            edges = np.zeros((N_ROWS, N_COLUMNS + 1), np.int64)
            np.add.at(edges, (notes["pitch"], first), 1)
            np.add.at(edges, (notes["pitch"], last + 1), -1)
            image[np.cumsum(edges, axis=1)[:, :-1] > 0] = 1 + number % 16
        return image.tobytes()


class Songs:
    """All songs of a server, each with its owner."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._songs: dict[str, Song] = {}

    def __len__(self) -> int:
        return len(self._songs)

    def add(self, name: str, data: bytes, owner: str) -> Song:
        """A song from the bytes of a file. Raises: ScoreError or Refusal, in one line."""
        score = read_score(data)
        if score.n_notes > self._limits.notes:
            raise Refusal(f"the song has {score.n_notes:,} notes; {self._limits.notes:,} are the most", 413)
        if max(score.end, score.duration) > self._limits.seconds:
            raise Refusal(f"the song lasts longer than {self._limits.seconds / 3600:g} hours, the most", 413)
        song = Song(secrets.token_urlsafe(16), name, data, score, owner)
        mine = [other for other in self._songs.values() if other.owner == owner]
        most = self._limits.songs if owner else self._limits.idle_songs
        for old in sorted(mine, key=lambda other: other.touched)[: max(len(mine) - most + 1, 0)]:
            self._songs.pop(old.key, None)
        self._songs[song.key] = song
        return song

    def get(self, key: Any) -> Song:
        """A song by its key. Raises: Refusal."""
        song = self._songs.get(key) if isinstance(key, str) else None
        if song is None:
            raise Refusal("there is no such song any more; open it again", 404)
        song.touched = time.monotonic()
        return song

    def remove(self, song: Song) -> None:
        """A song is not wanted any more."""
        self._songs.pop(song.key, None)

    def forget(self, owner: str) -> None:
        """A client is gone: its songs are, too."""
        for key in [key for key, song in self._songs.items() if song.owner == owner]:
            del self._songs[key]

    def sweep(self) -> None:
        """Forgets songs without a page that nobody has asked for lately."""
        before = time.monotonic() - self._limits.idle_seconds
        for key in [key for key, song in self._songs.items() if not song.owner and song.touched < before]:
            del self._songs[key]


def wished(told: Any) -> Arrangement:
    """An arrangement as a client says it, whose room is one that has a name: never a file. Raises: MiaoError."""
    arrangement = Arrangement.of(told)
    names = [*room_paths(), NO_ROOM]
    if arrangement.room and arrangement.room not in names:
        raise Refusal(f'no room "{arrangement.room[:60]}"; there are {", ".join(names)}')
    return arrangement


@lru_cache(maxsize=1)
def examples() -> dict[str, str]:
    """The songs that come with the page, by file name, and what they are called."""
    return {path.stem: path.stem.replace("_", " ").capitalize() for path in sorted(EXAMPLES.glob("*.mid"))}


def kits() -> dict[int, str]:
    """The drum kits by their numbers."""
    return {number: name for number, name in GM_DRUM_KITS.items() if number != 56}
