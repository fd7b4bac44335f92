"""The command line: train, measure, look after data, print the ledger."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqbook import data
from vqbook.data.registry import SETS
from vqbook.results import Ledger, atomic_write
from vqbook.topics import command as topics

PROFILES = ("smoke", "read", "full")
# Verb, then experiment: its module, its settings by profile, its runner. Modules are imported when asked for.
# A runner is called as run(settings, seed=..., checkpoint=...) and gives an experiments.Outcome.
EXPERIMENTS = {
    "train": {
        "vqvae": ("vqbook.experiments", "VQVAE", "run_vqvae"),
        "remedies": ("vqbook.remedies", "REMEDIES", "run_remedies"),
        "remedies-settings": ("vqbook.remedies", "REMEDIES", "run_settings"),
        "alignment": ("vqbook.alignment", "ALIGNMENT", "run_alignment"),
    },
    "measure": {
        "rate-distortion": ("vqbook.experiments", "RATE_DISTORTION", "run_rate_distortion"),
        "gradient-bias": ("vqbook.gradient_bias", "GRADIENT_BIAS", "run_gradient_bias"),
        "gmvq-study": ("vqbook.gmvq_study", "STUDY", "run_gmvq_study"),
        "gmvq-study-settings": ("vqbook.gmvq_study", "SETTINGS", "run_gmvq_study"),
        "gmvq-figure4": ("vqbook.gmvq_study", "FIGURE4", "run_gmvq_study"),
        "gmvq-plateau": ("vqbook.plateau", "PLATEAU", "run_plateau"),
        "gmvq-faces": ("vqbook.gmvq_study", "FACES", "run_gmvq_study"),
        "tvqvae-text-halves": ("vqbook.halves", "HALVES", "run_halves"),
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well, 1 when data or files stood in the way (one sentence on stderr says which), 130
        when interrupted. Wrong arguments leave with 2.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("\nvqbook: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except (data.DataError, ValueError, OSError) as error:
        print(f"vqbook: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vqbook", description="The experiments and data of Discrete Latents."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pictures = [name for name, entry in SETS.items() if entry.kind == "images"]
    for verb, text in (
        ("train", "train models; keep checkpoints and pictures"),
        ("measure", "make a measurement, training small models where it needs some"),
    ):
        command = commands.add_parser(verb, help=text, description=text)
        command.add_argument("experiment", choices=EXPERIMENTS[verb])
        command.add_argument("--data", choices=pictures, help="data set (default: the profile's)")
        command.add_argument(
            "--profile", choices=PROFILES, default=_default_profile(), help="size of the run"
        )
        which = command.add_mutually_exclusive_group()
        which.add_argument("--seed", type=_natural, default=0, help="one run with this seed (default: 0)")
        which.add_argument("--seeds", type=_positive, help="several runs, with seeds 0, 1, ...")
        command.add_argument("--out", type=Path, help="folder for results (default: runs/NAME-DATA-PROFILE)")
        command.add_argument("--ledger", action="store_true", help="record into the book's results")
        if verb == "train":
            command.add_argument("--steps", type=_positive, help="another number of steps, for trying things")
        command.set_defaults(run=_experiment, verb=verb, parser=command)

    command = commands.add_parser(
        "reproduce",
        help="make a table of a paper again",
        description="Make a table of a paper again, one run for each row and seed. Finished runs are kept in the "
        "folder: the same command goes on where an earlier one stopped, and several commands may share a folder.",
    )
    tables = command.add_subparsers(required=True, metavar="TABLE")
    for verb, text in (
        ("gmvq-table1", "GM-VQ's Table 1: all rows"),
        ("gmvq-table1-settings", "the trials on held-out training images that choose its rows' settings"),
    ):
        command = _table(tables, verb, text)
        command.add_argument(
            "--data", metavar="NAME", help="cifar10, celeba, faces64 or glyphs (default: the profile's)"
        )
        command.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows, such as vqvae gmvq")
        command.add_argument(
            "--steps", type=_positive, help="another number of steps in a run; makes an entry of its own"
        )
        command.set_defaults(run=_reproduce, trials=verb.endswith("-settings"))
    for verb, text in (
        ("tvqvae-text", "topic models of documents: all models and topic counts"),
        ("tvqvae-text-settings", "the trials on validation documents that choose their settings"),
    ):
        command = _table(tables, verb, text)
        command.add_argument(
            "--corpus", metavar="NAME", help="20ng, nyt, agnews, ap, lee or bars (default: the profile's)"
        )
        if verb == "tvqvae-text":
            command.add_argument("--topics", nargs="+", type=_positive, metavar="T", help="topic counts")
        command.add_argument(
            "--models", nargs="+", metavar="MODEL", help="only these, such as lda tvq-vae-w2v"
        )
        command.set_defaults(run=_reproduce_text, trials=verb.endswith("-settings"), topics=None)

    command = commands.add_parser("data", help="list, fetch or check data sets")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="all sets, and where they are").set_defaults(run=_data_list)
    for action, text in (
        ("fetch", "make a set available here"),
        ("check", "load every split and describe it"),
    ):
        sub = actions.add_parser(action, help=text, description=text)
        sub.add_argument("name", choices=data.names(), metavar="NAME", help=", ".join(data.names()))
        sub.set_defaults(run=_data_check)

    topics.add_commands(commands, _positive, _natural)

    command = commands.add_parser("ledger", help="print the recorded results")
    command.add_argument("names", nargs="*", metavar="NAME", help="experiments (default: all)")
    command.set_defaults(run=_ledger)

    command = commands.add_parser(
        "bench", help="time code search, quantiser layers, GM-VQ and topic models against alternatives"
    )
    command.add_argument(
        "kinds", nargs="*", metavar="KIND", help="search, layer, gmvq (default: these), topics (minutes)"
    )
    command.add_argument("--repeats", type=_positive, default=5, help="paired repeats (default: 5)")
    command.add_argument("--sizes", type=_size, nargs="+", metavar="N,K,D", help="vectors, codes, dimensions")
    command.add_argument("--ledger", action="store_true", help="record into the book's results")
    command.set_defaults(run=_bench)
    return parser


def _table(tables: Any, verb: str, text: str) -> argparse.ArgumentParser:
    """The parser of one table, with what all tables share."""
    command = tables.add_parser(verb, help=text, description=text)
    command.add_argument("--profile", choices=PROFILES, default=_default_profile(), help="size of the runs")
    command.add_argument("--seeds", type=_positive, default=1, help="seeds 0, 1, ... (default: 1)")
    command.add_argument("--jobs", type=_positive, default=1, help="models trained at once on one device")
    command.add_argument("--minutes", type=_minutes, help="stop cleanly before so many minutes are over")
    command.add_argument("--out", type=Path, help="folder for results (default: runs/TABLE-DATA-PROFILE)")
    command.add_argument("--ledger", action="store_true", help="record what is whole into the book's results")
    return command


def _default_profile() -> str:
    name = os.environ.get("VQBOOK_PROFILE", "")
    return name if name in PROFILES else "read"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0, got {text!r}")
    return int(text)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _size(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"must be N,K,D such as 65536,512,64, got {text!r}")
    n, k, d = (_positive(part) for part in parts)
    return n, k, d


def _bench(arguments: argparse.Namespace) -> None:
    from vqbook import bench

    for kind in arguments.kinds or bench.KINDS:
        if kind == "topics":
            from vqbook import bench_topics, table_bench

            topics = bench_topics.run(repeats=arguments.repeats)
            print(f"\n{kind}\n\n{topics.corpus}\n\n{table_bench.table(topics.values)}", flush=True)
            if arguments.ledger:
                bench_topics.record(topics)
            continue
        found = bench.run(kind, sizes=arguments.sizes, repeats=arguments.repeats)
        print(f"\n{kind}\n\n{bench.table(found)}", flush=True)
        if arguments.ledger:
            bench.record(found)


def _reproduce(arguments: argparse.Namespace) -> None:
    from vqbook import reproduce

    reproduce.reproduce(
        name=arguments.data,
        rows=arguments.rows or tuple(reproduce.ROWS),
        steps=arguments.steps,
        **_of_a_table(arguments),
    )


def _reproduce_text(arguments: argparse.Namespace) -> None:
    from vqbook import reproduce_text

    reproduce_text.reproduce(
        corpus=arguments.corpus,
        topics=arguments.topics,
        models=arguments.models or tuple(reproduce_text.ROWS),
        **_of_a_table(arguments),
    )


def _of_a_table(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the commands of all tables take alike."""
    same = ("profile", "trials", "jobs", "minutes", "out", "ledger")
    return {name: getattr(arguments, name) for name in same} | {"seeds": range(arguments.seeds)}


def _experiment(arguments: argparse.Namespace) -> None:
    where, sizes, runner = EXPERIMENTS[arguments.verb][arguments.experiment]
    module = importlib.import_module(where)
    settings = dict(getattr(module, sizes)[arguments.profile])
    words, parts = f"vqbook {arguments.verb} {arguments.experiment}", [arguments.experiment]
    if "data" in settings:
        settings["data"] = arguments.data or settings["data"]
        words += f" --data {settings['data']}"
        parts.append(settings["data"])
    elif arguments.data:
        arguments.parser.error(f"{arguments.experiment} needs no data set: leave out --data")
    extra = ""
    if getattr(arguments, "steps", None):
        if arguments.ledger:
            arguments.parser.error("--ledger takes the profile's own number of steps: leave out --steps")
        settings["steps"] = arguments.steps
        extra = f" --steps {arguments.steps}"
    name = "-".join([*parts, arguments.profile])
    command = f"{words} --profile {arguments.profile}{extra}"
    for seed in range(arguments.seeds) if arguments.seeds else [arguments.seed]:
        folder = (arguments.out or Path("runs") / name) / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "checkpoint.safetensors"
        if arguments.verb == "train" and checkpoint.exists():
            print(f"vqbook: going on from {checkpoint}; delete it to start over", file=sys.stderr)
        outcome = getattr(module, runner)(settings, seed=seed, checkpoint=checkpoint)
        record = dict(
            values=outcome.values,
            command=command,
            data=outcome.data,
            note=outcome.note,
            profile=arguments.profile,
            seed=seed,
            device=outcome.device,
            seconds=outcome.seconds,
            history=outcome.history,
        )
        Ledger(folder).record(name, **record)
        if arguments.ledger:
            Ledger().record(name, **record)
        print(f"{name}, seed {seed}: {outcome.data}")
        if outcome.note:
            print(f"note: {outcome.note}")
        print(outcome.summary)
        if outcome.pictures is not None:
            atomic_write(folder / "reconstructions.png", _png(*outcome.pictures))
        print("wrote " + ", ".join(str(path) for path in sorted(folder.iterdir())))
    if arguments.ledger:
        print(f"recorded {name} in {Ledger().folder}")


def _png(x: Any, x_hat: Any) -> bytes:
    """Originals above, reconstructions below, four times as large, as PNG."""
    import io

    import numpy as np
    from PIL import Image

    rows = []
    for images in (x, x_hat):
        pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()  # (n, H, W, C)
        framed = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
        rows.append(np.concatenate(list(framed), axis=1))
    sheet = np.concatenate(rows, axis=0).repeat(4, 0).repeat(4, 1)
    file = io.BytesIO()
    Image.fromarray(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet).save(file, "png")
    return file.getvalue()


def _data_list(arguments: argparse.Namespace) -> None:
    for row in data.describe():
        where = row["here"] or (f"not here; {row['fetched']} to fetch" if row["fetched"] else "not here")
        print(f"{row['name']:18} {row['kind']:7} {row['what']}\n{'':26} {where}")


def _data_check(arguments: argparse.Namespace) -> None:
    for split in data.describe(arguments.name)[0]["splits"]:
        found = data.load(arguments.name, split)
        shape = f", {tuple(found.x.shape[1:])} {found.x.dtype}" if isinstance(found, data.ImageSet) else ""
        print(f"{found.name} {split}: {len(found):,} items{shape}; {found.source}")
        if found.note:
            print(f"note: {found.note}")


def _ledger(arguments: argparse.Namespace) -> None:
    ledger = Ledger()
    for name in arguments.names or ledger.names():
        entry = ledger.load(name)
        print(f"{name}: {entry['data']}\n{entry['command']}")
        if entry["note"]:
            print(f"note: {entry['note']}")
        print(ledger.table([name], list(entry["runs"][0]["values"])) + "\n")
