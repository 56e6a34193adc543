# Builds, checks and shows Quotakeeper. `make` alone says how.
# Everything that is installed or built lies in the cache, by version: a fresh checkout starts warm.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/quotakeeper
export CARGO_TARGET_DIR ?= $(CACHE)/target
export PYTHONDONTWRITEBYTECODE := 1

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/tools-cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

# How long each step took, printed at the end. PPID is this make's own number; one that it calls has the same file.
ifndef QUOTAKEEPER_TIMES
export QUOTAKEEPER_TIMES := $(or $(TMPDIR),/tmp)/quotakeeper-make.$(shell echo $$PPID)
endif

comma := ,

# $(call step,NAME,COMMAND): says what begins, runs it, notes its time.
define step
@echo "▶ $(1)"; begun=$$SECONDS; $(2); took=$$((SECONDS - begun)); \
printf '  %3d min %02d s  %s\n' $$((took / 60)) $$((took % 60)) "$(1)" | tee -a "$(QUOTAKEEPER_TIMES)"
endef
define times
@echo "✔ $@ took"; cat "$(QUOTAKEEPER_TIMES)"; \
awk '{ seconds += $$1 * 60 + $$3 } END { printf "  %3d min %02d s  in all\n", seconds / 60, seconds % 60 }' \
"$(QUOTAKEEPER_TIMES)"; rm -f "$(QUOTAKEEPER_TIMES)"
endef

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: check
check: steps-of-check ## format, clippy, licences, docs, generated files, unit tests (about 5 minutes warm)
	$(times)

.PHONY: test
test: steps-of-check steps-of-test steps-on-clusters-that-can-be-had ## check, the simulator's scenarios, the stories with real SDKs, and cluster-test where it can be had
	$(times)

.PHONY: steps-of-check
steps-of-check: $(CARGO_DENY)
	$(call step,format,cargo fmt --all --check)
	$(call step,clippy,cargo clippy --workspace --all-targets -- -D warnings)
	$(call step,licences and bans,$(CARGO_DENY) --workspace check --hide-inclusion-graph bans licenses sources)
	$(call step,docs,RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps)
	$(call step,programs and tests are built,cargo test --workspace --no-run)
	$(call step,unit tests and generated files,tests/built.py --at-once 2 '*:*' '!quotakeeper:test' '!quotakeeper-simulator:test')
	$(call step,examples of the documentation,cargo test --workspace --doc)

.PHONY: steps-of-test
steps-of-test:
	$(call step,simulated scenarios,tests/built.py --at-once 2 quotakeeper-simulator:test)
	$(call step,SDKs for the stories,tests/sdk/install.sh)
	$(call step,stories with real SDKs,tests/built.py quotakeeper:on_one_machine -- --test-threads $(STORIES_AT_ONCE))

# Most of a test is waiting, for windows to pass and for processes to start: more of them at once than cores.
export RUST_TEST_THREADS ?= 8
# A story with an SDK starts several Python processes.
STORIES_AT_ONCE ?= 4

# What a night is for; a failing seed or case is printed and runs again by itself.
SOAK_SEEDS ?= 10000
SOAK_MINUTES ?= 60
SOAK_CASES ?= 50000
# Those that say ONLY_WHEN_NAMED. They need root and Debian.
LONG_STORIES_ON_A_CLUSTER := test_streams_outlive_limiters_and_pods test_token_limits_are_used_in_the_long_run \
	test_limiters_follow_each_other_for_long

# The tests that draw their cases by chance, and their crates.
PROPERTIES_OF := quotakeeper-dialects quotakeeper-engine quotakeeper-inject quotakeeper-wire counting-provider
PROPERTIES := any_answer_is_read a_ramp_is_its_units nothing_is_lost_and_a_second_look what_a_proxy_says_arrives \
	what_a_limiter_says_arrives random_bytes damaged_messages nothing_panics every_call_ends_once the_log_recounted

.PHONY: generate
generate: ## write anew what is generated: CRDs, reference, pages of metrics and of events, values of the chart, session messages, the report's schema, goldens that need no API server (seconds once built)
	UPDATE_CRDS=1 cargo test --quiet -p quotakeeper-api --test crds_are_up_to_date
	UPDATE_PROTO=1 cargo test --quiet -p quotakeeper-wire --test codec generated_code_is_fresh
	UPDATE_GOLDEN=1 cargo test --quiet -p quotakeeper-inject --test decisions
	UPDATE_GOLDEN=1 cargo test --quiet -p quotakeeper-proxy -p quotakeeper-limiter -p quotakeeper-operator --lib metrics
	UPDATE_GOLDEN=1 cargo test --quiet -p quotakeeper-operator --lib the_page_of_events
	UPDATE_GOLDEN=1 cargo test --quiet -p quotakeeper --bin quotakeeper documented_schema
	cp crates/inject/webhook.yaml crates/inject/policy.yaml charts/quotakeeper/files/
	charts/values_table.py

.PHONY: plots
plots: ## draw the plots of docs/ anew (a minute)
	cargo run --quiet -p quotakeeper-simulator --bin simulate -- plots docs/plots

.PHONY: generate-all
generate-all: generate ## generate, and the goldens of helm, of kubectl and of Events on API servers of their own (minutes)
	@tests/cluster/tools.sh kube etcd coredns helm >/dev/null
	UPDATE_GOLDEN=1 tests/cluster/stories/chart_renders.sh
	UPDATE_GOLDEN=1 $(CONTROL_PLANE) tests/built.py quotakeeper-api:real_api_server -- --ignored
	UPDATE_GOLDEN=1 $(CONTROL_PLANE) --controllers tests/built.py quotakeeper-operator:a_cluster_is_kept -- --ignored

.PHONY: soak
soak: ## thousands of simulated worlds and of fuzzed messages, and the long stories (SOAK_SEEDS, SOAK_MINUTES, SOAK_CASES)
	$(call step,$(SOAK_SEEDS) seeds,cargo run -p quotakeeper-simulator --bin simulate -- soak --seeds $(SOAK_SEEDS) --minutes $(SOAK_MINUTES))
	$(call step,$(SOAK_CASES) cases of each property,PROPTEST_CASES=$(SOAK_CASES) tests/built.py $(PROPERTIES_OF:%='%:*') -- $(PROPERTIES))
	$(call step,long stories on one machine,tests/built.py quotakeeper:on_one_machine -- --ignored --skip plans_agree_with_runs)
	$(call step,long stories on a cluster,tests/on_a_cluster/run.sh $(LONG_STORIES_ON_A_CLUSTER))
	$(times)

.PHONY: plans
plans: ## plan eleven campaigns, run them, and print how far the plans were off (four minutes)
	@tests/built.py quotakeeper:on_one_machine -- --ignored --nocapture plans_agree_with_runs

# Worlds with a pod that means harm.
HOSTILE_WORLDS ?= 40

.PHONY: hostile
hostile: ## a pod that means harm beside five that do not: in simulated worlds (HOSTILE_WORLDS) and on a real cluster (15 minutes once built)
	$(call step,$(HOSTILE_WORLDS) simulated worlds,for story in hostile hostile-figures hostile-pauses hostile-credentials; do cargo run --quiet -p quotakeeper-simulator --bin simulate -- soak --seeds $(HOSTILE_WORLDS) --story $$story; done)
	$(call step,a hostile pod on a real cluster,tests/on_a_cluster/run.sh test_a_hostile_pod_stops_no_other)
	$(times)

# How long each kind of input is made up, and which: all if none is named.
MINUTES ?= 20
TARGETS ?=

.PHONY: fuzz
fuzz: ## make up input of each kind that comes from outside, MINUTES each (20), TARGETS names some; what is worth keeping goes into tests/fuzz/corpus
	@tests/fuzz/run.sh $(MINUTES) $(TARGETS)

.PHONY: demo
demo: ## a Job against a quota, without and with Quotakeeper, on a real Kubernetes (as root on Debian)
	$(call step,images$(comma) cluster and demo,tests/cluster/filled.sh python3 "$(CURDIR)/demo/on_a_cluster.py")
	$(times)

.PHONY: demo-local
demo-local: ## the same for one program on this machine, without a cluster (about a minute)
	@cargo build --quiet -p quotakeeper -p counting-provider --bins
	@python3 demo/one_machine.py --bin "$(CARGO_TARGET_DIR)/debug" --sdk "$$(tests/sdk/install.sh)"

# One part of the benchmarks: decision, memory, proxy or streams; or instructions, which valgrind counts.
PART ?=

.PHONY: bench
bench: ## decision, memory, proxy and streams beside their peers: a table of figures and targets; PART= names one (4 minutes after a release build)
	@cargo build --quiet --release $(if $(filter-out proxy streams,$(PART)),,-p quotakeeper -p counting-provider) -p quotakeeper-benches --bins
	@$(if $(filter instructions,$(PART)),benches/instructions.sh "$(CARGO_TARGET_DIR)/release/bench",\
		"$(CARGO_TARGET_DIR)/release/bench" $(PART) --nginx "$$(benches/nginx.sh)")

$(CARGO_DENY):
	@echo "▶ installing cargo-deny $(CARGO_DENY_VERSION), once"
	cargo install --locked --quiet --version $(CARGO_DENY_VERSION) --root "$(dir $(@D))" --target-dir "$(CACHE)/building-cargo-deny" cargo-deny
	rm -rf "$(CACHE)/building-cargo-deny"

.PHONY: cluster
cluster: ## a real Kubernetes of one node, as root on Debian (seconds; the first time it is built)
	@tests/cluster/cluster.sh up

.PHONY: cluster-down
cluster-down: ## take it down, with all that killed runs left
	@tests/cluster/cluster.sh down

.PHONY: control-plane
control-plane: ## an API server and etcd alone, as any user, until Ctrl-C
	@tests/cluster/control-plane.sh up

.PHONY: cluster-test
cluster-test: steps-of-control-plane-test steps-of-cluster-test ## everything on a real API server and with real pods, as root on Debian (12 minutes once built)
	$(times)

.PHONY: steps-on-clusters-that-can-be-had
steps-on-clusters-that-can-be-had:
	@if tests/cluster/control-plane.sh possible; then $(MAKE) --no-print-directory steps-of-control-plane-test; \
	else echo "▷ left out: what needs an API server, for the reason above"; fi
	@if tests/cluster/cluster.sh possible; then $(MAKE) --no-print-directory steps-of-cluster-test; \
	else echo "▷ left out: what needs a cluster, for the reason above"; fi

.PHONY: steps-of-control-plane-test
steps-of-control-plane-test:
	$(call step,tools of the cluster,tests/cluster/tools.sh kube etcd coredns helm >/dev/null)
	$(call step,programs and tests are built,cargo test --workspace --no-run)
	$(call step,on real API servers,QUOTAKEEPER_BUILT=1 tests/beside.py --at-once 3 $(ON_API_SERVERS))

# Each has a control plane of its own. The longest, most of which is waiting, comes first.
CONTROL_PLANE := tests/cluster/control-plane.sh run
ON_API_SERVERS := \
	"operator on a real API server" "$(CONTROL_PLANE) --controllers tests/built.py quotakeeper-operator:a_cluster_is_kept -- --ignored" \
	"limiter on a real API server" "$(CONTROL_PLANE) tests/built.py quotakeeper-limiter:in_a_cluster -- --ignored" \
	"webhook on a real API server" "$(CONTROL_PLANE) tests/built.py quotakeeper-inject:on_a_real_api_server -- --ignored" \
	"CRDs on a real API server" "$(CONTROL_PLANE) tests/built.py quotakeeper-api:real_api_server -- --ignored" \
	"the chart grants what its programs need" tests/cluster/stories/chart_grants_enough_rights.sh \
	"the chart installs" tests/cluster/stories/chart_installs.sh \
	"the chart renders" tests/cluster/stories/chart_renders.sh

.PHONY: steps-of-cluster-test
steps-of-cluster-test:
	$(call step,alerts,tests/monitoring/run.sh)
	$(call step,a real cluster comes and goes,tests/cluster/stories/cluster_leaves_nothing_behind.sh)
	$(call step,real pods,QUOTAKEEPER_BUILT=1 tests/on_a_cluster/run.sh)

.PHONY: record
record: ## write anew what people see of each fault, and of tokens and money, on real clusters (15 minutes once built)
	$(call step,faults on a real cluster,tests/cluster/filled.sh python3 tests/on_a_cluster/record_what_people_see.py docs/what-people-see.md)
	$(call step,tokens and money on a real cluster,tests/cluster/filled.sh python3 tests/on_a_cluster/record_tokens_and_money.py docs/what-budgets-look-like.md)
	$(times)

.PHONY: images
images: ## operator, limiter and proxy for a user's cluster, as OCI archives (some minutes the first time)
	@images/make.sh

.PHONY: push
push: ## push them: make push REGISTRY=registry.example.com/team
	@images/push.sh "$(REGISTRY)"
