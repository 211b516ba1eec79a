"""What a page has learnt from recordings, and whether a sound is a recording of a song: `miao learn` and `miao match`
by another door."""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miao.bank.frames import WINDOW_SECONDS
from miao.bank.learnt_voice import SUFFIX, LearntVoice, check_name, voice_paths, voices_folder
from miao.bank.matching import Match, Matcher
from miao.errors import BankError, needs
from miao.files import make_folder
from miao.sound.audio import read_audio
from miao.synth.arrangement import Arrangement
from miao.synth.settings import PlaySettings
from miao.synth.synthesizer import Synthesizer
from miao.web.guard import Refusal
from miao.web.jobs import Job
from miao.web.songs import Song
from miao.web.sounds import Sound

if TYPE_CHECKING:
    from miao.sound.audio import Audio

LISTEN_SECONDS = 12.0


def match(job: Job, folder: Path, song: Song, sound: Sound, longest: float) -> None:
    """How sure it is that a sound is a recording of a song, and where they part. Raises: MiaoError."""
    job.tell(0.05, "reading the sound")
    audio = read_audio(sound.path, longest)
    job.tell(0.2, "comparing")
    found = Matcher(folder).match(song.score, audio)
    job.result = {
        "probability": round(found.probability, 4), "seconds": round(max(song.seconds, audio.duration), 3),
        "window_seconds": WINDOW_SECONDS, "segment_seconds": found.segment_seconds,
        "windows": _numbers(found.windows), "similarity": _numbers(found.similarity), "apart": apart(found),
    }  # fmt: skip


def apart(found: Match) -> list[list[float]]:
    """Stretches, seconds, of windows that are more likely wrong than right."""
    stretches: list[list[float]] = []
    for n, chance in enumerate(found.windows):
        if chance < 0.5:  # never true of windows with nothing to compare
            start, end = n * WINDOW_SECONDS, (n + 1) * WINDOW_SECONDS
            if stretches and stretches[-1][1] == start:
                stretches[-1][1] = end
            else:
                stretches.append([start, end])
    return stretches


def learn(
    job: Job, synthesizer: Synthesizer, name: str, sounds: list[Sound], song: Song | None, longest: float
) -> None:  # fmt: skip
    """A voice from recordings: of single notes, or of a song. The job's files are what to listen to, before and after,
    and the voice. Raises: MiaoError."""
    needs("train")
    about = {"source": sounds[0].path.name, "instrument": "", "licence": "", "origin": ""}
    job.tell(0.0, "learning")
    if song is not None:
        _learn_music(job, synthesizer, name, sounds, song, about, longest)
    else:
        _learn_notes(job, synthesizer, name, sounds, about)
    voice: LearntVoice = job.kept[0]
    voice.save(job.folder / f"{name}{SUFFIX}")
    job.files[f"{name}{SUFFIX}"] = job.folder / f"{name}{SUFFIX}"


def keep(job: Job, voices: dict[str, LearntVoice], *, is_for_good: bool) -> dict[str, Any]:
    """The voice that a job has learnt is the client's from here on, and its user's for good where that is allowed.

    Raises: Refusal if the job has learnt none; BankError if there is such a voice or the disk refuses.
    """
    if job.kept is None or job.state != "done":
        raise Refusal("this work has learnt no voice")
    voice: LearntVoice = job.kept[0]
    if is_for_good:
        make_folder(voices_folder(), BankError)
        voice.save(voices_folder() / f"{voice.name}{SUFFIX}", force=False)
    voices[voice.name] = voice
    return {"voice": voice.name, "is_saved": is_for_good}


def voice_name(name: Any, taken: dict[str, LearntVoice]) -> str:
    """A name that a new voice can have. Raises: BankError."""
    plain = check_name(str(name)[:40])
    if plain in voice_paths() or plain in taken:
        raise BankError(f'there is a voice "{plain}" already; choose another name')
    return plain


def _learn_notes(job: Job, synthesizer: Synthesizer, name: str, sounds: list[Sound], about: dict[str, str]) -> None:
    from miao.datasets.voice_sources import recordings_from
    from miao.training.new_voice import new_voice

    folder = job.folder / "notes"
    folder.mkdir()
    for sound in sounds:
        shutil.copy(sound.path, folder / sound.path.name)
    recordings, remarks = recordings_from(folder)
    made = new_voice(synthesizer.bank, recordings, name, about, tell=job.tell)
    job.kept = (made.voice, None)
    scores = {} if made.scores is None else {"before": round(made.scores.before_aligned, 2),
                                             "after": round(made.scores.after, 2)}  # fmt: skip
    job.result = {"voice": name, "from": made.voice.about.get("set_out_from", ""), "kept": made.kept, "scores": scores,
                  "remarks": remarks, "notes": len(recordings)}  # fmt: skip
    for take, audio in made.listening.items():
        _listen(job, take, audio)


def _learn_music(
    job: Job, synthesizer: Synthesizer, name: str, sounds: list[Sound], song: Song, about: dict[str, str],
    longest: float,
) -> None:  # fmt: skip
    from miao.training.music_voice import learn_music
    from miao.training.performances import asked_program, read_performance

    places = [n for n, track in enumerate(song.score.tracks) if not track.notes["is_drum"].all()]
    is_kit = not places  # drums alone
    places = places or list(range(len(song.score.tracks)))
    performance = read_performance(sounds[0].path, song.score, places, longest)
    made = learn_music(synthesizer.bank, [performance], name, about,
                       like=None if is_kit else asked_program([performance]),
                       tell=lambda done: job.tell(0.9 * done))  # fmt: skip
    job.kept = (made.voice, made.room)
    start = made.voice.about.get("set_out_from", "")
    job.result = {"voice": name, "from": start, "kept": "learnt", "remarks": list(made.remarks),
                  "scores": {"before": round(made.scores.one_gain, 2), "after": round(made.scores.all, 2)},
                  "room": None if made.room is None else round(made.room.t60_seconds, 2)}  # fmt: skip
    _listen(job, "recorded", read_audio(sounds[0].path, LISTEN_SECONDS))
    score = performance.score.select(places)
    told = re.match(r"program (\d+)", start)
    tracks = {str(n): {"program": int(told[1])} if told else {} for n in range(1, len(places) + 1)}
    excerpt = PlaySettings(end=LISTEN_SECONDS)
    _listen(job, "before", synthesizer.render(Arrangement.of({"tracks": tracks}).score(score), excerpt))
    voices: dict[int, Any] = dict.fromkeys(range(1, len(places) + 1), made.voice)
    _listen(job, "after", synthesizer.render(score, excerpt, voices=voices, room=made.room or "none"))


def _listen(job: Job, take: str, audio: "Audio") -> None:
    audio.save(job.folder / f"{take}.wav", force=True)
    job.files[f"{take}.wav"] = job.folder / f"{take}.wav"


def _numbers(values: Any) -> list[float | None]:
    return [None if value != value else round(float(value), 4) for value in values]
