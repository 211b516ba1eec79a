"""The commands that make data and banks: `miao data soundfont`, `miao data pairs`, `miao train`, `miao export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miao.cli.terminal import clock, numbers, progress, say
from miao.errors import DataError, MiaoError, needs

if TYPE_CHECKING:
    from miao.bank.voices import VoiceTable
    from miao.datasets.notes import NoteData

Font = Annotated[Path, typer.Argument(metavar="FILE", help="An .sf2 or .sf3 file.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Processes.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a training run.")]
Data = Annotated[
    list[Path],
    typer.Option("--data", metavar="FOLDER", help="Shards made by `miao data`: notes, pairs, or one of each."),
]
_HELD_OUT, _PEERS_HELD_OUT = 256, 64  # pairs that a run is measured on


def soundfont(
    font: Font,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the shards go.")],
    voices: Annotated[
        str | None,
        typer.Option(
            metavar="1,5-8",
            help="Only these voices, and what kits and variations have of them: 1 to 128 are programs, "
            "129 to 189 drum keys.",
        ),
    ] = None,
    jobs: Jobs = 2,
) -> None:
    """Render the notes of a sound bank and measure them into audio tokens, its kits and variations too.

    Can be interrupted; the same command goes on where it was.

    \b
    miao data soundfont MuseScore_General.sf2 -o notes
    """
    needs("train", "joblib", "fluidsynth")
    from miao.bank.voices import N_VOICES
    from miao.datasets.kits import FILE, begin, find_extras, load_extras, own_voices, save_extras
    from miao.datasets.notes import prepare, source_of
    from miao.datasets.soundfont import SoundFont
    from miao.datasets.variations import find_variations, load_variations, numbered, save_variations, variations_folder

    chosen = [number - 1 for number in (numbers(voices) if voices else range(1, N_VOICES + 1))]
    if not all(0 <= voice < N_VOICES for voice in chosen):
        raise MiaoError(f"there are voices 1 to {N_VOICES}")
    sources = {voice: source_of(voice) for voice in chosen}
    teacher = SoundFont(font)
    begin(output, chosen)
    if not (output / FILE).is_file():
        with progress("listening to kits") as tell:
            keys = [source.key for source in sources.values() if source.key is not None]
            save_extras(find_extras(teacher, tell, keys), output)
    if load_variations(output) is None:
        with progress("listening to variations") as tell:
            programs = [source.program for source in sources.values() if source.key is None]
            save_variations(find_variations(teacher, tell, programs), output)
    sources |= {extra.voice: extra.source for extra in own_voices(load_extras(output))}
    with progress("measuring") as tell:
        for n, _ in enumerate(prepare(font, output, sources, jobs), start=1):
            tell(n / (2 * len(sources)))
    say(f"{output}: {2 * len(sources)} shards")
    if more := numbered(load_variations(output) or ()):
        with progress("measuring variations") as tell:
            for n, _ in enumerate(prepare(font, variations_folder(output), more, jobs), start=1):
                tell(n / len(more))
        say(f"{variations_folder(output)}: {len(more)} shards")


def pairs(
    font: Font,
    scores: Annotated[
        list[Path], typer.Option(metavar="FOLDER", help="MIDI files whose notes are played; may be repeated.")
    ],
    notes: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Shards of `miao data soundfont`, or a bank's name or folder: whose voices play."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the shards go.")],
    number: Annotated[int, typer.Option(min=1, metavar="N", help="Windows to make for training.")] = 4096,
    mixes: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Of the windows, with all tracks; the others hold one.")
    ] = 0.25,
    sound: Annotated[bool, typer.Option("--sound", help="Keep the sound too: the peers need it.")] = False,
    jobs: Jobs = 2,
) -> None:
    """Make pairs of MIDI and sound with a sound bank: windows of real scores, played by its voices.

    Can be interrupted; the same command goes on where it was.

    \b
    miao data pairs MuseScore_General.sf2 --scores midi --notes notes -o pairs
    miao data pairs MuseScore_General.sf2 --scores midi --notes gm --mixes 0 --sound -o pairs
    """
    needs("train", "joblib", "fluidsynth")
    from miao.bank.folder import bank_folder
    from miao.datasets.bank_pairs import PairSettings, make_pairs

    notes = notes if notes.is_dir() else bank_folder(str(notes))
    with progress("making pairs") as tell:
        for done in make_pairs(font, scores, notes, output, PairSettings(number, mixes=mixes, keeps_sound=sound), jobs):
            tell(done)
    say(f"{output}: {number} pairs to train on")


@dataclass(frozen=True)
class Material:
    """What `--data` names."""

    notes: "list[NoteData] | None"
    pairs: Path | None
    validation: Path | None
    table: "VoiceTable"

    @staticmethod
    def of(folders: list[Path]) -> "Material":
        """Raises: DataError if a folder holds neither notes nor pairs, or two hold the same."""
        from miao.bank.voices import N_VOICES, VoiceTable
        from miao.datasets.notes import load_notes, load_table

        notes = pairs = validation = table = None
        for folder in folders:
            if any(folder.glob("voice_*.npz")):
                if notes is not None:
                    raise DataError(f"{folder}: notes have been given already; one folder of them at a time")
                notes, table = load_notes(folder, range(N_VOICES)), load_table(folder)  # kits are learnt later
                continue
            train = folder / "train" if (folder / "train").is_dir() else folder
            if not any(train.glob("pairs-*.tar")):
                raise DataError(f"{folder}: holds neither voice_*.npz (notes) nor pairs-*.tar (pairs); see `miao data`")
            if pairs is not None:
                raise DataError(f"{folder}: pairs have been given already; one folder of them at a time")
            pairs = train
            validation = folder / "validation" if any((folder / "validation").glob("pairs-*.tar")) else None
            if table is None:
                table = VoiceTable.load(folder / "voices.safetensors")
        assert table is not None
        return Material(notes, pairs, validation, table)

    def all_notes(self) -> "list[NoteData]":
        """The measured notes, those of pairs too."""
        from itertools import chain

        from miao.datasets.pairs import notes_of, read_shard, shards_of

        found = list(self.notes or ())
        if self.pairs is not None:
            found += chain.from_iterable(notes_of(pair) for path in shards_of(self.pairs) for pair in read_shard(path))
        return found


def train(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="A preset's name, or a .toml file.")],
    folders: Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="The run's folder.")],
    devices: Annotated[int, typer.Option(min=1, metavar="N", help="Processes, or GPUs, of each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, metavar="M", help="Machines.")] = 1,
    accelerator: Annotated[str, typer.Option(metavar="NAME", help="cpu or cuda.")] = "cpu",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting to change, such as train.steps=500."),
    ] = None,
) -> None:
    """Train the nets on measured notes, on pairs of MIDI and sound, or both; a folder that holds a run is gone on with.

    At each checkpoint it is measured on held-out pairs, if there are any, and plays a few notes into clips/.

    \b
    miao train gm --data notes -o runs/gm
    miao train pairs --data pairs --devices 2 -o runs/pairs
    miao train midi2wave --data pairs -o runs/midi2wave
    torchrun --nproc_per_node 2 -m miao train pairs --data pairs -o runs/pairs
    """
    needs("train")
    from miao.config import load_preset
    from miao.peers.trained import KINDS, held_out_losses, peer_of, peer_trainer
    from miao.training.clips import render_clips
    from miao.training.held_out import held_out_pairs, measure
    from miao.training.scheme import RunConfig, load_model, load_understanding, miao_trainer
    from miao.training.trainer import launched

    peer = peer_of(preset)
    settings: Any = RunConfig if peer is None else KINDS[peer].run_config()
    config = load_preset(settings, preset, tuple(changes or ()))
    fabric = launched(devices, nodes, accelerator)
    material = Material.of(folders)
    if peer is not None:
        if material.pairs is None:
            raise DataError(f"{preset} is trained on pairs with their sound; make them with `miao data pairs --sound`")
        trainer = peer_trainer(preset, tuple(changes or ()), output, material.pairs, fabric)
    else:
        trainer = miao_trainer(config, output, notes=material.notes, pairs=material.pairs, fabric=fabric)
    if trainer.resume() and fabric.is_global_zero:
        say(f"{output}: goes on from step {trainer.step_number}")
    held_out = []
    if material.validation and trainer.config.batch.pairs:
        held_out = held_out_pairs(material.validation, _HELD_OUT if peer is None else _PEERS_HELD_OUT)
    last = trainer.config.train.steps

    def told(values: dict[str, float]) -> str:
        return ", ".join(f"{name} {value:.3f}" for name, value in values.items())

    def log(step: int, means: dict[str, float], seconds: float) -> None:
        say(f"step {step} of {last}, {clock((last - step) * seconds)} to go: {told(means)}")

    def checkpoint(folder: Path) -> dict[str, float]:
        if peer is None:
            render_clips(folder, material.table)
        if not held_out:
            return {}
        if peer is None:
            has_audio = config.objective.audio_encoder
            results = measure(load_model(folder), load_understanding(folder) if has_audio else None, held_out)
        else:
            results = held_out_losses(trainer, held_out)
        say(f"on {len(held_out)} held-out pairs: {told(results)}")
        return {f"held_out/{name}": value for name, value in results.items()}

    trainer.fit(log, checkpoint)


def finish(
    bank: Annotated[str, typer.Argument(metavar="BANK", help="A bank's folder: what it lacks is written into it.")],
    font: Annotated[Path, typer.Option("--soundfont", metavar="FILE.sf2", help="What its nets were trained on.")],
    notes: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Shards of `miao data soundfont`.")],
    only: Annotated[
        str | None,
        typer.Option(
            metavar="kits|taught|spectra|drums|keys|openings|wavers|sides|lasting|variations",
            help="This step alone, with the others as they are.",
        ),
    ] = None,
) -> None:
    """Give a bank what needs no training of its nets: kits, spectra, drums, loudness, openings, held notes, variations.

    Can be interrupted; the same command goes on where it was.

    \b
    miao finish my-bank --soundfont MuseScore_General.sf2 --data notes
    """
    needs("train", "fluidsynth")
    from miao.datasets.soundfont import SoundFont
    from miao.training.finish import STEPS, done, left

    if only is not None and only not in STEPS:
        raise MiaoError(f'there is no step "{only}"; there are {", ".join(STEPS)}')
    SoundFont(font).close()  # whether it is one is not told after minutes
    todo = [only] if only else left(bank, notes)
    for name in todo:
        what, step = STEPS[name]
        with progress(what) as tell:
            step(bank, font, notes, tell)
        done(bank, name)
        say(f"{bank}: {what}")
    if not todo:
        say(f"{bank}: nothing is left to do; --only STEP does a step again ({', '.join(STEPS)})")


def export(
    run: Run,
    folders: Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BANK", help="The bank's folder.")],
    context: Annotated[bool, typer.Option(help="Whether the bank hears what is played around a note.")] = True,
) -> None:
    """Make a bank, to render with, out of a training run.

    \b
    miao export runs/gm --data notes -o my-bank
    miao render song.mid --bank my-bank
    """
    needs("train")
    from dataclasses import replace

    from miao.training.export import export_bank, export_understanding, power_trim
    from miao.training.scheme import load_model

    material = Material.of(folders)
    trim = power_trim(load_model(run), material.all_notes(), len(material.table.kind))
    export_bank(run, replace(material.table, trim_db=trim), output, uses_context=context)
    if (run / "understanding.safetensors").exists():
        export_understanding(run, output)
    say(str(output))
