"""Many songs at once: what each file is called, that nothing stops the rest, and that a second call goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import mido
import pytest
import soundfile
from typer.testing import CliRunner

from miao.cli.main import app
from miao.errors import ConfigError
from miao.synth import many
from miao.synth.journal import JOURNAL, Job, Journal, Wishes, shown
from miao.synth.many import plan, render_job, render_many


def song(path, pitch=60, seconds=0.2):
    path.parent.mkdir(parents=True, exist_ok=True)
    on, off = mido.Message("note_on", note=pitch, velocity=90), mido.Message("note_off", note=pitch)
    mido.MidiFile(tracks=[mido.MidiTrack([on, off.copy(time=round(960 * seconds))])]).save(path)
    return path


def states(outcomes):
    return {outcome.job.target.name: outcome.state for outcome in outcomes}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}


def half_written(folder):
    return list(folder.rglob(".miao-*.part"))


def wait_until(is_so, patience=120):
    deadline = time.monotonic() + patience
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_folders_keep_their_shape_and_files_go_to_the_top(tmp_path):
    for name in ("in/b/two.MID", "in/one.mid", "in/b/notes.txt", "three.midi"):
        song(tmp_path / name)
    jobs = plan([tmp_path / "in", tmp_path / "three.midi", tmp_path / "in/one.mid"], tmp_path / "out", "flac")
    names = [str(job.target.relative_to(tmp_path / "out")) for job in jobs]
    assert names == [os.path.join("b", "two.flac"), "one.flac", "three.flac"]  # and none twice


def test_songs_of_one_name_become_files_of_their_own_the_same_ones_each_time(tmp_path):
    sources = [song(tmp_path / place) for place in ("a/x.mid", "b/x.mid", "b/X.midi", "y.mid")]
    targets = [job.target for job in plan(sources, tmp_path / "out")]
    assert len({str(target).casefold() for target in targets}) == 4
    assert targets[3].name == "y.wav"
    assert all(re.fullmatch(r"[xX] [0-9a-f]{8}\.wav", target.name) for target in targets[:3])
    assert [job.target for job in plan(sources[::-1], tmp_path / "out")] == targets[::-1]


def test_what_is_not_there_is_said_before_anything_is_rendered(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"nothing\.mid: there is no such file"):
        plan([tmp_path / "nothing.mid"], tmp_path)
    with pytest.raises(ConfigError, match="no MIDI file in this folder"):
        plan([tmp_path / "empty"], tmp_path)


def test_names_are_shown_on_one_line_whatever_they_are_made_of(tmp_path):
    assert shown("a\nb/日本 c.mid") == "a\\nb/日本 c.mid"
    assert shown(os.fsdecode(b"caf\xe9")) == "caf\\xe9"


@pytest.fixture
def collection(tmp_path):
    """Five songs with hard names, and one that is damaged."""
    folder = tmp_path / "in"
    for n, name in enumerate(("plain.mid", "with space.mid", "new\nline.mid", "日本.mid", "deep/er/song.mid")):
        song(folder / name, 60 + n)
    (folder / "bad.mid").write_bytes(b"MThd\0\0\0\6 no music")
    return folder


@pytest.fixture
def by_itself(monkeypatch):
    """From `by_itself()` on songs are rendered by the process that asks: to start another takes longer than they."""

    def rendered_here(jobs, wishes, n_jobs, journal, scheduler):
        for job in jobs:
            journal.begin(job, wishes)
            yield render_job(job, wishes)

    return lambda: monkeypatch.setattr(many, "_by_processes", rendered_here)


def test_one_bad_song_stops_none_and_a_second_call_does_only_what_is_missing(collection, tmp_path, by_itself):
    jobs = plan([collection], tmp_path / "out")
    first = list(render_many(jobs, tmp_path / "out", Wishes(), n_jobs=2))
    assert sorted(outcome.state for outcome in first) == ["failed", *["rendered"] * 5]
    (failed,) = (outcome for outcome in first if outcome.state == "failed")
    assert failed.job.source.name == "bad.mid" and "bad.mid" in failed.message
    for outcome in first:
        if outcome.state == "rendered":
            assert soundfile.info(outcome.job.target).duration == pytest.approx(outcome.seconds)
    by_itself()
    was, song_again = times(tmp_path / "out"), song(collection / "plain.mid", 72)
    missing = tmp_path / "out" / "日本.wav"
    missing.unlink()
    second = list(render_many(jobs, tmp_path / "out", Wishes()))
    assert states(second) == {
        "日本.wav": "rendered", "bad.wav": "failed", "plain.wav": "failed",  # another song now: it is not written over
        "with space.wav": "there", "new\nline.wav": "there", "song.wav": "there",
    }  # fmt: skip
    assert song_again.exists() and all(times(tmp_path / "out")[p] == t for p, t in was.items() if p != missing)
    third = list(render_many(jobs, tmp_path / "out", Wishes(force=True)))
    assert states(third)["plain.wav"] == "rendered" and states(third)["with space.wav"] == "there"
    assert not half_written(tmp_path)


def test_other_settings_do_not_pass_for_done_and_nothing_foreign_is_written_over(tmp_path, by_itself):
    by_itself()
    jobs = plan([song(tmp_path / "a.mid"), song(tmp_path / "b.mid")], tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.wav").write_bytes(b"mine")
    quiet = Wishes(settings={"loudness": -30.0})
    assert states(render_many(jobs, tmp_path / "out", quiet)) == {"a.wav": "rendered", "b.wav": "failed"}
    assert states(render_many(jobs, tmp_path / "out", Wishes())) == {"a.wav": "failed", "b.wav": "failed"}
    assert (tmp_path / "out" / "b.wav").read_bytes() == b"mine"


def test_a_rendering_that_did_not_end_is_not_taken_for_the_file_that_was_there(tmp_path, by_itself):
    by_itself()
    jobs = plan([song(tmp_path / "a.mid")], tmp_path / "out")
    wishes = Wishes(force=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.wav").write_bytes(b"old")
    with Journal(tmp_path / "out") as journal:
        journal.begin(jobs[0], wishes)  # and then the power fails
    with (tmp_path / "out" / JOURNAL).open("a") as journal:
        journal.write('{"target": "a.w')  # in the middle of a line
    assert states(render_many(jobs, tmp_path / "out", wishes)) == {"a.wav": "rendered"}
    assert states(render_many(jobs, tmp_path / "out", wishes)) == {"a.wav": "there"}


def test_what_is_begun_stands_in_the_journal_at_once(tmp_path):
    job = Job(song(tmp_path / "a.mid"), tmp_path / "out" / "a.wav")
    (tmp_path / "out").mkdir()
    with Journal(tmp_path / "out") as journal:
        journal.begin(job, Wishes())
        (line,) = (tmp_path / "out" / JOURNAL).read_text().splitlines()
        assert json.loads(line)["target"] == "a.wav"


def test_two_at_once_do_not_write_into_one_folder(tmp_path):
    jobs = plan([song(tmp_path / "a.mid")], tmp_path / "out")
    (tmp_path / "out").mkdir()
    with Journal(tmp_path / "out"), pytest.raises(ConfigError, match="somebody else is rendering into it"):
        next(render_many(jobs, tmp_path / "out", Wishes()))


def test_a_worker_that_is_killed_costs_its_own_song_only(tmp_path, by_itself):
    source = song(tmp_path / "in" / "long" / "0.mid", 50, 600)
    for n in range(1, 6):
        song(tmp_path / "in" / "short" / f"{n}.mid", 50 + n, 0.1)
    jobs = plan([tmp_path / "in"], tmp_path / "out")
    outcomes = []
    for outcome in render_many(jobs, tmp_path / "out", Wishes(), n_jobs=2):
        if not outcomes:  # the short songs run past the long one, which was begun first
            wait_until(lambda: half_written(tmp_path / "out" / "long"))
            (written,) = half_written(tmp_path / "out" / "long")
            os.kill(int(written.name.split("-")[1]), signal.SIGKILL)  # whose it is stands in its name
        outcomes.append(outcome)
    found = states(outcomes)
    assert found.pop("0.wav") == "failed" and set(found.values()) == {"rendered"} and len(found) == 5
    (failed,) = (outcome for outcome in outcomes if outcome.state == "failed")
    assert "SIGKILL" in failed.message and not (tmp_path / "out" / "long" / "0.wav").exists()
    assert not half_written(tmp_path)  # not its either
    song(source)
    by_itself()
    assert list(states(render_many(jobs, tmp_path / "out", Wishes())).values()).count("there") == 5


def test_a_fault_of_ours_is_told_and_a_full_disk_is_known_for_what_it_is(tmp_path, monkeypatch):
    job = Job(song(tmp_path / "a.mid"), tmp_path / "a.wav")

    class Broken:
        def render_file(self, *_, **__):
            raise TypeError("what is this?")

    monkeypatch.setattr(many, "_synthesizer", lambda bank: Broken())
    outcome = render_job(job, Wishes())
    assert outcome.state == "failed" and "TypeError: what is this?" in outcome.message and not outcome.is_disk_full


def test_only_the_tracks_that_are_wished_for_are_rendered(tmp_path, midi):
    tracks = [{"notes": [(0.0, seconds, 60, 90)], "channel": n} for n, seconds in enumerate((0.1, 0.2, 3.0))]
    (tmp_path / "a.mid").write_bytes(midi(*tracks))
    job = Job(tmp_path / "a.mid", tmp_path / "a.wav")
    for wished, is_heard in (((2,), False), ((1, 3), True)):
        assert render_job(job, Wishes(tracks=wished, settings={"room": "none"})).state == "rendered"
        sound, rate = soundfile.read(job.target)
        assert bool(abs(sound[2 * rate :]).max(initial=0) > 0.01) == is_heard  # where only the third one plays
    outcome = render_job(job, Wishes(tracks=(4,)))
    assert outcome.state == "failed" and "there is no track 4; the song has tracks 1 to 3" in outcome.message


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_a_full_device_counts_as_a_full_disk(tmp_path):
    outcome = render_job(Job(song(tmp_path / "a.mid"), many.Path("/dev/full")), Wishes(settings={"format": "wav"}))
    assert outcome.state == "failed" and outcome.is_disk_full


def command(*words):
    return [sys.executable, "-m", "miao", "render", *map(str, words)]


def run(*words):
    """The same in this process."""
    return CliRunner().invoke(app, ["render", *map(str, words)], prog_name="miao")


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal")
def test_ctrl_c_leaves_whole_files_only_and_the_same_command_goes_on(tmp_path, by_itself):
    for n in range(4):
        song(tmp_path / "in" / f"{n}.mid", 50 + n, 0.1)
    song(tmp_path / "in" / "9 long.mid", 40, 3600)
    words = (tmp_path / "in", "-o", tmp_path / "out", "--jobs", 2)
    # programs that are started in the background ignore Ctrl-C; this one must not, however the tests were started
    with subprocess.Popen(
        command(*words),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        said = [process.stderr.readline() for _ in range(4)]  # all but the long one
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "goes on where it was" in rest and "4 rendered, 1 not begun" in rest and "Traceback" not in rest, rest
    assert all(line.startswith("[") for line in said)
    wait_until(lambda: not half_written(tmp_path))
    assert not half_written(tmp_path) and len(times(tmp_path / "out")) == 4
    song(tmp_path / "in" / "9 long.mid", 40, 0.1)
    by_itself()
    again = run(*words[:-2])
    assert again.exit_code == 0 and "1 rendered, 4 were there" in again.stderr


def test_the_command_tells_by_its_exit_code(collection, tmp_path):
    half = collection / "plain.mid"
    half.write_bytes(half.read_bytes()[:-4] + b"\xff\x2f")  # its end is cut off: played, with a warning
    done = run(collection, "-o", tmp_path / "out", "-j", 2)
    assert done.exit_code == 3 and "6 songs: 5 rendered, 1 failed" in done.stderr
    assert all(line.startswith("[") for line in done.stderr.splitlines()[:-1]), done.stderr
    (collection / "bad.mid").unlink()
    done = run(collection, "-o", tmp_path / "out")
    assert done.exit_code == 0 and done.stderr == "5 songs: 5 were there\n" and not done.stdout
    journal = [json.loads(line) for line in (tmp_path / "out" / JOURNAL).read_text().splitlines()]
    assert {entry["target"] for entry in journal} >= {"plain.wav", "new\nline.wav"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{in}"], "name it with -o FOLDER"),
        (["{in}/plain.mid", "-", "-o", "{out}/"], "stdin is one song"),
        (["{in}", "-o", "{in}/plain.mid"], "is a file"),
        (["{in}", "-o", "{out}", "--stems", "s"], "are for one song at a time"),
        (["{in}", "{out}/nowhere.mid", "-o", "{out}"], "there is no such file"),
    ],
)
def test_wishes_that_cannot_be_are_one_line(collection, tmp_path, words, message):
    words = [word.replace("{in}", str(collection)).replace("{out}", str(tmp_path / "out")) for word in words]
    done = run(*words)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Dask's own
def test_two_workers_of_a_dask_cluster_render_them_all(collection, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        jobs = plan([collection], tmp_path / "out")
        address = cluster.scheduler_address
        first = list(render_many(jobs, tmp_path / "out", Wishes(), engine="dask", scheduler=address))
        assert sorted(states(first).values()) == ["failed", *["rendered"] * 5]
        second = list(render_many(jobs, tmp_path / "out", Wishes(), engine="dask", scheduler=address))
        assert sorted(states(second).values()) == ["failed", *["there"] * 5]
