import io
import json
import signal
import struct
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from miao.bank.bank import Bank
from miao.cli.main import _leave_out_all_but, app
from miao.cli.terminal import clock
from miao.sound.audio import read_audio

HERE = Path(__file__).parent
TOY = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from conftest import make_toy_bank
from miao.bank.bank import Bank
Bank.load = staticmethod(lambda name, programs=None: make_toy_bank())
from miao.cli.main import main
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, song):
    """The working folder, with song.mid in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "song.mid").write_bytes(song)
    return tmp_path


@pytest.fixture
def run(monkeypatch, toy_bank):
    """Runs a command line with the toy bank; gives exit code, stdout and stderr."""
    monkeypatch.setattr(Bank, "load", staticmethod(lambda name, programs=None: toy_bank))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], prog_name="miao")


def command(*words, code="main()", **settings):
    """The same in a process of its own, for what only a process has."""
    return subprocess.Popen(
        [sys.executable, "-c", TOY + code, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **settings,
    )


# render


def test_render_writes_a_wav_beside_the_song(run, folder):
    result = run("render", folder / "song.mid")
    assert result.exit_code == 0 and result.stdout == ""
    audio = read_audio(folder / "song.wav")
    assert (audio.sample_rate, audio.channels) == (44_100, 2)
    assert soundfile.info(folder / "song.wav").subtype == "PCM_16"
    assert "song.mid: 3 tracks, 13 notes, 0:06.0" in result.stderr
    assert f"song.wav: {clock(audio.duration)} at -16.0 LUFS" in result.stderr
    assert all(word in result.stderr for word in ("Melody", "Flute", "Standard Kit", "times as fast as it plays"))


def test_options_reach_the_renderer(run, folder):
    result = run(
        "render",
        "song.mid",
        "-o",
        "out.flac",
        "--stems",
        "stems",
        "--tracks",
        "2-3",
        "--from",
        "0:01.5",
        "--to",
        "3",
        "--sample-rate",
        "48000",
        "--seed",
        "7",
        "--variation",
        "0.3",
        "--gain",
        "-3",
        "--bits",
        "24",
        "--bank",
        "toy",
    )
    assert result.exit_code == 0, result.stderr
    info = soundfile.info(folder / "out.flac")
    assert (info.samplerate, info.frames, info.subtype) == (48_000, 72_000, "PCM_24")
    stems = sorted(path.name for path in (folder / "stems").iterdir())
    assert stems == ["01 Bass_ a_b.flac", "02 Standard Kit.flac", "room.flac"]
    assert "out.flac and 3 stems: 0:01.5" in result.stderr


def test_a_louder_wish_is_louder(run, folder):
    levels = []
    for loudness in ("-30", "-20"):
        assert run("render", "song.mid", "--loudness", loudness, "--bits", "float", "--force").exit_code == 0
        levels.append(np.std(read_audio("song.wav").samples))
    assert levels[1] / levels[0] == pytest.approx(10**0.5, rel=0.02)


def test_what_exists_stays_unless_forced(run, folder):
    (folder / "song.wav").write_bytes(b"mine")
    result = run("render", "song.mid")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, "miao: song.wav exists; --force overwrites it")
    assert (folder / "song.wav").read_bytes() == b"mine"
    assert run("render", "song.mid", "--force").exit_code == 0
    assert (folder / "song.wav").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.mid"], "miao: none.mid: there is no such file"),
        (["empty.mid"], "miao: empty.mid: the file is empty"),
        (["garbage.mid"], "miao: garbage.mid: not a MIDI file (no complete MThd header in 5000 bytes)"),
        (
            ["truncated.mid"],
            "miao: truncated.mid: a MIDI header but no track behind it; the file is damaged or cut off",
        ),
        (["silent.mid"], "miao: silent.mid: the file holds no notes"),
        (["."], "miao: several songs become files in a folder; name it with -o FOLDER"),
        (["song.mid", "-o", "none/a.wav"], "miao: none/a.wav: there is no folder {folder}/none; make it first"),
        (["song.mid", "-o", "/dev/full"], "miao: /dev/full: cannot be written: no space left on device"),
        (
            ["song.mid", "-o", "a.xyz"],
            "miao: a.xyz: the suffix .xyz names no known sound format; known are wav, flac, ogg, mp3",
        ),
        (["song.mid", "--bits", "20"], "miao: wav cannot be written as 20; choose 16 or 24 or float"),
        (["song.mid", "--tracks", "1,4"], "miao: there is no track 4; the song has tracks 1 to 3"),
        (["song.mid", "--sample-rate", "1"], "miao: the sample rate is 1; it goes from 8000 to 192000"),
        (["song.mid", "--from", "2:00"], "miao: the excerpt starts at 120 s, but the music ends at 6.0 s"),
        (
            ["song.mid", "--from", "1e999"],
            "miao: an excerpt from inf s on is empty; it starts at 0 or later and ends after its start",
        ),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_leaves_nothing(run, folder, midi, words, message):
    (folder / "empty.mid").write_bytes(b"")
    (folder / "garbage.mid").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "truncated.mid").write_bytes((folder / "song.mid").read_bytes()[:18])
    (folder / "silent.mid").write_bytes(midi({"notes": []}))
    before = sorted(folder.iterdir())
    result = run("render", *words)
    said = [line for line in result.stderr.splitlines() if line.startswith("miao: ")]
    assert (result.exit_code, said) == (2, [message.format(folder=folder)])
    assert sorted(folder.iterdir()) == before


def test_an_unknown_bank_is_named(folder):
    result = CliRunner().invoke(app, ["render", "song.mid", "--bank", "nobank"])
    assert result.exit_code == 2 and 'miao: no bank "nobank"; there are' in result.stderr
    assert [path.name for path in folder.iterdir()] == ["song.mid"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "half"], "half is no time; say 90 or 1:30"),
        (["--tracks", "a"], "a is no list of numbers; say 1,3 or 1-4"),
        (["--tracks", "2-1"], "2-1 is no list of numbers; say 1,3 or 1-4"),
        (["--tracks", "1-"], "1- is no list of numbers; say 1,3 or 1-4"),
        (["--tracks", "1-99999999999"], "1-99999999999 is no list of numbers; say 1,3 or 1-4"),
        (["--gain", "1", "--loudness", "-9"], "--gain and --loudness exclude each other"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
    ],
)
def test_wrong_words_show_the_usage(run, folder, words, message):
    result = run("render", "song.mid", *words)
    assert result.exit_code == 2 and message in result.stderr and "Usage: miao render" in result.stderr


def test_a_damaged_file_is_played_as_far_as_it_goes(run, folder, caplog):
    (folder / "cut.mid").write_bytes((folder / "song.mid").read_bytes()[:-40])
    assert run("render", "cut.mid").exit_code == 0
    assert read_audio("cut.wav").duration > 6
    assert "cut.mid: track 3" in caplog.text


# in a process


def test_a_pipe_goes_in_and_comes_out(folder, song):
    process = command("render", "-", "-o", "-", "--gain", "0", "--format", "flac")
    sound, said = process.communicate(song)
    assert process.returncode == 0, said
    samples, _ = soundfile.read(io.BytesIO(sound), dtype="int16")
    assert 6 * 44_100 < len(samples) < 9 * 44_100 and np.abs(samples).max() > 1000
    assert b"stdout: 0:0" in said


def test_a_reader_that_leaves_is_met_in_silence(folder):
    process = command("render", "song.mid", "-o", "-", "--gain", "0")
    header = process.stdout.read(44)  # of unknown length
    assert header[:4] == b"RIFF" and struct.unpack("<I", header[40:44]) == (0xFFFFFFFF,)
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait(300) == 141
    assert said.splitlines() == ["song.mid: 3 tracks, 13 notes, 0:06.0"]
    process.stdin.close()
    process.stderr.close()


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_rendering_leaves_no_file(folder, number, expected):
    slow = """
import time, miao.synth.rendering as s
def stream_stems(*arguments, **settings):
    print("begun", flush=True)
    time.sleep(600)
    yield
s.stream_stems = stream_stems
main()
"""
    # programs that are started in the background ignore Ctrl-C; this one must not, however the tests were started
    process = command(
        "render",
        "song.mid",
        "--stems",
        "stems",
        code=slow,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == b"begun\n"
    assert list(folder.glob(".miao-*.part"))
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == expected and b"Traceback" not in said
    assert [path.name for path in folder.iterdir()] == ["song.mid"]


def test_ctrl_c_while_modules_are_imported_is_as_quiet():
    code = """
import sys, time
class Slow:
    def find_spec(name, path=None, target=None):
        if name == "miao.cli.main":
            print("begun", flush=True)
            time.sleep(600)
sys.meta_path.insert(0, Slow)
from miao.__main__ import run
run()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == b"" and process.returncode == 130


@pytest.mark.parametrize(("words", "said"), [
    (["song.mid", "-o", ""], "an empty name"), (["", "-o", "x.wav"], "an empty name"),
    (["song.mid", "--mood", ""], "is no mood"),
    (["song.mid", "--voice", "1=alto-sax", "--voice", "1=electric-bass"], "plays track 1 already"),
])  # fmt: skip
def test_what_asks_for_nothing_or_twice_is_refused(run, folder, words, said):
    result = run("render", *words)
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["song.mid"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_stdout_is_an_error(folder):
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-c", TOY + "main()", "render", "song.mid", "-o", "-"], stdout=full, stderr=subprocess.PIPE
        )
        said = process.communicate()[1].decode()
    assert process.returncode == 2
    assert said.splitlines()[-1] == "miao: stdout: cannot be written: no space left on device"


def test_help_and_import_load_nothing_heavy():
    code = """
import sys, miao
from miao.cli.main import main
sys.argv = ["miao", "--help"]
try:
    main()
except SystemExit:
    print(sorted({"numpy", "mido", "onnxruntime", "rich", "soundfile", "torch"} & set(sys.modules)))
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].startswith("Usage: miao") and lines[-1] == "[]"


def test_python_m_miao_is_the_command():
    result = subprocess.run([sys.executable, "-m", "miao", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"miao {version('miao-synth')}\n"


def test_a_rendering_of_its_own_ends_with_its_code_and_all_that_it_said(tmp_path, midi):
    (tmp_path / "song.mid").write_bytes(midi({"notes": [(0.0, 0.2, 60, 100)]}))
    for words, code, said in (
        (["song.mid", "-o", "-", "--to", "0.1"], 0, "times as fast as it plays"),
        (["nothing.mid"], 2, "miao: nothing.mid: there is no such file"),
    ):
        process = subprocess.run(
            [sys.executable, "-c", "from miao.cli.main import run; run()", "render", *words], cwd=tmp_path,
            capture_output=True,
        )  # fmt: skip
        assert process.returncode == code and said in process.stderr.decode()
        assert len(process.stdout) == (0 if code else 44 + 4 * 4410)


def test_the_command_that_is_asked_for_is_built_alone(monkeypatch):
    for name in ("registered_commands", "registered_groups"):
        monkeypatch.setattr(app, name, getattr(app, name))  # put back afterwards
    every = app.registered_commands, app.registered_groups
    for words in ([], ["--help"], ["voices"], ["rendering"]):
        _leave_out_all_but(words)
        assert (app.registered_commands, app.registered_groups) == every
    _leave_out_all_but(["match"])
    assert [one.callback.__name__ for one in app.registered_commands] == ["match"] and not app.registered_groups


# info, plot, version


def test_info_lists_what_will_and_what_will_not_be_heard(run, folder, midi):
    (folder / "odd.mid").write_bytes(
        midi(
            {"name": "[b]Solo[/b]", "notes": [(0, 61, 60, 90), (1, 2, 64, 90)], "controls": [(0, 12, 3)], "program": 40}
        )
    )
    result = run("info", "odd.mid")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "odd.mid: 1:01.0, 2 notes"
    row = next(line for line in result.stdout.splitlines() if "Solo" in line)
    assert row.split() == ["1", "[b]Solo[/b]", "Violin", "1", "2", "60-64", "2"]
    (ignored,) = json.loads(run("info", "odd.mid", "--json").stdout)["ignored"]
    assert "12" in ignored
    assert ignored in " ".join(result.stdout.split())


def test_info_says_which_programs_learnt_voices_play(run, folder, midi):
    notes = [(0, 1, 60, 90)]
    tracks = [
        {"notes": notes, "channel": 0, "program": 73},
        {"notes": notes, "channel": 1, "program": 41},
        {"notes": [(0, 1, 38, 90)], "channel": 9},
    ]
    (folder / "wind.mid").write_bytes(midi(*tracks))
    assert "learnt from recordings: Flute (as" in run("info", "wind.mid").stdout
    assert json.loads(run("info", "wind.mid", "--json").stdout)["learnt"] == ["Flute"]
    (folder / "strings.mid").write_bytes(midi(*tracks[1:]))
    assert "learnt" not in run("info", "strings.mid").stdout


def test_info_as_json_is_for_programs(run, folder):
    told = json.loads(run("info", "song.mid", "--json").stdout)
    assert told["seconds"] == pytest.approx(6.0, abs=0.01) and told["notes"] == 13
    assert told["ignored"] == told["warnings"] == []
    assert told["tracks"][1] == {
        "number": 2,
        "name": "Bass: a/b",
        "channel": 2,
        "programs": ["Fingered Bass"],
        "is_drum": False,
        "notes": 1,
        "lowest": 45,
        "highest": 45,
        "polyphony": 1,
    }


def test_plot_draws_a_picture_beside_the_song(run, folder):
    pytest.importorskip("matplotlib")
    assert run("render", "song.mid").exit_code == 0
    result = run("plot", "song.mid", "song.wav")
    assert (result.exit_code, result.stderr) == (0, "song.png\n")
    assert (folder / "song.png").read_bytes().startswith(b"\x89PNG")
    assert run("plot", "song.mid").exit_code == 2
    assert run("plot", "song.mid", "-o", "other.svg").exit_code == 0


def test_version_is_told_both_ways(run):
    assert run("version").stdout == run("--version").stdout == f"miao {version('miao-synth')}\n"


def test_every_command_shows_an_example(run):
    for name in ("render", "info", "plot"):
        assert f"miao {name} song.mid" in run(name, "--help").stdout


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (10.0, "0:10.0"), (125.34, "2:05.3"), (36_000.4, "10:00:00")],
)
def test_lengths_are_told_as_on_a_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.slow
def test_a_million_notes_are_read_within_a_minute_of_one_core(run, folder, midi):
    notes = b"".join(bytes([5, 0x90, 40 + n % 40, 64, 5, 0x80, 40 + n % 40, 64]) for n in range(1_000_000))
    head, rest = midi({"notes": [(0, 1, 60, 64)]}).split(b"MTrk")
    (folder / "black.mid").write_bytes(head + b"MTrk" + struct.pack(">I", len(notes) + 4) + notes + rest[-4:])
    began = time.process_time()  # of this process: others beside it do not count
    assert json.loads(run("info", "black.mid", "--json").stdout)["notes"] == 1_000_000
    assert time.process_time() - began < 60
