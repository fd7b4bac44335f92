# Discrete Latents: from codebooks to topics. `make book` and `make test` are all that a newcomer needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SITE := book/_build/html
PRESS := PYTHONPATH=book $(BIN)/python -m press
PROFILE ?= read
DATA := $(if $(VQBOOK_DATA),$(VQBOOK_DATA),$(wildcard ../shared/data))
SOURCES := _config.yml _toc.yml $(shell find book notebooks -name _build -prune -o -name mathjax -prune -o -type f -print 2>/dev/null)

.PHONY: help book serve test test-notebooks notebooks student prove lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make book       build the site and print the file to open"
	@echo "make serve      build it and serve it on http://127.0.0.1:8000"
	@echo "make test       lint, unit tests, exercises, notebooks at profile smoke, site and browser"
	@echo "make notebooks  execute the chapters whose code changed (PROFILE=read) and print both editions"
	@echo "make student    print both editions again after a change of prose"
	@echo "make prove      run the proof of every equation and print the page that lists them"
	@echo "make lint       ruff and mypy;   make bench: timings;   make clean: remove what was built"

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 11) else "This book needs Python 3.11 or newer; $(PYTHON) is %d.%d. Try: make PYTHON=python3.12 …" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[book,test,topics]"
	@touch $@

$(SITE)/.built: $(INSTALLED) $(SOURCES)
	$(PRESS) sync
	$(PRESS) mathjax
	$(BIN)/jupyter-book build . --path-output book --all -W -n --keep-going --quiet
	@touch $@

book: $(SITE)/.built
	@echo "The book is built. Open $(abspath $(SITE))/index.html"

serve: book
	$(BIN)/python -m http.server --directory $(SITE) --bind 127.0.0.1 8000

test: book lint
	OMP_NUM_THREADS=1 VQBOOK_DATA="$(DATA)" $(BIN)/python -m pytest -n 2 --dist loadscope
	$(MAKE) --no-print-directory test-notebooks

test-notebooks: $(INSTALLED)
	OMP_NUM_THREADS=1 VQBOOK_PROFILE=smoke VQBOOK_EXPLORE=still VQBOOK_DATA= $(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-sanitize-with tests/sanitize.cfg -n 2 --dist loadfile notebooks --ignore notebooks/student

notebooks: $(INSTALLED)
	VQBOOK_DATA="$(DATA)" $(PRESS) notebooks --profile $(PROFILE) $(if $(FORCE),--force) $(CHAPTERS)

student: $(INSTALLED)
	$(PRESS) sync

prove: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PRESS) prove

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	@touch $@

bench: .venv/.bench
	$(BIN)/python -m vqbook bench --ledger

clean:
	rm -rf book/_build book/_static/mathjax
