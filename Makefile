# Go, git and make are all that is needed: everything else is pinned in tools/.

# Every module of the repository, the root first, save the pinned tools, what tests feed on, and compat, whose
# dependencies are large.
MODULES := $(sort $(patsubst %/,%,$(dir $(shell \
	git ls-files --cached --others --exclude-standard 'go.mod' '*/go.mod' ':!tools' ':!compat' ':!examples/*/tools/*' ':!*testdata/*'))))

# Where the generated code of an example comes from its own buf.gen.yaml.
EXAMPLES := $(sort $(patsubst %/,%,$(dir $(shell \
	git ls-files --cached --others --exclude-standard 'examples/*/buf.gen.yaml'))))

BUF  := go tool -modfile=$(CURDIR)/tools/go.mod buf
# These two run in every module, one of which has a go.work, beside which the go command takes no -modfile.
VULN = $(shell cd tools/release && go tool -n govulncheck)
LINT = $(shell cd tools/lint && go tool -n golangci-lint)
# Some of what makes releases is for every day: it is run in the module that has it.
RELEASE = cd tools/release && go run

# The race detector needs a C compiler.
RACE := $(if $(shell command -v $(or $(CC),gcc) clang),-race)

# The tests of the fault list.
FAULTS := ./discovery ./registration ./traffic

.PHONY: help
help: ## Show what there is to make
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: ## Watch calls survive a killed, a drained and a new server, and a lost etcd member
	@echo 'Building; the first time this takes a minute or two.'
	@cd examples && go run ./demo $(DEMOFLAGS)

.PHONY: test
test: MODULES += tools/release
# Three packages at a time, for the tests on real etcd wait more than they work.
test: ## Run all tests of all modules, with the race detector where there is a C compiler
	@$(if $(RACE),,echo 'No C compiler: the tests run without the race detector.')
	$(call each,go test $(RACE) -p 3 -timeout 10m $(TESTFLAGS) ./...)

.PHONY: compat
compat: MODULES := compat
compat: ## Check and test compat, beside the registries of other frameworks: the first time this takes ten minutes
	$(call each,go mod tidy -diff && $(LINT) run --allow-parallel-runners ./... && go test -timeout 5m $(TESTFLAGS) ./...)

# These modules require the oldest versions that they work with.
LOWEST := . outlierdetection integration/versions

.PHONY: oldest
oldest: MODULES := $(LOWEST)
oldest: ## Test what others link with the oldest Go, and the oldest of all else, which is what go.mod requires
	$(call each,export GOTOOLCHAIN=go$$(sed -n 's/^go //p' go.mod) && go vet ./... && go test $(TESTFLAGS) ./...)

.PHONY: newest
newest: MODULES := $(LOWEST)
newest: ## Test what others link with the newest of all that it requires
	$(call each,$(CURDIR)/tools/newest sh -c 'go vet ./... && go test $(TESTFLAGS) ./...')

# Which versions of etcd's client, and which etcd: see tools/versions. An etcd on the PATH is likely to be of a
# distribution, which has older ones than can be built with a Go of today.
CLIENTS ?= oldest v3.6 newest
SERVERS ?= $(shell command -v etcd) v3.5 v3.6 newest

.PHONY: versions
versions: ## Test with the oldest to the newest of etcd's clients against as many etcds (CLIENTS=oldest SERVERS=/usr/bin/etcd)
	tools/versions '$(CLIENTS)' '$(SERVERS)'

.PHONY: test-x10
test-x10: ## Run the tests against real etcd ten times in a row
	cd integration && go test $(RACE) -count=10 -timeout 2h $(TESTFLAGS) \
		$$(go list ./... | grep -v /generator)

# How long make fuzz takes for each target, of which there are some twenty, and which it takes.
FUZZTIME ?= 25s
FUZZ     ?= .

.PHONY: fuzz
fuzz: ## Fuzz the parsers of foreign bytes, ten minutes in all (FUZZTIME=10m for each FUZZ=FuzzLive)
	$(call each,$(CURDIR)/tools/fuzz '$(FUZZTIME)' '$(FUZZ)')

# How long a soak takes, and which faults it has; 0 chooses a seed.
DURATION ?= 5m
SEED     ?= 0

.PHONY: soak
soak: ## Throw random faults at 3 etcd members, 10 servers and 20 clients (DURATION=5m SEED=123)
	cd integration && go run $(RACE) ./soak -duration $(DURATION) -seed $(SEED)

.PHONY: cores
cores: ## Walk every sequence of events of the runtime's cores, up to a depth
	go test -count=1 -run 'Walk' ./runtime/internal/...

# How many schedules to walk, from which seed on (1; 0 chooses), and for how many minutes at most; or which one alone.
SEEDS   ?=
FIRST   ?=
MINUTES ?=

.PHONY: simulate
simulate: ## Walk random schedules of faults in virtual time (SEEDS=1000 FIRST=0 MINUTES=2, or SEED=17 alone)
	cd simulation && go run ./cmd/simulate $(if $(SEED),$(if $(filter-out file,$(origin SEED)),-seed $(SEED))) \
		$(if $(FIRST),-first $(FIRST)) $(if $(SEEDS),-seeds $(SEEDS)) $(if $(MINUTES),-minutes $(MINUTES))

# Which ways to measure, by a pattern; the page is written when it is all of them.
WAY ?=
# How many MiB the caller keeps in use of its own.
OWN ?= 64

.PHONY: hostile
hostile: ## Have one of ten services written to by someone hostile, and write docs/hostile.md (WAY=config for a part of it)
	cd integration && go run ./hostile -way '$(WAY)' -own $(OWN) -write ../docs/hostile.md

.PHONY: mutants
mutants: ## Show that fault tests fail when what they test is taken out
	cd integration && go run ./mutants

# What make reliability measures, and how often.
RUNS    ?= 10
FIGURES := cmd/reliability/figures.jsonl

.PHONY: reliability
reliability: ## Run the fault tests RUNS times and a soak, and write docs/reliability.md from what they measure
	rm -f integration/$(FIGURES)
	cd integration && export RELIABILITY_REPORT=$(CURDIR)/integration/$(FIGURES) && \
		go test $(RACE) -count=$(RUNS) -p 1 -timeout 2h $(FAULTS) && \
		go run $(RACE) ./soak -duration $(DURATION) -seed $(SEED) && \
		go run ./cmd/reliability

.PHONY: bench
bench: ## Measure beside the peers and write docs/performance.md: SCENARIO=NAME for a part of it
	cd bench && go run . $(if $(SCENARIO),-scenario $(SCENARIO))

.PHONY: scale
scale: ## Measure how cost grows and write docs/scaling.md
	cd bench && go run . -scenario scale -rounds 2

.PHONY: generate
generate: ## Write all generated code again
	$(BUF) generate
	@set -e; for example in $(EXAMPLES); do (set -x; cd $$example; \
		go tool protoc-gen-go-etcd export third_party/etcd; $(BUF) generate); done
	go test -count=1 -run TestFilesAreTheExamples ./internal/quickstart -update

.PHONY: golden
golden: ## Accept the plugin's present output as the expected one; look at the diff
	cd integration/generator && go test . -update

.PHONY: lint
lint: MODULES += tools/release
lint: ## Check the Go and the proto files, and that go.mod is tidy and actions are pinned
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(RELEASE) ./tidy -diff $(abspath $(MODULES))
	$(call each,$(LINT) run --allow-parallel-runners ./...)
	@! grep -n 'uses:' .github/workflows/*.yml | grep -vE 'uses: [^@ ]+@[0-9a-f]{40} # v[0-9]' || \
		{ echo 'Pin these actions by the hash of a commit, with their version behind it.' >&2; exit 1; }

.PHONY: api
api: ## Compare the exported API of the modules for others with that of the last release
	@$(RELEASE) ./api -C $(CURDIR)

# Which version to release: v1.2.3, or v1.2.3-rc.1.
VERSION ?=

.PHONY: release
release: ## Commit and tag the release VERSION=v1.2.3 of the modules for others; it pushes nothing
	@$(RELEASE) . -C $(CURDIR) '$(VERSION)'

.PHONY: rehearsal
rehearsal: ## Release a clone, and run what README and docs say to fetch the modules with
	cd tools/release && go test -count=1 -timeout 15m -v ./rehearsal -rehearse

.PHONY: sbom
sbom: ## Write what the modules for others link, with versions and licences, to dist/
	cd tools/release && go run ./sbom -out $(CURDIR)/dist

.PHONY: vuln vuln-newest
vuln: MODULES := $(filter-out $(LOWEST),$(MODULES))
vuln: vuln-newest ## Look for known vulnerabilities that are reached; needs https://vuln.go.dev
	$(call each,$(VULN) ./...)

# What these require at the least may have some, which nobody has to keep: what counts is that the newest have none.
vuln-newest: MODULES := $(LOWEST)
vuln-newest:
	$(call each,$(CURDIR)/tools/newest $(VULN) ./...)

.PHONY: tidy
tidy: MODULES += compat tools/release
tidy: ## Tidy all modules
	$(RELEASE) ./tidy $(abspath $(MODULES))

# each runs a command in every module, to the last one, and fails if it failed in any.
each = @status=0; for module in $(MODULES); do echo "== $$module: $(1)"; \
	(cd $$module && $(1)) || status=1; done; exit $$status
