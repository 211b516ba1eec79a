"""The commands about rooms: `miao room list|show|learn`, and what `miao render` says of them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miao.cli.terminal import say
from miao.errors import MiaoError

if TYPE_CHECKING:
    from miao.measuring.rooms import LearntRoom

RoomsFolder = Annotated[
    Path | None,
    typer.Option("--rooms", metavar="FOLDER", help="Where your own rooms are, if not in the usual place."),
]
RoomName = Annotated[str, typer.Argument(metavar="ROOM", help="A room's name, its file, or an impulse response.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite files.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs to read.")]
T60 = Annotated[
    float | None, typer.Option("--t60", metavar="SECONDS", help="The room's reverberation time at 1 kHz, 0.05 to 20.")
]
Room = Annotated[
    str | None,
    typer.Option("--room", metavar="ROOM", help="A room (`miao room list`), its file, an impulse response, or none."),
]
Wet = Annotated[float, typer.Option("--wet", metavar="X", help="How much of the room: a factor, 0 to 10.")]

room_app = typer.Typer(no_args_is_help=True, help="Rooms to play in: list, look at, learn.", rich_markup_mode=None)


def place(room: str | None, folder: Path | None) -> str | None:
    """A room as settings have it: one of the user's own folder by its file."""
    if room is None or folder is None:
        return room
    from miao.sound.rooms import room_paths

    return str(room_paths(folder).get(room, room))


@room_app.command("list")
def list_rooms(rooms: RoomsFolder = None, as_json: AsJson = False) -> None:
    """List the rooms there are: the package's and your own.

    \b
    miao room list
    """
    from miao.sound.rooms import read_room, room_paths

    rows = []
    for name, path in room_paths(rooms).items():
        room, about = read_room(path)
        rows.append({"room": name, "T60": round(room.t60_seconds, 2), "gain_db": round(room.gain_db, 1),
                     "origin": about.get("origin", "")})  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max(len(str(row["room"])) for row in rows)
    for row in rows:
        print(f"{row['room']:{width}}  {row['T60']:5.2f} s  {row['origin']}")


@room_app.command()
def show(
    room: RoomName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A picture of the decay: .png, .svg, .pdf.")
    ] = None,
    t60: T60 = None,
    rooms: RoomsFolder = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Tell how a room dies away, octave by octave, as measured on its impulse response.

    \b
    miao room show church
    miao room show clap.wav -o decay.png
    """
    from miao.sound.decay import measure_octaves
    from miao.sound.room import DrawnRoom
    from miao.sound.rooms import changed, find_room, read_room, room_paths

    found = changed(find_room(room, rooms), t60)
    if found is None:
        raise MiaoError("nothing is to be shown of no room")
    rate = 44_100 if isinstance(found, DrawnRoom) else found.sample_rate
    response = found.response(rate).reshape(4, -1)
    octaves = measure_octaves(response, rate)
    top = max(octave.energy_db for octave in octaves)
    rows = [{"hz": octave.hz, "t60_seconds": round(octave.t60_seconds, 3), "level_db": round(octave.energy_db - top, 1)}
            for octave in octaves if octave.energy_db > -300]  # fmt: skip
    path = room_paths(rooms).get(room, Path(room))
    about = read_room(path)[1] if path.suffix == ".toml" else {"name": str(path), "origin": "an impulse response"}
    if isinstance(found, DrawnRoom):
        about |= {"predelay": f"{1000 * found.predelay_seconds:.0f} ms", "gain": f"{found.gain_db:+.1f} dB",
                  "build-up": f"{1000 * found.build_up_seconds:.0f} ms", "width": f"{found.width:.2f}"}  # fmt: skip
    if as_json:
        print(json.dumps({"about": about, "octaves": rows}, indent=2, ensure_ascii=False))
    else:
        for key in sorted(about.keys() - {"format"}):
            print(f"{key:9} {about[key]}")
        print("     Hz    T60, s   energy, dB")
        for row in rows:
            known = f"{row['t60_seconds']:9.2f}" if row["t60_seconds"] == row["t60_seconds"] else "        ?"
            print(f"{row['hz']:7.0f} {known} {row['level_db']:12.1f}")
    if output is not None:
        from miao.plot import save_decay_plot

        save_decay_plot(response, rate, output, title=about.get("name", room), force=force)
        say(str(output))


@room_app.command()
def learn(
    sound: Annotated[Path, typer.Argument(metavar="SOUND", help="A clap or a burst balloon, recorded in the room.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the room is called. Default: as the file.")
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="SOUND is a recording of this sweep (or any broad sound).")
    ] = None,
    dry: Annotated[
        Path | None, typer.Option(metavar="FILE", help="SOUND is this (any music) as it was heard in the room.")
    ] = None,
    midi: Annotated[Path | None, typer.Option(metavar="FILE", help="SOUND is a recording of this music.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to. Default: among your own rooms.")
    ] = None,
    origin: Annotated[str, typer.Option(metavar="TEXT", help="Whose recording: kept with the room.")] = "",
    rooms: RoomsFolder = None,
    force: Force = False,
) -> None:
    """Learn a room from a clap, a burst balloon, a sweep or any known sound that was recorded in it.

    \b
    miao room learn clap.wav --name my-room
    miao room learn recorded.wav --sweep played.wav --name my-room
    miao room learn recorded.wav --dry played.wav --name my-room
    miao room learn music.flac --midi music.mid --name my-room
    miao render song.mid --room my-room
    """
    from miao.cli.music import learnt, room_target
    from miao.measuring.known_sound import room_of_known
    from miao.measuring.rooms import response_of_sweep, room_from_clap
    from miao.sound.audio import read_audio
    from miao.sound.rooms import check_room_name, save_room

    called = check_room_name(name or (output or sound).stem.replace(" ", "-"))
    target = room_target(called, rooms, output=output, force=force)
    if sum(given is not None for given in (sweep, dry, midi)) > 1:
        raise MiaoError("give one of --sweep, --dry and --midi; each says what SOUND is a recording of")
    heard = None if midi is None else _of_own_rendering(sound, midi)
    if midi is not None and heard is None:
        made = learnt([(sound, midi)], called, {}, bank="gm", like=None, tracks=None, seconds=300.0, steps=None)
        if made.room is None:
            raise MiaoError(f"{sound}: no room is learnt")
        save_room(target, made.room, {"name": called, "origin": origin or f"learnt from {sound.name}"}, force=force)
        print(f"{made.room.t60_seconds:.2f} s at 1 kHz, {made.fit.room_db[3:5].mean():+.1f} dB beside the notes")
        say(str(target))
        return
    if dry is not None:
        heard = room_of_known(read_audio(sound), read_audio(dry), str(sound))
    if heard is None:
        audio = read_audio(sound)
        heard = room_from_clap(audio if sweep is None else response_of_sweep(audio, read_audio(sweep)), str(sound))
    about = {"name": called, "origin": origin or f"learnt from {sound.name}"}
    save_room(target, heard.room, about, force=force)
    for remark in heard.remarks:
        say(remark)
    print("     Hz    T60, s   over, dB")
    for octave in heard.octaves:
        if octave.range_db:
            print(f"{octave.hz:7.0f} {octave.t60_seconds:9.2f} {octave.range_db:10.0f}")
    print(f"the room is {heard.level_db:+.1f} dB beside the sound")
    say(str(target))


def _of_own_rendering(sound: Path, midi: Path) -> "LearntRoom | None":
    """The room of a recording that is a rendering of these notes by the usual bank; None, and said so, if it is not."""
    from miao.measuring.known_sound import LEAST_ALIKE, LONGEST_SECONDS, alike, room_of_known
    from miao.sound.audio import Audio, read_audio
    from miao.sound.rooms import echo
    from miao.synth.synthesizer import Synthesizer

    recorded = read_audio(sound, 2 * LONGEST_SECONDS)
    rate = min(max(recorded.sample_rate, 8000), 44_100)
    player, seconds = Synthesizer.from_pretrained("gm"), min(LONGEST_SECONDS, max(recorded.duration, 0.1))
    dry, more = (player.render(midi, room=room, gain_db=-12.0, end=seconds, sample_rate=rate)
                 for room in ("none", echo(rate)))  # fmt: skip
    share = alike(recorded, dry)[1]
    if share < LEAST_ALIKE:
        say(f"{sound}: not our own rendering of these notes (alike by {share:.2f}, {LEAST_ALIKE} is asked for)")
        say("the room is fitted to the music")
        return None
    say(f"{sound}: our own rendering of these notes (alike by {share:.2f}); its room is measured")
    n = min(dry.samples.shape[1], more.samples.shape[1])
    sent = Audio(more.samples[:, :n] - dry.samples[:, :n], rate)
    return room_of_known(recorded, dry, str(sound), sent)
