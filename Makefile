# Everything needs Go and nothing else, except `images`, `up`, `down` and
# `compose-smoke`, which need Docker. `make` alone prints what there is.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Tools are pinned in tools/go.mod, so that their modules stay out of ours.
TOOL := go tool -modfile=tools/go.mod

# The race detector needs a C compiler. Without one the tests run all the same,
# and say so.
RACE ?= $(shell [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null && echo -race)

# A program with the race detector sleeps a second before it exits, in case there is
# more to report. The tests start hundreds of them.
export GORACE ?= atexit_sleep_ms=20

# Packages, test names and more for `make test`: PKG=./internal/arbiter ARGS='-run Rank -v'
PKG ?= ./...
ARGS ?=

# The folder of the real input: git-history.ndjson and git-history.oracle.json.
DATA ?= ../shared/data

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
DIST := dist/linux-amd64
PROGRAMS := hierarchy submitter resolver executor observer
STATIC := CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

# Whichever answers: Compose v2, or docker-compose 1.29.
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: ## The whole system in one process: a workload, a summary, every invariant checked; under 30 s once it is built
	go run ./cmd/hierarchy demo

.PHONY: dev
dev: ## The whole system in one process, until Ctrl-C
	go run ./cmd/hierarchy dev

.PHONY: test
test: ## All tests with the race detector, never cached; PKG=./internal/arbiter ARGS='-run Rank'
	$(if $(RACE),,@echo 'make test: no C compiler, so WITHOUT the race detector')
	go test $(RACE) -count=1 -timeout 15m $(ARGS) $(PKG)

.PHONY: lint
lint: ## Linters; the version is pinned in tools/go.mod; ARGS=--fix repairs what can be repaired
	$(TOOL) golangci-lint run $(ARGS)

.PHONY: fmt
fmt: ## Format everything
	$(TOOL) gofumpt -w .

.PHONY: fmt-check
fmt-check: ## Fail if `make fmt` would change a file
	@files=$$($(TOOL) gofumpt -l .); [ -z "$$files" ] || { printf 'not formatted, run make fmt:\n%s\n' "$$files"; exit 1; }

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: check
check: fmt-check vet lint test ## What to run before every commit

.PHONY: bench
bench: ## Measure; ARGS='-h' for what can be chosen
	go run ./bench $(ARGS)

.PHONY: overload
overload: ## Ten times what one entity can take, and what that does to the others; ARGS='-duration 2m'
	go run ./bench/overload $(ARGS)

.PHONY: examples
examples: ## Build and run every example, and compare what it prints
	go test -count=1 ./examples/... $(ARGS)

.PHONY: real-input
real-input: ## 9,406 operations of a real history through a real process, compared with the oracle; DATA=folder
	go run ./bench/realinput -data $(DATA)/git-history.ndjson -oracle $(DATA)/git-history.oracle.json $(ARGS)

.PHONY: binaries
binaries: ## Static Linux binaries of all programs and of the NATS server of our go.mod, into dist/
	mkdir -p $(DIST)/data
	$(STATIC) -o $(DIST)/ $(PROGRAMS:%=./cmd/%)
	$(STATIC) -o $(DIST)/nats-server github.com/nats-io/nats-server/v2

.PHONY: images
images: binaries ## The two images hierarchy:dev and hierarchy-nats:dev, from scratch, without a registry
	docker build -q -f deploy/docker/hierarchy.Dockerfile -t hierarchy:dev $(DIST)
	docker build -q -f deploy/docker/nats.Dockerfile -t hierarchy-nats:dev $(DIST)

.PHONY: up
up: ## Three NATS nodes and the four roles on this machine (after `make images`); ARGS='--scale executor=4'
	$(COMPOSE) up -d $(ARGS)
	$(COMPOSE) ps

.PHONY: down
down: ## Stop them and drop their data
	$(COMPOSE) down -v --remove-orphans

.PHONY: compose-smoke
compose-smoke: images ## A short run through the cluster of three, on its own ports; cleans up after itself
	COMPOSE='$(COMPOSE)' deploy/smoke

# Which mutants: a pattern for their names; all of them take some minutes.
MUTANTS ?=

.PHONY: mutants
mutants: ## Deliberate faults in the code, each caught by the test named for it; MUTANTS='fence|epoch' for some
	go run ./internal/mutants -run '$(MUTANTS)' $(ARGS)

# How long each fuzz target runs. What one finds stays in testdata/fuzz of its
# package and is a test from then on.
FUZZTIME ?= 10s

.PHONY: fuzz
fuzz: ## Every fuzz target in turn, FUZZTIME=10s each; PKG=./pkg/op for those of one package
	@files=$$(grep -rl --include='*_test.go' '^func Fuzz' $(PKG:/...=) | sort) || true; \
	[ -n "$$files" ] || { echo 'there is no fuzz target in $(PKG)'; exit 1; }; \
	for file in $$files; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' "$$file"); do \
			echo "=== $$(dirname "$$file") $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $(ARGS) "./$$(dirname "$$file")"; \
		done; \
	done

.PHONY: ci
ci: ## Everything that CI runs
	.ci/run

.PHONY: clean
clean: ## Remove what was built
	rm -rf dist

.PHONY: linear
linear: ## 110,000 calls of many clients on three servers while everything breaks, checked for linearizability; ARGS='-seed 7 -calls 20000'
	go test -count=1 -timeout 60m -v ./scenarios/linear -args -calls 110000 $(ARGS)

# The fault to run, as for `go test -run`, and where the lines of JSON go.
FAULT ?= .
MACHINE_REPORT ?= $(CURDIR)/dist/machine.ndjson

.PHONY: machine
machine: ## Power cuts, full disks, partitions, flipped bits, wrong clocks, bad connections, as often as the sheet says; needs root; FAULT=Power
	mkdir -p $(dir $(MACHINE_REPORT))
	go test -count=1 -timeout 90m -v -run '$(FAULT)' ./scenarios/machine -args -form long -report $(MACHINE_REPORT) $(ARGS)

.PHONY: machine-short
machine-short: ## Six of these faults once, in two minutes; four of them need root
	go test -count=1 -timeout 10m -v -run '$(FAULT)' ./scenarios/machine -args -form short $(ARGS)

.PHONY: torture
torture: ## Kill, stop and restart everything under load, then prove that nothing was lost; 30 s; ARGS='--nodes 3 --duration 10m', ARGS=--matrix
	go run ./cmd/hierarchy torture $(ARGS)

.PHONY: takeover
takeover: ## How long nothing is decided after the owner of everything was killed, 100 times; ARGS='-rounds 10'
	go run ./bench/takeover $(ARGS)

# How many histories `make sim` plays, or the seed of the one it plays again.
HISTORIES ?= 10000
SEED ?=

.PHONY: sim
sim: ## 10,000 simulated histories under faults in a minute on two cores; SEED=n makes one again and prints all of it
	go test -count=1 -timeout 60m -v ./internal/sim $(if $(SEED),-sim.seed=$(SEED),-run '^TestHistories$$' -sim.histories=$(HISTORIES) -sim.progress) $(ARGS)

.PHONY: sim-planted
sim-planted: ## Ten faults planted in the program, one after the other: the simulator must find each, and its seed replay it
	go test -count=1 -timeout 60m -v -run TestPlantedFaultsAreFound ./internal/sim -sim.planted $(ARGS)
