# On a fresh machine: `make demo` and `make test`. Windows users find the plain pip lines in README.md.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
EPOCHS ?= 6
# Benchmarks that train: small drawn scans here; docs/training.md has the commands for real ones.
SHORT := --data synthetic

# Modules are compiled once; without this every start of the server would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run demo check fix test lowest bench pins

setup: .venv/.ready

.venv/.ready: requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.txt -r requirements-dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

run: setup
	$(BIN)/octa serve

demo: setup
	$(BIN)/octa demo --epochs $(EPOCHS) $(if $(DATA),--data $(DATA))

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup
	$(BIN)/python -m pytest -q -m "not acceptance"
	$(BIN)/python -m pytest -q -m acceptance

# With the oldest versions that pyproject.toml allows, whose own warnings are not ours to mend. For Python 3.11 or 3.12: some
# of these versions were never built for later ones.
lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable ".[dev]"
	.venv-lowest/bin/python -m pytest -q -m "not acceptance" -W ignore

bench: setup
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/accuracy.py $(SHORT) --hold-out 4 --seeds 42 --epochs 4 --set model=tiny_unet
	$(BIN)/python benchmarks/losses.py $(SHORT) --epochs 2 --patch-size 64 --losses dice_bce cldice
	$(BIN)/python benchmarks/signals.py
	$(BIN)/python benchmarks/serve.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/diagnose.py
	$(BIN)/python benchmarks/data_doctor.py
	$(BIN)/python benchmarks/repairs.py

pins: setup
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --extra dev -c requirements.txt pyproject.toml -o requirements-dev.txt
