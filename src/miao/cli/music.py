"""`miao learn` and `miao room learn` from recordings of music: pairs, notes that are missing, the report."""

from pathlib import Path
from typing import TYPE_CHECKING

from miao.cli.terminal import clock, numbers, progress, say
from miao.errors import ConfigError, MiaoError

if TYPE_CHECKING:
    from miao.midi.score import Score
    from miao.training.music_voice import MusicVoice, Performance

Pair = tuple[Path, Path | None]


def pairs(source: Path, midi: list[Path], more: list[Path], *, is_alone: bool) -> list[Pair]:
    """Recordings of music and their notes; nothing where the source holds single notes. A recording whose notes are not
    given stands alone. Raises: MiaoError if there are more MIDI files than recordings."""
    from miao.datasets.samples import SOUND_SUFFIXES
    from miao.datasets.voice_sources import pairs_in

    if source.is_dir():
        if midi or more:
            raise MiaoError("--midi and --more go with a recording; in a folder, each MIDI file is called as its sound")
        return [] if is_alone else list(pairs_in(source))
    sounds = [source, *more]
    if source.suffix.lower() not in SOUND_SUFFIXES:
        return []
    if midi and len(midi) != len(sounds):
        raise MiaoError(f"{len(sounds)} recordings and {len(midi)} MIDI files; give --midi once for each")
    return list(zip(sounds, midi, strict=True)) if midi else [(sound, None) for sound in sounds]


def room_target(name: str, folder: Path | None, *, output: Path | None = None, force: bool) -> Path:
    """Where a learnt room goes. Raises: ConfigError if it is there and not to be overwritten."""
    from miao.sound.rooms import SUFFIX, check_room_name, rooms_folder

    target = output or (folder or rooms_folder()) / f"{check_room_name(name)}{SUFFIX}"
    if target.exists() and not force:
        raise ConfigError(f"{target} exists; overwrite it with --force")
    return target


def learnt(
    found: list[Pair], name: str, about: dict[str, str], *, bank: str, like: int | None, tracks: str | None,
    seconds: float, steps: int | None,
) -> "MusicVoice":  # fmt: skip
    """The voice and the room of some recordings. Raises: MiaoError."""
    from dataclasses import replace

    from miao.bank.bank import Bank
    from miao.training.learn_music import MusicConfig
    from miao.training.music_voice import LONGEST_SECONDS, learn_music

    performances, left = [], LONGEST_SECONDS
    for sound, midi in found:
        if left < 5:
            say(f"{sound}: left out; {clock(LONGEST_SECONDS)} of music are enough")
            continue
        performances.append(_performance(sound, midi, tracks, min(seconds, left)))
        left -= performances[-1].audio.duration
    config = MusicConfig() if steps is None else replace(MusicConfig(), steps=steps)
    with progress("learning") as tell:
        made = learn_music(
            Bank.load(bank),
            performances,
            name,
            about,
            like=None if like is None else like - 1,
            config=config,
            tell=tell,
        )
    for remark in made.remarks:
        say(remark)
    return made


def learn(
    found: list[Pair], name: str, about: dict[str, str], target: Path, room_path: Path, *, bank: str, like: int | None,
    tracks: str | None, seconds: float, steps: int | None, listen: Path | None, force: bool,
) -> None:  # fmt: skip
    """Learn from recordings of music, write voice and room, and print the report."""
    from miao.sound.rooms import save_room

    made = learnt(found, name, about, bank=bank, like=like, tracks=tracks, seconds=seconds, steps=steps)
    made.voice.save(target)
    if made.room is not None:
        save_room(
            room_path, made.room, {"name": room_path.stem, "origin": f"learnt from {found[0][0].name}"}, force=force
        )
    print_report(made, name)
    if listen is not None:
        say("--listen: clips are written for single notes only; render the piece with --voice and --room to compare")
    say(f"{target}" + (f" and {room_path}" if made.room else "") + f": learnt in {made.seconds / 60:.1f} min")


def print_report(made: "MusicVoice", name: str) -> None:
    """The held-out figures."""
    scores = made.scores
    print(f"log-mel error of {clock(scores.seconds)} held out, dB:")
    print(f"  {made.voice.about['set_out_from']}, with one gain   {scores.one_gain:6.2f}")
    print(f"  the same in the room learnt, filtered   {scores.room:6.2f}")
    print(f"  {name:40}{scores.all:6.2f}")
    if made.room is not None:
        print(f"room: {made.room.t60_seconds:.2f} s at 1 kHz, {made.fit.room_db[3:5].mean():+.1f} dB beside the notes")


def _performance(sound: Path, midi: Path | None, tracks: str | None, seconds: float) -> "Performance":
    from miao.midi.score import read_score
    from miao.training.music_voice import read_performance

    score = _transcribed(sound, seconds) if midi is None else read_score(midi)
    if tracks is not None:
        places = [number - 1 for number in numbers(tracks)]
        wrong = [place + 1 for place in places if not 0 <= place < len(score.tracks)]
        if wrong:
            raise MiaoError(f"{midi}: there is no track {wrong[0]}; it has tracks 1 to {len(score.tracks)}")
    else:
        places = [place for place, track in enumerate(score.tracks) if not track.notes["is_drum"].all()]
    if not any(len(score.tracks[place].notes) for place in places):
        raise MiaoError(f"{midi or sound}: holds no pitched notes; drums cannot be learnt from music yet")
    return read_performance(sound, score, places, seconds)


def _transcribed(sound: Path, seconds: float) -> "Score":
    """The notes that a transcriber hears in a recording."""
    import numpy as np

    from miao.datasets.annotations import as_score, as_track
    from miao.evaluation.recordings import VELOCITY, as_notes
    from miao.evaluation.transcription import BasicPitch
    from miao.sound.audio import read_audio

    audio = read_audio(sound, seconds)
    heard = BasicPitch(n_threads=1)(audio.samples, audio.sample_rate)
    if not len(heard):
        raise MiaoError(f"{sound}: no notes are heard in it; give them with --midi")
    say(f"{sound}: no --midi; learnt from {len(heard)} notes as {BasicPitch.name} hears them, all of one strength")
    notes = as_notes(heard["start"], heard["end"], heard["pitch"], np.full(len(heard), VELOCITY), 0)
    return as_score([as_track("Heard", 0, notes)])
