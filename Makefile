# Puff. `make serve` and `make test` are enough on a machine with git, make and Python; `make help` lists the rest.
# PYTHON chooses the interpreter of a new .venv; BUILD and VENV let a second tree stand beside the first.

PYTHON ?= python3
VENV   ?= .venv
BUILD  ?= build/dev
ARGS   ?=

export PATH := $(abspath $(VENV))/bin:$(PATH)
export PYTHONDONTWRITEBYTECODE ?= 1
py      := $(VENV)/bin/python
ready   := $(VENV)/.ready
built   := $(BUILD)/.installed
servers := $(py) -m puff.embedded env --
sources  = $(shell find include puffloop meson.build meson.options pyproject.toml -type f -not -name '*.pyc')

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 15

setup: $(ready) ## system packages (by apt where it may), .venv, test tools
$(ready): vendor/manifest.txt tests/requirements.txt tests/requirements-old.txt
	tools/system-packages $(PYTHON)
	tools/make-venv $(PYTHON) $(VENV) && touch $@

build: $(built) ## compile what changed and install it into .venv
$(built): $(ready) $(sources)
	tools/build $(BUILD) $(VENV) && touch $@

serve: build ## the guestbook on Puff, with a Postgres and a Redis of its own
	cd examples/guestbook && puff serve --asgi app:app $(ARGS)

test: test-c test-py ## everything that must pass
test-c: build ## the core's unit tests, against real servers
	$(servers) meson test -C $(BUILD) --print-errorlogs $(ARGS)
test-py: build ## the Python suite
	$(py) -m pytest $(ARGS)
test-dev: build ## the Python suite in Python's development mode
	PYTHONDEVMODE=1 PYTHONMALLOC=debug $(py) -m pytest --tb=native $(ARGS)

asan: build ## the core's unit tests under ASan and UBSan
	test -f build/asan/build.ninja || meson setup build/asan -Dpython=false --werror -Db_sanitize=address,undefined \
	    -Dc_args=-fno-sanitize-recover=undefined
	$(servers) meson test -C build/asan --print-errorlogs $(ARGS)
asan-py: $(ready) ## the Python suite with the core and the extensions under both
	tools/asan-py $(VENV) $(ARGS)
valgrind: build ## the core's unit tests under valgrind
	$(servers) meson test -C $(BUILD) --print-errorlogs --timeout-multiplier 20 $(ARGS) \
	    --wrap 'valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite'

test-all: ## `make test` on each CPython from 3.10 to 3.13 that is here
	tools/test-all
test-unstable: ## `make test` on CPython 3.14 and the newest libraries, in a folder that debootstrap fills
	tools/test-debian unstable test
test-bare: ## `make test` on a Debian 12 that has git, make and Python only
	tools/test-debian bookworm test

lint: $(ready) ## format, style and the house's own rules
	tools/lint check && $(py) -m pytest -q tests/lint
fmt: $(ready) ## format C and Python in place
	tools/lint fix
typing: build ## mypy --strict and pyright, on the package and on a user's program
	tools/typing

bench: ## Puff and its peers, side by side
	examples/bench/run $(ARGS)
bench-loop: ## one table of it: the loop
	examples/bench/run loop
bench-http: ## one table of it: HTTP
	examples/bench/run http
bench-wsgi: ## one table of it: WSGI
	examples/bench/run wsgi
bench-postgres: ## one table of it: Postgres
	examples/bench/run postgres
bench-redis: ## one table of it: Redis
	examples/bench/run redis
bench-greenlet: ## two tables of it: greenlets and asgiref; a Django view with three queries
	examples/bench/run greenlet django
wheel: $(ready) ## dist/*.whl, repaired by auditwheel and tried in an empty environment
	tools/wheel $(VENV)
clean: ## everything that make made, but not .venv
	rm -rf build dist

.PHONY: help setup build serve test test-c test-py test-dev asan asan-py valgrind test-all test-unstable test-bare lint fmt typing bench bench-loop bench-http bench-wsgi bench-postgres bench-redis bench-greenlet wheel clean
