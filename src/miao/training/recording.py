"""`learn_recording`: from sound files and their MIDI files to voices and a room, in one call."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from miao.bank.bank import Bank
from miao.bank.learnt_voice import check_name
from miao.errors import DataError, ScoreError
from miao.midi.score import Score, read_score
from miao.training.music_voice import LearntRecording, learn_music
from miao.training.performances import LONGEST_SECONDS, SHORTEST_SECONDS, Performance, read_performance

Path_ = str | Path


def learn_recording(
    sound: Path_ | Sequence[Path_],
    midi: Path_ | Score | Sequence[Path_ | Score],
    *,
    name: str,
    tracks: Sequence[int] | None = None,
    like: int | None = None,
    drums: bool = False,
    seconds: float = 300.0,
    bank: str | Path | Bank = "gm",
    work: str | Path | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> LearntRecording:
    """The voices of a recording and the room that it was made in, from the sound and the notes that are played in it.

    sound, midi  a recording and its MIDI file (or `Score`), or several of the same instruments, one beside the other
    name         of the voice; where several instruments are learnt, the program's name is added
    tracks       which tracks are learnt, as `miao info` numbers them, from 1; all by default
    like         one voice for all these tracks, from this program (1 to 128) on, whatever the file asks for; not drums
    drums        these tracks are drums, whatever the file says
    seconds      of each recording, from its beginning; half an hour of all is the most
    work         a folder in which the fit is kept while it is made: the same call goes on where it was stopped
    on_progress  called with the part that is done, 0 to 1

    `LearntRecording.save` puts voices and room among your own; both can be given to `Synthesizer.render` as they are.

    Raises: DataError if the notes are not what is played, or there is too little to learn from; AudioError or
    ScoreError if a file cannot be read; ModuleNotFoundError without torch.
    """
    sounds = [sound] if isinstance(sound, str | Path) else list(sound)
    songs = [midi] if isinstance(midi, str | Path | Score) else list(midi)
    if len(sounds) != len(songs):
        raise DataError(f"{len(sounds)} recordings and {len(songs)} MIDI files; give one for each")
    if like is not None and not 1 <= like <= 128:
        raise DataError(f"like is {like}; programs go from 1 to 128")
    performances, left_out = performed(
        [(Path(s), m if isinstance(m, Score) else read_score(m)) for s, m in zip(sounds, songs, strict=True)],
        tracks, seconds, like=like, drums=drums,
    )  # fmt: skip
    made = learn_music(
        bank if isinstance(bank, Bank) else Bank.load(bank), performances, check_name(name),
        {"source": performances[0].name}, like=None if like is None else like - 1,
        work=None if work is None else Path(work), tell=on_progress or (lambda done: None),
    )  # fmt: skip
    return made.with_remarks(left_out)


def performed(
    pairs: Sequence[tuple[Path, Score]], tracks: Sequence[int] | None, seconds: float, *, like: int | None = None,
    drums: bool = False,
) -> tuple[list[Performance], list[str]]:  # fmt: skip
    """The recordings as they will be learnt from, half an hour of them, and what is to be said of those left out;
    ``like`` and ``drums`` as in `learn_recording`.

    Raises: ScoreError if there is no such track; DataError as `read_performance` does, or if ``like`` is given and all
    notes are drums'.
    """
    if drums and like is not None:
        raise DataError("drums set out from the standard kit, not from a program; give one of like and drums")
    found, remarks, left = [], [], LONGEST_SECONDS
    for sound, score in pairs:
        if left < SHORTEST_SECONDS:
            remarks.append(f"{sound.name}: left out; {LONGEST_SECONDS / 60:.0f} minutes of music are enough")
            continue
        places = chosen(score, tracks, sound, like)
        score = as_drums(score, places) if drums else score
        found.append(read_performance(sound, score, places, min(seconds, left), like))
        left -= found[-1].audio.duration
    return found, remarks


def as_drums(score: Score, places: Sequence[int]) -> Score:
    """The score with all notes of some tracks those of a drum kit, as where they lie on channel 10."""
    tracks = list(score.tracks)
    for place in places:
        notes = tracks[place].notes.copy()
        notes["is_drum"], notes["program"], notes["bank"] = True, 0, 0
        tracks[place] = replace(tracks[place], notes=notes)
    return replace(score, tracks=tuple(tracks))


def chosen(score: Score, tracks: Sequence[int] | None, sound: Path, like: int | None = None) -> list[int]:
    """Places of the tracks to be learnt: those wanted (from 1), or all; with ``like`` those with pitched notes.

    Raises: ScoreError if there is no such track; DataError if none is left.
    """
    if tracks is not None:
        wrong = [number for number in tracks if not 1 <= number <= len(score.tracks)]
        if wrong:
            raise ScoreError(
                f"there is no track {wrong[0]}; the notes of {sound} are in tracks 1 to {len(score.tracks)}"
            )
        places = [number - 1 for number in tracks]
    else:
        places = list(range(len(score.tracks)))
    if like is None:
        return places
    pitched = [place for place in places if not score.tracks[place].notes["is_drum"].all()]
    if not pitched:
        raise DataError(f"{sound}: there are no pitched notes to learn; a drum kit sets out from no program")
    return pitched
