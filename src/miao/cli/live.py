"""The commands that sound at once: `miao live` and `miao play`."""

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miao.cli import express as cli_express
from miao.cli.terminal import clock, count, say
from miao.errors import ConfigError, MiaoError, needs
from miao.memory import keep_what_is_loaded

if TYPE_CHECKING:
    from miao.bank.bank import Bank
    from miao.bank.kits import Kits
    from miao.live.stage import Stage
    from miao.midi.score import Score

LOOK_SECONDS = 0.02
STATUS_SECONDS = 0.2
SEEK_SECONDS = 5.0
SWITCH_SECONDS = 0.0005  # that a thread keeps the others waiting: one of them has a key to play

CardOption = Annotated[
    str | None, typer.Option("--card", metavar="NAME", help='Words of a sound card\'s name; "none" for none.')
]
Block = Annotated[int, typer.Option(min=16, max=4096, metavar="N", help="Samples of a block: fewer answer sooner.")]
Rate = Annotated[int, typer.Option("--sample-rate", min=8000, max=192_000, metavar="HZ", help="8000 to 192000.")]
RoomOption = Annotated[str, typer.Option("--room", metavar="NAME", help='A room of `miao room list`, or "none".')]
Polyphony = Annotated[int, typer.Option(min=1, max=512, metavar="N", help="Most notes at one time.")]
GainOption = Annotated[float, typer.Option("--gain", min=-60, max=40, metavar="DB", help="How loud.")]
BankOption = Annotated[str, typer.Option("--bank", metavar="NAME", help="The voices: a name, or a folder.")]
Seconds = Annotated[float | None, typer.Option("--for", min=0.1, metavar="SECONDS", help="Stop by itself.")]


def live(
    keyboard: Annotated[
        list[str] | None, typer.Option("--keyboard", metavar="NAME", help="Only keyboards with this in their names.")
    ] = None,
    card: CardOption = None,
    block: Block = 256,
    sample_rate: Rate = 48_000,
    program: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CH=]N[/V]", help="General MIDI program (1-128) of a channel, 1 if none, or its variation V."
        ),
    ] = None,
    voice: Annotated[list[str] | None, typer.Option(metavar="CH=VOICE", help="A learnt voice for a channel.")] = None,
    split: Annotated[
        str | None, typer.Option(metavar="KEY=N", help="Keys below this one play another program.")
    ] = None,
    layer: Annotated[int | None, typer.Option(min=1, max=128, metavar="N", help="A program that plays along.")] = None,
    transpose: Annotated[int, typer.Option(min=-24, max=24, metavar="N", help="Semitones.")] = 0,
    velocity: Annotated[
        str, typer.Option(metavar="CURVE", help="soft, linear, hard, or one number for all notes (1-127).")
    ] = "linear",
    mood: cli_express.Mood = None,
    valence: cli_express.Valence = 0.0,
    arousal: cli_express.Arousal = 0.0,
    plane: Annotated[
        str | None, typer.Option(metavar="CC,CC", help="Two controllers that move valence and arousal; 64 is 0.")
    ] = None,
    room: RoomOption = "hall",
    gain: GainOption = 14.0,
    polyphony: Polyphony = 128,
    record: Annotated[
        Path | None, typer.Option(metavar="NAME", help="Write what is played to NAME.mid and NAME.wav.")
    ] = None,
    bank: BankOption = "gm",
    list_all: Annotated[bool, typer.Option("--list", help="List keyboards and sound cards.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Measure this machine, for --for seconds (60).")] = False,
    seconds: Seconds = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite files.")] = False,
) -> None:
    """Play from a MIDI keyboard, from other programs, or on the computer's keys.

    \b
    miao live
    miao live --list
    miao live --program 5 --split C3=33 --layer 49
    miao live --program 25/8
    miao live --voice 1=alto-sax --room church --record take
    miao live --mood tender:0.6 --plane 20,21
    miao live --test

    In the terminal: A to ' are white and black keys, Z and X octaves, C and V softer and harder, R is the next room,
    space silences all, Ctrl-C ends it.
    """
    from miao.expression.moods import cues_of
    from miao.live.card import cards, open_card
    from miao.live.instrument import N_CHANNELS, Instrument
    from miao.live.ports import Keyboards, check_wanted, ports
    from miao.live.routing import CURVES, Routing, key_number, zones_of
    from miao.live.take import Take
    from miao.live.terminal_keys import Piano, keys_of_terminal

    if list_all:
        _list(ports(), cards())
        return
    if test:
        from miao.live.self_test import measure

        loaded = _loaded(bank)
        keep_what_is_loaded()
        print(measure(loaded, card, block, sample_rate, seconds or 60.0))
        return
    if card != "none":
        needs("live")
    below, left = _split(split) if split else (None, None)
    if velocity not in CURVES and not (velocity.isdecimal() and 1 <= int(velocity) <= 127):
        raise ConfigError(f"--velocity {velocity}: say {', '.join(CURVES)}, or a number from 1 to 127")
    key = key_number(below) if below else None
    routing = Routing(
        transpose,
        CURVES.get(velocity, 1.0),
        int(velocity) if velocity.isdecimal() else None,
        zones_of(key, bool(layer)),
    )
    loaded, voices = _cast(_loaded(bank), voice)
    stage = _stage(loaded, range(N_CHANNELS), sample_rate, polyphony, gain, room)
    feeling = cues_of(mood, valence, arousal)
    instrument = Instrument(stage, routing, voices, mood=feeling, plane=_plane(plane) if plane else None)
    chosen = dict(_program(text) for text in program or ())
    chosen |= ({1: (left, 0)} if left is not None else {}) | ({2: (layer - 1, 0)} if layer else {})
    for number, variation in chosen.values():
        if variation and not loaded.kits.has_variation(number, 128 * variation):
            raise ConfigError(_no_variation(loaded.kits, number, variation))
    for channel, sound in chosen.items():
        instrument.choose(channel, *sound)
    for channel in sorted({0, *chosen}):
        instrument.expect(channel, *chosen.get(channel, (0, 0)))
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_what_is_loaded()
    check_wanted(keyboard or ())
    with ExitStack() as things:
        where = things.enter_context(open_card(stage, card, block))
        instrument.start()
        things.callback(instrument.stop)
        keyboards = Keyboards(instrument, keyboard or ())
        things.callback(keyboards.close)
        take = things.enter_context(Take(instrument, record, force=force)) if record else None
        read = things.enter_context(keys_of_terminal())
        rooms = _Rooms(stage, room)
        piano = Piano(instrument.put, next_room=rooms.next)
        heard = ", ".join(keyboards.names) or "no keyboard"
        port = ' (other programs find the port "miao")' if keyboards.own is not None else ""
        say(f"{heard}{port} -> {where.name}, {block} samples at {sample_rate} Hz; Ctrl-C ends it")
        things.callback(lambda: say("") if sys.stderr.isatty() else None)
        status, until = _Status(stage, where.latency), time.monotonic() + (seconds or 1e9)
        while time.monotonic() < until and instrument.error is None:
            piano.press(read(LOOK_SECONDS), time.monotonic())
            piano.let_go(time.monotonic())
            if take is not None:
                take.collect()
            status.show(f"{rooms.name}  ")
    if record:
        say(f"{record}.mid, {record}.wav")


def play(
    songs: Annotated[list[str], typer.Argument(metavar="SONG...", help="MIDI files; - is stdin.")],
    card: CardOption = None,
    block: Block = 512,
    sample_rate: Rate = 48_000,
    start: Annotated[float, typer.Option("--from", min=0, metavar="SECONDS", help="Where to begin.")] = 0.0,
    tempo: Annotated[float, typer.Option(min=25, max=200, metavar="PERCENT", help="25 to 200.")] = 100.0,
    transpose: Annotated[int, typer.Option(min=-24, max=24, metavar="N", help="Semitones.")] = 0,
    expression: cli_express.Amount = 0.0,
    mood: cli_express.Mood = None,
    valence: cli_express.Valence = 0.0,
    arousal: cli_express.Arousal = 0.0,
    rules: cli_express.Rules = False,
    rewrite: cli_express.Rewrite = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Another seed, another take.")] = 0,
    room: RoomOption = "",
    gain: GainOption = 14.0,
    polyphony: Polyphony = 256,
    bank: BankOption = "gm",
    seconds: Seconds = None,
) -> None:
    """Play MIDI files at once on the sound card.

    \b
    miao play song.mid
    miao play song.mid --from 60 --tempo 80
    miao play song.mid --expression 0.7 --mood tender:0.6

    In the terminal: space pauses, left and right seek by 5 s, up and down change the tempo, + and - transpose, 1 to 9
    mute a track, S and then 1 to 9 play one alone, N is the next song, Q ends it.
    """
    from miao.expression import expressed
    from miao.live.card import open_card
    from miao.live.tape import Tape
    from miao.live.terminal_keys import keys_of_terminal
    from miao.midi.score import read_score
    from miao.synth.stems import lots_of

    if card != "none":
        needs("live", "sounddevice")
    how = cli_express.wishes(expression, mood, valence, arousal, rewrite=rewrite, rules=rules, seed=seed)
    loaded, until = _loaded(bank), time.monotonic() + (seconds or 1e9)
    with keys_of_terminal() as read:
        for song in songs:
            score = read_score(sys.stdin.buffer if song == "-" else song)
            if not score.tracks:
                raise MiaoError(f"{song}: it holds no notes; there is nothing to play")
            score = expressed(score, **how)
            stage = _stage(loaded, lots_of(score.tracks), sample_rate, polyphony, gain, room, score)
            say(f"{song}: {count(len(score.tracks), 'track')}, {count(score.n_notes, 'note')}, {clock(score.duration)}")
            with open_card(stage, card, block) as where:
                tape = Tape(stage, score)
                tape.change(tempo / 100, transpose)
                tape.seek(start)
                if not _reel(tape, _Status(stage, where.latency), read, until):
                    return


def _reel(tape: Any, status: "_Status", read: Callable[[float], str], until: float) -> bool:
    """Plays one song, doing what the keys say. False if no other is to follow."""
    is_alone, over_since = False, None
    try:
        while time.monotonic() < until:
            key = read(LOOK_SECONDS).lower()
            if key in ("q", "n"):
                return key == "n"
            if key == " ":
                tape.pause()
            elif key in ("left", "right"):
                tape.seek(tape.position + (SEEK_SECONDS if key == "right" else -SEEK_SECONDS))
            elif key in ("up", "down"):
                tape.change(tempo=tape.tempo + (0.05 if key == "up" else -0.05))
            elif key in ("+", "-"):
                tape.change(transpose=tape.transpose + (1 if key == "+" else -1))
            elif key == "s":
                is_alone = not is_alone
            elif key.isdecimal() and 0 < int(key) <= len(tape.score.tracks):
                tape.toggle(tape.alone if is_alone else tape.muted, int(key) - 1)
            tape.round()
            status.show(f"{clock(tape.position)} / {clock(tape.length)}  tempo {tape.tempo:.0%}  {tape.transpose:+d}  ")
            if tape.is_over:
                over_since = over_since or time.monotonic()
                if time.monotonic() - over_since > 2.0:  # the room's tail
                    return True
            else:
                over_since = None
        return False
    finally:
        if sys.stderr.isatty():
            say("")


class _Rooms:
    """The rooms that there are, one after the other, while a stage plays."""

    def __init__(self, stage: "Stage", name: str) -> None:
        from miao.sound.rooms import NO_ROOM, room_paths

        self._stage, self.name = stage, name
        self._names = [*room_paths(), NO_ROOM]

    def next(self) -> None:
        from miao.sound.rooms import find_room

        at = self._names.index(self.name) if self.name in self._names else -1
        self.name = self._names[(at + 1) % len(self._names)]
        self._stage.change_room(find_room(self.name))


class _Status:
    """One line on a terminal: how the engine is."""

    def __init__(self, stage: "Stage", latency: float) -> None:
        self._stage, self._latency, self._due = stage, latency, 0.0
        self._before = stage.engine.counts()

    def show(self, more: str = "") -> None:
        if time.monotonic() < self._due or not sys.stderr.isatty():
            return
        self._due = time.monotonic() + STATUS_SECONDS
        before, counts = self._before, self._stage.engine.counts()
        self._before = counts
        seconds = (counts["blocks"] - before["blocks"]) * counts["block_samples"] / self._stage.sample_rate
        load = (counts["busy_ns"] - before["busy_ns"]) * 1e-9 / seconds if seconds else 0.0
        block_ms = 1000 * counts["block_samples"] / self._stage.sample_rate
        print(
            f"\r{more}{counts['voices']:3} voices  load {load:3.0%}  dropouts {counts['dropouts']}  "
            f"latency {block_ms + 1000 * self._latency:.1f} ms ",
            end="", file=sys.stderr, flush=True,
        )  # fmt: skip


def _plane(text: str) -> tuple[int, int]:
    """(20, 21) of "20,21". Raises: ConfigError."""
    numbers = [int(part) if part.strip().isdecimal() else -1 for part in text.split(",")]
    if len(numbers) != 2 or len(set(numbers)) != 2 or not 0 <= min(numbers) <= max(numbers) <= 119:
        raise ConfigError(f"--plane {text}: say two controllers from 0 to 119, as 20,21")
    return numbers[0], numbers[1]


def _list(keyboards: list[str], cards: list[str]) -> None:
    for title, names in (("keyboards", keyboards), ("sound cards", cards)):
        print(f"{title}:")
        for name in names or ["none"]:
            print(f"  {name}")


def _loaded(bank: str) -> "Bank":
    from miao.bank.bank import Bank
    from miao.live.stage import needs_engine

    needs_engine()
    return Bank.load(bank, 1)  # one thread: an attack waits for no other, and the card has its own


def _stage(
    bank: "Bank",
    channels: Iterable[int],
    rate: int,
    polyphony: int,
    gain: float,
    room: str,
    score: "Score | None" = None,
) -> "Stage":
    from miao.live.stage import Stage
    from miao.sound.chorus import USUAL
    from miao.sound.rooms import find_room
    from miao.synth.rendering import acoustics_of
    from miao.synth.settings import PlaySettings

    settings = PlaySettings(sample_rate=rate, polyphony=polyphony, room=room or None)
    acoustics = find_room(room) if score is None else acoustics_of(score, settings)
    chorus = (score.chorus if score is not None else "") or USUAL
    return Stage(bank, list(channels), settings, gain_db=gain, room=acoustics, chorus=chorus)


def _cast(bank: "Bank", parts: list[str] | None) -> tuple["Bank", dict[int, int]]:
    """The bank with the voices of --voice CH=VOICE, and which of them plays a channel, from 0."""
    from miao.bank.learnt_voice import LearntVoice, find_voice

    found: list[LearntVoice] = []
    places = {}
    for part in parts or ():
        number, equals, name = part.partition("=")
        if not equals or not number.strip().isdecimal() or not 1 <= int(number) <= 16 or not name:
            raise MiaoError(f'--voice {part}: say a channel and a voice, such as "1=alto-sax"')
        places[int(number) - 1] = len(bank.table.kind) + len(found)
        found.append(find_voice(name))
    return bank.with_voices(found), places


def _program(text: str) -> tuple[int, tuple[int, int]]:
    """Channel, program (both from 0) and variation (0: none) of "5", "2=5" or "2=5/8"."""
    channel, equals, sound = text.rpartition("=")
    channel = channel if equals else "1"
    number, slash, variation = sound.partition("/")
    variation = variation if slash else "0"
    is_whole = channel.isdecimal() and number.isdecimal() and variation.isdecimal()
    if not (is_whole and 1 <= int(channel) <= 16 and 1 <= int(number) <= 128 and int(variation) <= 127):
        raise ConfigError(
            f"--program {text}: say a program from 1 to 128, a channel and a program, such as 2=5, or a "
            "variation, such as 25/8"
        )
    return int(channel) - 1, (int(number) - 1, int(variation))


def _no_variation(kits: "Kits", program: int, variation: int) -> str:
    from miao.midi.general_midi import program_name

    known = ", ".join(
        f"{number} ({name})" for (number, own), name in sorted(kits.names.items()) if own == program and number
    )
    return f"program {program + 1} ({program_name(program)}) has no variation {variation}; it has {known or 'none'}"


def _split(text: str) -> tuple[str, int]:
    """The key and the program, from 0, of "C3=33"."""
    key, equals, number = text.partition("=")
    if not equals or not number.isdecimal() or not 1 <= int(number) <= 128:
        raise ConfigError(f"--split {text}: say a key and a program, such as C3=33")
    return key, int(number) - 1
