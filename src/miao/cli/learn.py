"""The commands about learnt voices: `miao learn`, `miao voices list|show|export|import`; cli.py puts them beside the
rest. As there: results go to stdout, what is said about them to stderr, heavy imports stand inside the commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miao.cli import music as cli_music
from miao.cli.room import RoomsFolder
from miao.cli.terminal import progress, say
from miao.errors import BankError, MiaoError, needs

if TYPE_CHECKING:
    from miao.bank.learnt_voice import LearntVoice
    from miao.midi.score import Score

VoicesFolder = Annotated[
    Path | None,
    typer.Option("--voices", metavar="FOLDER", help="Where your own voices are, if not in the usual place."),
]
VoiceName = Annotated[str, typer.Argument(metavar="VOICE", help="A voice's name, or its file.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite files.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs to read.")]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--voice",
        metavar="TRACK=VOICE",
        help="A learnt voice (or its file) for a track, as `miao info` numbers them; may be repeated.",
    ),
]


def learn(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Samples named by pitch, or music beside its MIDI files; an .sfz, .sf2 or .sf3 file; or a recording.",
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="What the voice is called.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to. Default: among your own voices.")
    ] = None,
    midi: Annotated[
        list[Path] | None,
        typer.Option("--midi", metavar="FILE", help="The notes of a recording; again for each of --more."),
    ] = None,
    more: Annotated[
        list[Path] | None, typer.Option("--more", metavar="FILE", help="Another recording; may be repeated.")
    ] = None,
    tracks: Annotated[
        str | None, typer.Option(metavar="1,3", help="Which tracks of the MIDI files are learnt. Default: all.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=5, metavar="S", help="How much of each recording of music.")] = 300.0,
    drums: Annotated[
        bool, typer.Option("--drums", help="What is learnt is a drum kit, whatever channel its notes are on.")
    ] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="Of recordings of music only the notes that sound alone.")
    ] = False,
    only: Annotated[str | None, typer.Option(metavar="PATTERN", help='Only files called like this: "pizz*".')] = None,
    program: Annotated[
        int | None, typer.Option(min=1, max=128, metavar="N", help="Which program of an .sf2 or .sf3.")
    ] = None,
    like: Annotated[
        int | None,
        typer.Option(
            min=1, max=128, metavar="N", help="The program to set out from. Default: the one that sounds most alike."
        ),
    ] = None,
    licence: Annotated[str, typer.Option(metavar="TEXT", help="Kept with the voice.")] = "",
    origin: Annotated[str, typer.Option(metavar="TEXT", help="Whose recordings: kept with the voice.")] = "",
    instrument: Annotated[str, typer.Option(metavar="TEXT", help="Kept with the voice.")] = "",
    listen: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where to write what was held out, to listen to: recorded.wav, before.wav, after.wav.",
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            "--beside", metavar="FILE", help="A sound bank that music is compared with, too; needs FluidSynth."
        ),
    ] = None,
    room: Annotated[
        str | None, typer.Option(metavar="NAME", help="What a recording's room is called. Default: as the voice.")
    ] = None,
    rooms: RoomsFolder = None,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="How long to learn.")] = None,
    keep_held_out: Annotated[bool, typer.Option(help="Never learn from every fifth pitch.")] = False,
    bank: Annotated[str, typer.Option(metavar="NAME", help="The bank that the voice is for.")] = "gm",
    voices: VoicesFolder = None,
    force: Force = False,
) -> None:
    """Learn a new voice, in minutes: from recordings of single notes, or of music with its notes.

    \b
    miao learn recording.flac --midi performance.mid --name my-piano
    miao learn recordings --name my-piano
    miao learn drums.flac --midi drums.mid --drums --name my-kit
    miao learn samples --name my-piano
    miao learn guitar.sfz --name my-guitar --licence CC0-1.0 --listen listen
    miao render song.mid --voice 1=my-piano
    """
    needs("train")
    from dataclasses import replace

    from miao import __version__
    from miao.bank.bank import Bank
    from miao.bank.learnt_voice import SUFFIX, check_name, voices_folder
    from miao.datasets.voice_sources import recordings_from
    from miao.training.learn import LearnConfig
    from miao.training.new_voice import PROGRAM, new_voice

    target = output or (voices or voices_folder()) / f"{check_name(name)}{SUFFIX}"
    if target.exists() and not force:
        raise BankError(f"{target} exists; --force overwrites it")
    about = {"licence": licence, "origin": origin, "instrument": instrument, "source": source.name,
             "miao": __version__}  # fmt: skip
    pairs = cli_music.pairs(source, midi or [], more or [], is_alone=alone)
    if pairs:
        target_room = cli_music.room_target(room or name, rooms, force=force)
        cli_music.learn(
            pairs, name, about, voices or voices_folder(), output, target_room, bank=bank, like=like, drums=drums,
            tracks=tracks, seconds=seconds, steps=steps, listen=listen, beside=beside or [], force=force,
        )  # fmt: skip
        return
    recordings, remarks = recordings_from(source, only=only, program=None if program is None else program - 1)
    for remark in remarks:
        say(remark)
    say(f"{source}: {len(recordings)} notes of {len({r.pitch for r in recordings})} pitches")
    config = LearnConfig() if steps is None else replace(LearnConfig(), steps=steps)
    with progress("learning") as tell:
        made = new_voice(
            Bank.load(bank),
            recordings,
            name,
            about,
            like=None if like is None else like - 1,
            keep_held_out=keep_held_out,
            config=config,
            tell=tell,
        )
    made.voice.save(target)
    for take, audio in made.listening.items() if listen is not None else ():
        assert listen is not None
        listen.mkdir(parents=True, exist_ok=True)
        audio.save(listen / f"{take}.wav", force=True)
    if made.scores is None:
        say("fewer than five pitches: none was held out, and nothing measured")
    else:
        scores = made.scores
        print(f"log-mel error of {scores.n_notes} notes of pitches held out, dB:")
        print(f"  {made.voice.about['set_out_from']}, as it is       {scores.before:6.2f}")
        print(f"  the same at its best gain ({scores.before_gain_db:+.1f} dB)   {scores.before_aligned:6.2f}")
        print(f"  {name:34}{scores.after:6.2f}   ({made.kept})")
        print(f"    taught to the nets              {scores.learnt:6.2f}")
        print(f"    led by the recorded notes       {scores.led:6.2f}")
        print(f"    by what they have in common     {scores.common:6.2f}")
        print(f"  a sampler with the same notes     {scores.sampler:6.2f}")
        print(f"  measured and played back (ceiling){scores.encoded:6.2f}")
        if made.kept == PROGRAM:
            start = made.voice.about["set_out_from"]
            say(f"nothing learnt is closer than {start}, so the voice is that, at its best gain")
    say(f"{target}: learnt in {made.seconds / 60:.1f} min")


voices_app = typer.Typer(no_args_is_help=True, help="Look after learnt voices.", rich_markup_mode=None)


@voices_app.command("list")
def list_voices(voices: VoicesFolder = None, as_json: AsJson = False) -> None:
    """List the learnt voices there are: the package's and your own.

    \b
    miao voices list
    """
    from miao.bank.learnt_voice import LearntVoice, is_shipped, voice_paths

    rows = []
    for name, path in voice_paths(voices).items():
        about = LearntVoice.load(path).about
        rows.append({"voice": name, "instrument": about.get("instrument", ""), "licence": about.get("licence", ""),
                     "notes": about.get("n_notes", ""), "held out, dB": about.get("held_out_db", ""),
                     "from": "miao" if is_shipped(path) else str(path.parent)})  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        say("there are no learnt voices yet; learn one with `miao learn`")
        return
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    print("  ".join(f"{key:{width}}" for key, width in widths.items()).rstrip())
    for row in rows:
        print("  ".join(f"{row[key]:{width}}" for key, width in widths.items()).rstrip())


@voices_app.command()
def show(voice: VoiceName, voices: VoicesFolder = None, as_json: AsJson = False) -> None:
    """Tell what a voice is, where it comes from, under which licence, and how close to its recordings.

    \b
    miao voices show alto-sax
    """
    from miao.bank.learnt_voice import find_voice

    about = find_voice(voice, voices).about
    if as_json:
        print(json.dumps(about, indent=2, ensure_ascii=False))
        return
    width = max(len(key) for key in about)
    for key in ("name", *sorted(about.keys() - {"name"})):
        print(f"{key.replace('_', ' '):{width}}  {about[key]}")


@voices_app.command()
def export(
    voice: VoiceName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to.")],
    voices: VoicesFolder = None,
    force: Force = False,
) -> None:
    """Copy a voice into a file, to be passed on.

    \b
    miao voices export alto-sax -o alto-sax.safetensors
    """
    from miao.bank.learnt_voice import find_voice

    find_voice(voice, voices).save(output, force=force)
    say(str(output))


@voices_app.command("import")
def import_voice(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A voice's file.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What to call it. Default: as it is called.")] = None,
    bank: Annotated[str, typer.Option(metavar="NAME", help="The bank it must fit.")] = "gm",
    voices: VoicesFolder = None,
    force: Force = False,
) -> None:
    """Take a voice into your own voices, once it is known to fit the bank.

    \b
    miao voices import your-voice.safetensors --name trumpet
    """
    from dataclasses import replace

    from miao.bank.bank import Bank
    from miao.bank.learnt_voice import SUFFIX, LearntVoice, check_name, voices_folder

    voice = LearntVoice.load(file)
    voice = replace(voice, about=voice.about | {"name": check_name(name or voice.name)})
    Bank.load(bank, 1).with_voices([voice])
    target = (voices or voices_folder()) / f"{voice.name}{SUFFIX}"
    voice.save(target, force=force)
    say(str(target))


def cast(
    parts: list[str] | None, tracks: list[int] | None, score: "Score", folder: Path | None
) -> "dict[int, LearntVoice]":
    """The voices of --voice TRACK=VOICE by the places that the tracks have among those chosen by --tracks."""
    from miao.bank.learnt_voice import find_voice

    places = {number: place for place, number in enumerate(tracks or range(1, len(score.tracks) + 1), start=1)}
    found = {}
    for part in parts or ():
        number, equals, name = part.partition("=")
        if not equals or not number.strip().isdecimal() or not name:
            raise MiaoError(f'--voice {part}: say a track and a voice, such as "1=alto-sax"')
        if int(number) not in places:
            known = ", ".join(map(str, places))
            raise MiaoError(f"--voice {part}: there is no track {number}; the tracks played are {known}")
        if places[int(number)] in found:
            raise MiaoError(f"--voice {part}: another --voice plays track {number} already")
        found[places[int(number)]] = find_voice(name, folder)
    return found
