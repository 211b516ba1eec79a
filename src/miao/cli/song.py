"""The commands about one song: `miao render`, which also takes many, `miao info` and `miao plot`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TextIO

import typer

from miao.cli import express as cli_express
from miao.cli import learn as cli_learn
from miao.cli import render_many as cli_many
from miao.cli import room as cli_room
from miao.cli.terminal import clock, count, numbers, progress, say, table
from miao.errors import MiaoError, needs
from miao.files import Json

if TYPE_CHECKING:
    from miao.midi.score import Score, TrackSummary
    from miao.synth.synthesizer import RenderSummary


def _seconds(text: str) -> float:
    """Seconds of "90", "1:30" or "1:02:03.5"."""
    try:
        seconds = 0.0
        for part in str(text).split(":"):
            seconds = 60 * seconds + float(part)
    except ValueError:
        raise typer.BadParameter(f"{text} is no time; say 90 or 1:30") from None
    return seconds


Song = Annotated[str, typer.Argument(metavar="SONG", help="A MIDI file; - is stdin.")]
Songs = Annotated[list[str], typer.Argument(metavar="SONG...", help="MIDI files, or folders of them; - is stdin.")]
Sound = Annotated[Path | None, typer.Argument(metavar="[SOUND]", help="A sound file, to be drawn below the notes.")]
Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is stdout. Default: beside SONG.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite files.")]
Stems = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="A folder for the stems: a file per track, and the room.")
]
Tracks = Annotated[
    list | None,  # type: ignore[type-arg]  # typer would take list[int] for an option that may stand several times
    typer.Option(parser=numbers, metavar="1,3-5", help="Only these tracks, as `miao info` numbers them."),
]
Start = Annotated[
    float, typer.Option("--from", parser=_seconds, metavar="TIME", help="Where an excerpt starts: 90 or 1:30.")
]
End = Annotated[float | None, typer.Option("--to", parser=_seconds, metavar="TIME", help="Where it ends.")]
SampleRate = Annotated[int, typer.Option(metavar="HZ", help="8000 to 192000.")]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Another seed, another take of the same music.")]
Variation = Annotated[float, typer.Option(metavar="X", help="How far repeated notes differ, 0 to 1.")]
LoudnessOption = Annotated[float | None, typer.Option(metavar="LUFS", help="-16 unless --gain is given.")]
Gain = Annotated[float | None, typer.Option(metavar="DB", help="A fixed gain instead of a loudness.")]
Bits = Annotated[str | None, typer.Option(metavar="N", help="16, 24 or float. Default: 16, and 24 with --stems.")]
Format = Annotated[
    str | None, typer.Option(metavar="NAME", help="wav, flac, ogg or mp3. Default: by the name of the output, or wav.")
]
Loop = Annotated[
    bool, typer.Option("--loop", help="End exactly where the piece does; what sounds on is laid over the beginning.")
]
BankOption = Annotated[str, typer.Option("--bank", metavar="NAME", help="The voices: a name, or a folder.")]
ArrangementFile = Annotated[
    Path | None,
    typer.Option("--arrangement", metavar="FILE", help="Instruments, faders, tempo and more, as the page saves them."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs to read.")]


def render(
    songs: Songs,
    output: Output = None,
    stems: Stems = None,
    tracks: Tracks = None,
    start: Start = 0.0,
    end: End = None,
    loop: Loop = False,
    sample_rate: SampleRate = 44_100,
    seed: Seed = 0,
    variation: Variation = 0.0,
    loudness: LoudnessOption = None,
    gain: Gain = None,
    bits: Bits = None,
    format: Format = None,
    bank: BankOption = "gm",
    voice: cli_learn.Parts = None,
    voices: cli_learn.VoicesFolder = None,
    expression: cli_express.Amount = 0.0,
    mood: cli_express.Mood = None,
    valence: cli_express.Valence = 0.0,
    arousal: cli_express.Arousal = 0.0,
    rewrite: cli_express.Rewrite = False,
    rules: cli_express.Rules = False,
    room: cli_room.Room = None,
    t60: cli_room.T60 = None,
    wet: cli_room.Wet = 1.0,
    rooms: cli_room.RoomsFolder = None,
    arrangement: ArrangementFile = None,
    jobs: cli_many.Jobs = None,
    engine: cli_many.Engine = "processes",
    scheduler: cli_many.Scheduler = None,
    force: Force = False,
) -> None:
    """Play a MIDI file into a sound file; several, or folders of them, into a folder.

    \b
    miao render song.mid
    miao render song.mid -o song.flac --stems stems --tracks 1,3 --from 0:30 --to 1:00
    miao render song.mid --voice 1=alto-sax --room church --t60 3
    miao render song.mid --expression 0.7 --mood tender:0.6
    miao render - -o - < song.mid | play -
    miao render songs/ more/*.mid -o rendered/ --jobs 2

    Of several songs, those that are rendered already are not rendered again.
    """
    from dataclasses import replace

    from miao.midi.score import read_score
    from miao.synth.settings import PlaySettings
    from miao.synth.synthesizer import Synthesizer

    if gain is not None and loudness is not None:
        raise typer.BadParameter("--gain and --loudness exclude each other")
    how = cli_express.wishes(expression, mood, valence, arousal, rewrite=rewrite, rules=rules, seed=seed)
    if cli_many.is_many(songs, output):
        if stems is not None or voice or arrangement is not None:
            raise MiaoError("--stems, --voice and --arrangement are for one song at a time")
        settings = {
            "sample_rate": sample_rate, "seed": seed, "variation": variation, "gain_db": gain,
            "loudness": -16.0 if loudness is None else loudness, "start": start, "end": end, "subtype": bits,
            "room": cli_room.place(room, rooms), "t60": t60, "wet": wet,
        } | ({"loop": True} if loop else {})  # fmt: skip
        wishes = {"bank": bank, "settings": settings, "tracks": tuple(tracks or ()), "force": force}
        wishes["expression"] = how
        return cli_many.run(songs, output, format or "wav", wishes, jobs, engine, scheduler)
    song = songs[0]
    score = read_score(_source(song))
    wished = PlaySettings(
        sample_rate, seed, variation, -16.0 if loudness is None else loudness, gain, start, end, loop,
        room=cli_room.place(room, rooms), t60=t60, wet=wet,
    )  # fmt: skip
    if arrangement is not None:
        if tracks or voice or how or room:
            raise MiaoError("--arrangement says which tracks, voices, expression and room; leave the other options out")
        from miao.bank.learnt_voice import find_voice
        from miao.synth.arrangement import Arrangement

        changes = Arrangement.load(arrangement)
        wished = changes.settings(score, wished, lambda name: find_voice(name, voices))
        wished = wished if loudness is None else replace(wished, loudness=loudness)
        score = changes.score(score)
    else:
        if how:  # which most do not ask for
            from miao.expression import expressed

            score = expressed(score, **how)
        score = _chosen(score, tracks)
        wished = replace(wished, voices=cli_learn.cast(voice, tracks, score, voices))
    target = _target(song, output, format or "wav")
    say(f"{song}: {count(len(score.tracks), 'track')}, {count(score.n_notes, 'note')}, {clock(score.duration)}")
    programs = {int(p) for track in score.tracks for p in track.notes["program"][~track.notes["is_drum"]]}
    with progress("rendering") as tell:
        summary = Synthesizer.from_pretrained(bank, programs).render_file(
            score, target, wished, stems_folder=stems, subtype=bits, format=format, force=force, on_progress=tell
        )
    _report(summary, score, song, target)


def info(song: Song, as_json: AsJson = False) -> None:
    """Tell what is in a MIDI file, and what of it will not be heard.

    \b
    miao info song.mid
    miao info song.mid --json
    """
    from miao.midi.score import read_score

    score = read_score(_source(song))
    told = _told(score)
    if as_json:
        print(json.dumps(_as_dict(song, score, told), indent=2, ensure_ascii=False))
        return
    rest = f" and a rest up to {clock(score.end)}" if score.end > score.duration + 0.05 else ""
    print(f"{song}: {clock(score.duration)}{rest}, {count(score.n_notes, 'note')}")
    _print_tracks(score.describe(), sys.stdout)
    if learnt := _learnt(score):
        print(f"learnt from recordings: {', '.join(learnt)} (as the bank was taught: bank select 1)")
    if varied := _variations(score):
        print(f"variations: {', '.join(varied)}")
    for what in told:
        print(f"not as the file asks: {what}")


def plot(song: Song, sound: Sound = None, output: Output = None, force: Force = False) -> None:
    """Draw a MIDI file as a piano roll.

    With a sound file, its spectrogram stands below.

    \b
    miao plot song.mid
    miao plot song.mid song.wav -o picture.png
    """
    needs("plot")
    from miao.midi.score import read_score
    from miao.plot import save_plot
    from miao.sound.audio import read_audio

    score = read_score(_source(song))
    target = _target(song, output, "png")
    save_plot(score, target, audio=None if sound is None else read_audio(sound), title=Path(song).stem, force=force)
    say(target)


def _source(song: str) -> str | BinaryIO:
    return sys.stdin.buffer if song == "-" else song


def _target(song: str, output: str | None, format: str) -> str:
    """Where to write: the output named, or beside the song with another suffix, or stdout if the song is stdin."""
    target = output or ("-" if song == "-" else str(Path(song).with_suffix(f".{format}")))
    if target == "-" and sys.stdout.isatty():
        raise MiaoError("stdout is a terminal; name a file with -o, or pipe the output into a program")
    return target


def _chosen(score: "Score", tracks: list[int] | None) -> "Score":
    for number in tracks or ():
        if not 1 <= number <= len(score.tracks):
            raise MiaoError(f"there is no track {number}; the song has tracks 1 to {len(score.tracks)}")
    return score.select([number - 1 for number in tracks]) if tracks else score


def _print_tracks(tracks: tuple["TrackSummary", ...], file: TextIO) -> None:
    rows = [("", "track", "instrument", "channel", "notes", "pitches", "at once")]
    rows += [
        (str(number), track.name, ", ".join(track.programs), str(track.channel + 1), f"{track.n_notes:,}",
         f"{track.lowest}-{track.highest}", str(track.polyphony))
        for number, track in enumerate(tracks, start=1)
    ]  # fmt: skip
    print(table(rows, left=(1, 2)), file=file)


def _report(summary: "RenderSummary", score: "Score", song: str, target: str) -> None:
    _print_tracks(summary.tracks, sys.stderr)
    where = ("stdout" if target == "-" else target) + f" and {count(len(summary.stems), 'stem')}" * bool(summary.stems)
    limited = f", limited by up to {summary.reduction_db:.1f} dB" if summary.reduction_db >= 0.1 else ""
    say(
        f"{where}: {clock(summary.seconds)} at {summary.loudness:.1f} LUFS, peak {summary.peak_db:.1f} dB{limited}; "
        f"took {summary.wall_seconds:.1f} s, {summary.speed:.0f} times as fast as it plays"
    )
    for warning in summary.warnings[len(score.warnings) :]:  # the score's have been logged
        say(f"miao: {warning}")
    if told := _told(score):
        say(f"miao: {count(len(told), 'thing')} in it will not sound as it asks; see `miao info {song}`")


def _told(score: "Score") -> tuple[str, ...]:
    """What will not sound as the file asks, by what it says and by the sounds that there are."""
    from miao.bank.defaults import kits_of
    from miao.bank.folder import bank_folder
    from miao.midi.told import missing_sounds

    return (*score.ignored, *missing_sounds(score.tracks, kits_of(bank_folder("gm"))))


def _learnt(score: "Score") -> list[str]:
    """The programs that voices learnt from recorded notes play by default."""
    import numpy as np

    from miao.bank.defaults import kits_of, learnt_programs
    from miao.bank.folder import bank_folder
    from miao.midi.general_midi import program_name

    kits, notes = kits_of(bank_folder("gm")), np.concatenate([track.notes for track in score.tracks])
    return [program_name(program) for program in learnt_programs(kits, notes)]


def _variations(score: "Score") -> list[str]:
    """The variations of programs that play, each by its name and whose it is."""
    import numpy as np

    from miao.bank.defaults import kits_of
    from miao.bank.folder import bank_folder
    from miao.midi.general_midi import program_name

    kits, notes = kits_of(bank_folder("gm")), np.concatenate([track.notes for track in score.tracks])
    asked = np.unique(notes[["program", "bank"]][~notes["is_drum"]]).tolist()
    found = {f"{name} (of {program_name(program)})" for program, bank in asked
             if (name := kits.variation_name(program, bank))}  # fmt: skip
    return sorted(found)


def _as_dict(song: str, score: "Score", told: tuple[str, ...]) -> Json:
    tracks = [
        {
            "number": number,
            "name": track.name,
            "channel": track.channel + 1,
            "programs": track.programs,
            "is_drum": track.is_drum,
            "notes": track.n_notes,
            "lowest": track.lowest,
            "highest": track.highest,
            "polyphony": track.polyphony,
        }
        for number, track in enumerate(score.describe(), start=1)
    ]
    return {
        "file": song,
        "seconds": round(score.duration, 6),
        "notes": score.n_notes,
        "tracks": tracks,
        "ends_at": round(score.end, 6),
        "learnt": _learnt(score),
        "variations": _variations(score),
        "ignored": told,
        "warnings": score.warnings,
    }
