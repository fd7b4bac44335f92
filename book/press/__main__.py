"""``python -m press``: sync, notebooks, prove, check, address, mathjax."""

from __future__ import annotations

import argparse
import re
import sys

from press import address, equations, how_fast, mathjax, sync
from press.markup import PressError
from press.source import ROOT, Chapter, all_chapters
from vqbook.results import Ledger


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="press", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("sync", help="print new prose into both editions; stops where code changed since it ran")
    run = steps.add_parser("notebooks", help="execute the chapters whose code changed, print both editions")
    run.add_argument("--profile", choices=("smoke", "read", "full"), default="read")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--force", action="store_true", help="execute all, changed or not")
    run.add_argument("chapters", nargs="*", help="slugs such as 03_vqvae; default: all")
    steps.add_parser("prove", help="run the proof of every equation, print the page that lists them")
    steps.add_parser("check", help="say which file is not what the press would print; writes nothing")
    steps.add_parser("address", help="write the address of pyproject.toml wherever it stands")
    steps.add_parser("mathjax", help="copy MathJax into book/_static")
    arguments = parser.parse_args(argv)
    try:
        return _step(arguments)
    except PressError as error:
        print(f"press: {error}", file=sys.stderr)
        return 1


def _step(arguments: argparse.Namespace) -> int:
    if arguments.step == "mathjax":
        mathjax.main()
        return 0
    if arguments.step == "address":
        return _address()
    ledger, chapters = Ledger(), all_chapters()
    if arguments.step == "check":
        found = sync.differences(chapters, ledger) + equations.differences(chapters)
        return _report(found + how_fast.differences(ledger))
    failed = equations.prove() if arguments.step == "prove" else []
    sync.write_page(equations.PAGE, equations.page(chapters, equations.stored()))
    if arguments.step == "prove":
        return _report(failed)
    sync.write_ledger_page(ledger)
    sync.write_page(how_fast.TABLES, how_fast.tables(ledger))
    if arguments.step == "notebooks":
        for chapter in _chosen(chapters, arguments.chapters):
            if arguments.force or sync.stale(chapter, ledger):
                print(f"press: executing {chapter.slug} at profile {arguments.profile}", flush=True)
                sync.run(chapter, ledger, profile=arguments.profile, seed=arguments.seed)
            else:
                sync.press(chapter, ledger)
        return 0
    old = [c.slug for c in chapters if sync.stale(c, ledger)]
    for chapter in chapters:
        if chapter.slug not in old:
            sync.press(chapter, ledger)
    return _report([f"{name}: its code changed since it was executed; run `make notebooks`" for name in old])


def _chosen(chapters: list[Chapter], slugs: list[str]) -> list[Chapter]:
    unknown = set(slugs) - {c.slug for c in chapters}
    if unknown:
        raise PressError(f"no chapter is called {sorted(unknown)}; there are {[c.slug for c in chapters]}")
    return [c for c in chapters if not slugs or c.slug in slugs]


def _address() -> int:
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    match = re.search(r"url: *https://github\.com/([\w.-]+/[\w.-]+)", config)
    if match is None:
        raise PressError("_config.yml names no repository url")
    for path in address.rewrite(match[1].removesuffix(".git")):
        print(f"press: {path}")
    print("press: now run `make student` to print the address into the notebooks")
    return 0


def _report(problems: list[str]) -> int:
    for problem in problems:
        print(f"press: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
