"""The press: one MyST source per chapter becomes the page edition, the student edition and the ledger page.

``source``    reads a chapter: cells, exercises, numbers of equations, figures and exercises
``markup``    splits Markdown into text and directives, and rewrites roles
``page``      the executed page edition in ``notebooks/`` (what the site shows and nbval tests)
``student``   the lowered student edition in ``notebooks/student/`` (what Colab opens)
``execute``   runs a page edition at a profile and stamps its provenance
``ledger``    the ledger page and the numbers that prose takes from ``book/results``
``equations`` the proofs of ``book/proofs`` and the page that lists them
``address``   the repository's address, which stands in ``pyproject.toml`` alone
``mathjax``   the local copy of MathJax

Run it with ``python -m press`` (the Makefile sets the path); ``--help`` lists the steps.
"""
