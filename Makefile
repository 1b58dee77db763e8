# The one door: `make run` shows the main job, `make test` runs the tests. PYTHON picks another interpreter.
PYTHON ?= python3
BIN := .venv/bin
BACKENDS := deepface whisper pyannote openvino cuda

.PHONY: help install run serve lint test test-fast test-reference test-backends $(addprefix test-,$(BACKENDS)) bench protos docs clean

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

install: .venv/.installed ## Make a virtual environment with Affectline in it

.venv/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/.test: .venv/.installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

run: install ## Analyse the example call: timeline here, page in out/example.html
	@mkdir -p out
	$(BIN)/affectline analyze examples/dealership_call.flac --html out/example.html --with-audio
	@echo "Open out/example.html in a browser."

serve: install ## Serve the gRPC API on 127.0.0.1:50051
	$(BIN)/affectline serve

lint: .venv/.test ## Style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p affectline.models -p affectline.pipelines -p affectline.server -p benchmarks
	PYTHONPATH=.pkgroot $(BIN)/lint-imports

test: .venv/.test ## Every test but those against other implementations
	$(BIN)/affectline models pull
	$(BIN)/pytest -m "not reference and not backends"

test-fast: .venv/.test ## The tests that need no weights and no network
	$(BIN)/pytest -m "unit and not slow"

test-reference: .venv/.test ## Compare with openai-whisper on the same weights (installs PyTorch)
	$(BIN)/python -m pip install --quiet --editable '.[test,reference]'
	$(BIN)/affectline models pull whisper-base whisper-base-fp32
	$(BIN)/pytest -m reference

# Each optional backend in an environment of its own. Some are builds of onnxruntime, which take the usual one's place.
ONNXRUNTIME_OF_openvino := onnxruntime-openvino
ONNXRUNTIME_OF_cuda := onnxruntime-gpu

.venv-backends/%/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv .venv-backends/$*
	.venv-backends/$*/bin/python -m pip install --quiet --editable '.$(if $(ONNXRUNTIME_OF_$*),,[$*])' 'pytest>=9' pytest-asyncio
	$(if $(ONNXRUNTIME_OF_$*),.venv-backends/$*/bin/python -m pip uninstall --quiet --yes onnxruntime)
	$(if $(ONNXRUNTIME_OF_$*),.venv-backends/$*/bin/python -m pip install --quiet $(ONNXRUNTIME_OF_$*))
	@touch $@

test-backends: $(addprefix test-,$(BACKENDS)) ## Compare each optional backend with its own package (installs PyTorch, TensorFlow and more, apart)

$(addprefix test-,$(BACKENDS)): test-%: .venv-backends/%/.installed
	.venv-backends/$*/bin/affectline models pull
	.venv-backends/$*/bin/pytest -m backends tests/backends/test_$*.py

bench: .venv/.test ## Figures of the README; DATA=DIR holds labels.csv and its clips
	@test -n "$(DATA)" || { echo "make bench: expected DATA=DIR with labels.csv, found nothing"; exit 2; }
	$(BIN)/python -m pip install --quiet --editable '.[test,bench,reference]'
	$(BIN)/affectline models pull
	$(BIN)/affectline models pull whisper-base-fp32
	$(BIN)/python -m benchmarks.transcript --data $(DATA) --limit 80 --json benchmarks/results/transcript.json
	$(BIN)/python -m benchmarks.speed --data $(DATA) --json benchmarks/results/speed.json
	$(BIN)/python -m benchmarks.tables

docs: .venv/.test ## Write docs/models.md and docs/settings.md
	$(BIN)/python docs/generate.py

protos: .venv/.test ## Generate code from protos/
	PYTHON=$(BIN)/python protos/generate.sh

clean: ## Remove what the above made
	rm -rf .venv .venv-backends out build dist *.egg-info
