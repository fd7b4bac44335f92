"""`vqbook topics`: fit topics to your own documents, apply them to others, show them again."""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from vqbook.data.sets import DataError
from vqbook.results import atomic_write

RUN = "run.json"
OURS = (RUN, "topics.csv", "documents.csv", "report.html")


def add_commands(commands: Any, whole: Any, natural: Any) -> None:
    """Put `topics` among the commands of a parser.

    Args:
        commands: what `add_subparsers` gave.
        whole, natural: the types of whole numbers from 1 and from 0.
    """
    command = commands.add_parser("topics", help="topics of your own documents")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    text = "Fit topics to a folder of .txt files, or to the rows of a .csv, .tsv, .jsonl or .json file."
    fit = actions.add_parser(
        "fit", help="fit topics to documents; write tables and a report", description=text
    )
    text = "Give the topics of other documents, by a model that `vqbook topics fit` has made."
    apply = actions.add_parser("apply", help="the topics of other documents", description=text)
    show = actions.add_parser("show", help="print the topics again", description="Print the topics of a fit.")
    for action in (apply, show):
        action.add_argument("folder", type=Path, metavar="MODEL", help="the folder that `fit` wrote")
    for action in (fit, apply):
        action.add_argument("path", type=Path, metavar="PATH", help="the documents: a folder or a file")
        action.add_argument(
            "--text-column", metavar="NAME", help="column of the texts (default: by its name)"
        )
        action.add_argument("--name-column", metavar="NAME", help="column of the documents' names")
        action.add_argument("--overwrite", action="store_true", help="replace an earlier result")
    fit.add_argument("--model", choices=_names(), default="tvq-vae", help="default: tvq-vae")
    fit.add_argument("--topics", type=whole, default=20, metavar="T", help="how many (default: 20)")
    fit.add_argument(
        "--embedding", choices=("word2vec", "glove50", "minilm"), help="word vectors, for tvq-vae and etm"
    )
    fit.add_argument(
        "--stop-words", default="english", metavar="WHICH", help="english, none or a file of words"
    )
    fit.add_argument("--lemmatise", action="store_true", help="count dictionary forms (English)")
    fit.add_argument(
        "--min-df", type=whole, metavar="N", help="fewest documents with a word (default: by size)"
    )
    fit.add_argument("--seed", type=natural, default=0, help="default: 0")
    fit.add_argument("--out", type=Path, help="folder to write (default: NAME-topics)")
    apply.add_argument("--out", type=Path, help="file to write (default: NAME-documents.csv)")
    fit.set_defaults(run=_fit)
    apply.set_defaults(run=_apply)
    show.set_defaults(run=_show)


def _names() -> tuple[str, ...]:
    return ("lda", "prodlda", "etm", "bertopic", "tvq-vae")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _fit(arguments: argparse.Namespace) -> None:
    from vqbook.topics import outputs, own
    from vqbook.topics.documents import read_documents
    from vqbook.topics.model import load_model
    from vqbook.topics.report import render

    model_class = own.model_class(arguments.model)
    if arguments.topics < model_class.min_topics:
        raise ValueError(
            f"{model_class.name} needs at least {model_class.min_topics} topics: with one topic alone every "
            "document would be the same; ask for more topics (--topics)."
        )
    if arguments.embedding and own.MODELS[arguments.model][1] is None:
        raise ValueError(
            f"{arguments.model} reads no word vectors: leave out --embedding {arguments.embedding}."
        )
    began = time.monotonic()
    documents = read_documents(
        arguments.path, text_column=arguments.text_column, name_column=arguments.name_column
    )
    settings = own.Settings(
        model=arguments.model,
        topics=arguments.topics,
        embedding=arguments.embedding or own.MODELS[arguments.model][1],
        stop_words=arguments.stop_words,
        lemmatise=arguments.lemmatise,
        min_df=arguments.min_df or own.default_min_df(len(documents)),
        seed=arguments.seed,
    )
    _say(f"read {documents.source}")
    folder = arguments.out or Path(f"{_stem(arguments.path)}-topics")
    stop_words = own.stop_list(settings.stop_words)
    run = {"settings": settings.as_dict(), "documents": documents.digest(), "stop_words": stop_words}
    if _finished(folder, run, arguments.overwrite):
        _say(f"{folder} has this already; --overwrite fits again")
        return _told(folder)
    corpus = own.count_words(documents, settings, stop_words)
    notes = [*documents.notes, *own.care(documents, corpus)]
    for note in notes:
        _say(f"note: {note}")
    _say(f"{len(corpus):,} documents, {len(corpus.words):,} words, {len(corpus.tokens):,} tokens")
    if arguments.overwrite:
        for name in OURS:
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "model", ignore_errors=True)
    _write_run(folder, run | {"finished": False})
    if settings.embedding:
        _say(f"word vectors: {settings.embedding}")
    corpus = own.embed(corpus, settings.embedding, seed=settings.seed, progress=sys.stderr.isatty())
    if (folder / "model" / "model.json").is_file():
        _say(f"going on with the model in {folder / 'model'}")
        model = load_model(folder / "model")
    else:
        _say(f"fitting {model_class.name} with {settings.topics} topics")
        model = own.fit_model(corpus, settings, progress=sys.stderr.isatty())
        model.save(folder / "model")
    found = own.measure(model, corpus)
    if len(found.order) < settings.topics:
        notes.append(
            f"{model.name} found {len(found.order)} topics, fewer than the {settings.topics} asked for."
        )
        _say(f"note: {notes[-1]}")
    atomic_write(folder / "topics.csv", outputs.topic_table(found))
    atomic_write(
        folder / "documents.csv",
        outputs.document_table(documents, corpus.kept, corpus.lengths, found.theta),
    )
    _say("drawing the report")
    page = outputs.make_report(found, documents, model, settings, notes, _typed(arguments, settings))
    atomic_write(folder / "report.html", render(page).encode())
    _write_run(folder, run | {"finished": True, "order": found.order.tolist()})
    _told(folder)
    _say(f"wrote {folder} in {time.monotonic() - began:.0f} s; open {folder / 'report.html'} in a browser")


def _finished(folder: Path, run: dict[str, Any], overwrite: bool) -> bool:
    """Whether the folder has this fit; refuses one that has anything else, unless another fit may be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"'{folder}' is a file: choose another --out.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    if not (folder / RUN).is_file():
        raise DataError(f"'{folder}' holds other things than a topic fit: choose another --out.")
    if overwrite:
        return False
    old = _read_run(folder)
    if any(old.get(key) != value for key, value in run.items()):
        raise DataError(
            f"'{folder}' holds a fit of other documents or settings: choose another --out, or say --overwrite."
        )
    return bool(old.get("finished")) and all((folder / name).is_file() for name in OURS)


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / RUN
    if not path.is_file():
        raise DataError(
            f"'{folder}' is not a folder that `vqbook topics fit` wrote: there is no {RUN} in it."
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["settings"], found["documents"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"'{path}' is damaged: fit again with --overwrite.") from None
    return found


def _write_run(folder: Path, run: dict[str, Any]) -> None:
    atomic_write(folder / RUN, (json.dumps(run, indent=1, ensure_ascii=False) + "\n").encode())


def _stem(path: Path) -> str:
    name = path.expanduser().resolve().name
    return name.removesuffix(".gz").rsplit(".", 1)[0] if path.is_file() else name


def _typed(arguments: argparse.Namespace, settings: Any) -> str:
    """The command that makes the same again."""
    words = ["vqbook", "topics", "fit", str(arguments.path)]
    given = {
        "text_column": arguments.text_column,
        "name_column": arguments.name_column,
        **settings.as_dict(),
    }
    for name, value in given.items():
        option = "--" + name.replace("_", "-")
        if value is True:
            words.append(option)
        elif value not in (None, False, "english"):
            words += [option, str(value)]
    return shlex.join(words)


def _apply(arguments: argparse.Namespace) -> None:
    import numpy as np

    from vqbook.topics import outputs, own
    from vqbook.topics.documents import read_documents
    from vqbook.topics.model import load_model

    run = _read_run(arguments.folder)
    if not run.get("finished"):
        raise DataError(f"the fit in '{arguments.folder}' has not come to its end: run the same `fit` again.")
    out = arguments.out or Path(f"{_stem(arguments.path)}-documents.csv")
    if out.exists() and not arguments.overwrite:
        raise DataError(f"'{out}' is there already: choose another --out, or say --overwrite.")
    documents = read_documents(
        arguments.path, text_column=arguments.text_column, name_column=arguments.name_column
    )
    settings = own.Settings(**run["settings"])
    model = load_model(arguments.folder / "model")
    corpus = own.recount(documents, model.words, settings.lemmatise)
    for note in documents.notes:
        _say(f"note: {note}")
    _say(f"{len(corpus):,} of {len(documents):,} documents have words that the model knows")
    # Models remember what they need of word vectors; a token's vector depends on the text around it.
    corpus = own.embed(
        corpus, "minilm" if settings.embedding == "minilm" else None, progress=sys.stderr.isatty()
    )
    theta = model.transform(corpus)[:, run["order"]]
    atomic_write(out, outputs.document_table(documents, corpus.kept, corpus.lengths, theta))
    counts = np.bincount(theta.argmax(1), minlength=theta.shape[1])
    for number, words in _topic_words(arguments.folder):
        print(f"{counts[number - 1]:>7,} documents  topic {number}: {', '.join(words[:8])}")
    _say(f"wrote {out}")


def _topic_rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "topics.csv"
    if not path.is_file():
        _read_run(folder)
        raise DataError(f"'{folder}' has no topics.csv: run the same `fit` again.")
    return list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))


def _topic_words(folder: Path) -> list[tuple[int, list[str]]]:
    return [(int(row["topic"]), row["words"].split()) for row in _topic_rows(folder)]


def _told(folder: Path) -> None:
    from vqbook.topics.outputs import TOP, terminal_table

    print(
        terminal_table(
            (int(row["topic"]), float(row["share"]), float(row["npmi"]), row["words"].split()[:TOP])
            for row in _topic_rows(folder)
        )
    )


def _show(arguments: argparse.Namespace) -> None:
    run = _read_run(arguments.folder)
    _told(arguments.folder)
    told = ", ".join(f"{key} {value}" for key, value in run["settings"].items() if value is not None)
    print(f"\n{told}")
