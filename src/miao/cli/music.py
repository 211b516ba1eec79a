"""`miao learn` and `miao room learn` from recordings of music: pairs, notes that are missing, the report."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from miao.cli.terminal import clock, numbers, progress, say
from miao.errors import BankError, ConfigError, MiaoError

if TYPE_CHECKING:
    from miao.midi.score import Score
    from miao.training.listening import Player, Players
    from miao.training.music_voice import LearntRecording

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
    seconds: float, steps: int | None, drums: bool = False, work: Path | None = None, players: "Players | None" = None,
    check: Callable[[list[str]], None] = lambda names: None,
) -> "LearntRecording":  # fmt: skip
    """The voices and the room of some recordings; ``check`` is asked whether the voices may be called so before they
    are learnt. Raises: MiaoError."""
    from dataclasses import replace

    from miao.bank.bank import Bank
    from miao.training.music_model import MusicConfig
    from miao.training.music_voice import learn_music, programs_of, voice_names
    from miao.training.recording import performed

    scores = [(sound, _score(sound, midi, seconds)) for sound, midi in found]
    performances, left_out = performed(
        scores, None if tracks is None else numbers(tracks), seconds, like=like, drums=drums
    )
    from_program = None if like is None else like - 1
    names = voice_names(name, programs_of(performances, from_program))
    check(names)
    if len(names) > 1:
        say(f"{len(names)} voices are learnt: {', '.join(names)}")
    config = MusicConfig() if steps is None else replace(MusicConfig(), steps=steps)
    try:
        with progress("learning") as tell:
            made = learn_music(Bank.load(bank), performances, name, about, like=from_program, config=config, work=work,
                               players=players, tell=tell)  # fmt: skip
    except KeyboardInterrupt:
        if work is not None and work.is_dir():
            say("stopped; the same command goes on from here")
        raise
    made = made.with_remarks(left_out)
    for remark in made.remarks:
        say(remark)
    return made


def learn(
    found: list[Pair], name: str, about: dict[str, str], folder: Path, output: Path | None, room_path: Path, *,
    bank: str, like: int | None, drums: bool, tracks: str | None, seconds: float, steps: int | None,
    listen: Path | None, beside: list[Path], force: bool,
) -> None:  # fmt: skip
    """Learn from recordings of music, write voices and room, and print the report."""
    from miao.bank.learnt_voice import SUFFIX
    from miao.files import make_folder
    from miao.sound.rooms import save_room

    def check(names: list[str]) -> None:
        if output is not None and len(names) > 1:
            raise BankError(
                f"{output} is one file for {len(names)} voices; leave --output out, or choose with --tracks"
            )
        for path in [output] if output is not None else [folder / f"{called}{SUFFIX}" for called in names]:
            if path.exists() and not force:
                raise BankError(f"{path} exists; --force overwrites it")

    made = learnt(found, name, about, bank=bank, like=like, drums=drums, tracks=tracks, seconds=seconds, steps=steps,
                  check=check, work=folder / f".{name}.learning", players=players_of(beside))  # fmt: skip
    if output is None:
        written = made.save(folder, room_path.parent, room_name=room_path.stem, force=force)
    else:
        made.voice.save(output, force=force)
        written = [output]
        if made.room is not None:
            save_room(room_path, made.room, {"name": room_path.stem, "origin": made.origin}, force=force)
            written.append(room_path)
    print_report(made)
    if listen is not None:
        make_folder(listen, MiaoError)
        for take, audio in made.takes.sounds.items():
            audio.save(listen / f"{take}.wav", force=True)
        say(f"{listen}: {', '.join(f'{take}.wav' for take in made.takes.sounds)}")
    say(f"{', '.join(map(str, written))}: learnt in {made.seconds / 60:.1f} min")


def players_of(sound_banks: list[Path]) -> "Players":
    """Samplers by the names of their sound banks. Raises: DataError if one cannot be opened."""
    from miao.evaluation.sampler import Sampler

    def player(sampler: Sampler) -> "Player":
        return lambda score, seconds: sampler.stems(score, seconds).sum(axis=0)

    return {path.name: player(Sampler(path)) for path in sound_banks}


def print_report(made: "LearntRecording") -> None:
    """The held-out figures."""
    scores, names = made.scores, " + ".join(voice.name for voice in made.voices)
    start = " + ".join(voice.about["set_out_from"] for voice in made.voices)
    width = max(len(names), len(start), 40)
    print(f"log-mel error of {clock(scores.seconds)} held out, by the fit, dB:")
    print(f"  {start:{width}}{scores.one_gain:6.2f}   (dry, with one gain)")
    print(f"  {'the same in the room learnt, filtered':{width}}{scores.room:6.2f}")
    print(f"  {names:{width}}{scores.all:6.2f}")
    if made.takes.errors:
        print(f"{made.takes.seconds:.0f} s of it rendered, each at its best gain, dB:")
        words = {"before": "the program, dry", "before-in-room": "the program in the room learnt", "after": names}
        for take, error in made.takes.errors.items():
            print(f"  {words.get(take, take):{width}}{error:6.2f}")
    if len(made.voices) > 1:
        for voice, gain in zip(made.voices, made.fit.gains_db, strict=True):
            print(f"{voice.name}: {gain:+.1f} dB in the mix")
    if made.room is not None:
        print(f"room: {made.room.t60_seconds:.2f} s at 1 kHz, {made.fit.room_db[3:5].mean():+.1f} dB beside the notes")
    for place, number in sorted(made.places.items()):
        print(f"  --voice {place + 1}={made.voices[number].name}", end="\n" if place == max(made.places) else "")


def _score(sound: Path, midi: Path | None, seconds: float) -> "Score":
    from miao.midi.score import read_score

    return _transcribed(sound, seconds) if midi is None else read_score(midi)


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
