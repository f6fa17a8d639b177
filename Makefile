# Holdfast. `make drill` shows it; `make test` tests it; `make help` lists the rest.

GO          ?= go
BIN         := bin/holdfast
# One set of flags for everything, programs, tests and checks: what is compiled
# with others is compiled again.
export CGO_ENABLED := 0
export GOFLAGS     := $(shell $(GO) env GOFLAGS) -trimpath
VERSION     := $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)
LDFLAGS     := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GUEST       ?= probe
FUZZTIME    ?= 5s
FUZZ_MINUTES ?= 20
FUZZ_JOBS   ?= 1
SEEDS       ?= 500
BUGSEEDS    ?= 200
ROT         ?= 10000
FLAP        ?= 10m
ISOLATION   ?= TestIsolation|TestRacksAreCutOff|TestHalfOfANetwork|TestALinkFlaps|TestTheControlPlaneIsAway
# A kernel, modules and busybox for the guests of some tests.
GUEST_ROOT  := $(CURDIR)/build/kernel
SUDO        := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# What the build, the tests and the drills need of Debian or Ubuntu, and the
# commands by which it is known to be there.
PACKAGES    := qemu-system-x86 qemu-utils ovmf passt libnbd-bin nbdkit fio mmdebstrap e2fsprogs iproute2 libiscsi-bin
COMMANDS    := qemu-system-x86_64 qemu-img passt nbdinfo nbdkit fio mmdebstrap mkfs.ext4 ip iscsi-test-cu

.PHONY: help build check test sim sim-race sim-campaign metamorphic snapshots tebibyte bugs runbooks bad-days drill drill-power-loss drill-wipe drill-museum drill-split drill-two-box torture soak lab down image kernel bench clean-bench rebuild-bench backup-bench flood-bench judges figures judge-cloud-init judge-installer judge-iscsi rot crash-points crash-bugs kill-points model isolation power-orders upgrade-walk fuzz fuzz-smoke ui ui-check ui-dev ui-test fleet-figures packages package clean
.DEFAULT_GOAL := build

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/holdfast, one static binary
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/holdfast

check: ## formatting, vet, staticcheck and the shape of the code
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not formatted (run gofmt -w):"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test -count=1 ./internal/arch/

# Labs come first, which mostly wait, and the simulator beside them, which needs
# the processors for longer than all else. Vetting is part of check.
test: packages kernel ## run all tests, the simulator with SEEDS seeds
	PATH="$(GUEST_ROOT)/bin:$$PATH" HOLDFAST_TEST_KERNEL="$(GUEST_ROOT)" SIM_SEEDS=$(SEEDS) $(GO) test -vet=off -timeout 20m -p 3 ./lab/... ./internal/sim ./...

sim: ## play SEEDS seeds of the simulator
	SIM_SEEDS=$(SEEDS) $(GO) test -count=1 -run 'TestSeeds|TestSameSeed' ./internal/sim

sim-race: ## play seeds several times and from their stories, under the race detector: one history each (needs gcc)
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 30m -run 'TestSameSeed|TestARunIsItsStory' ./internal/sim

sim-campaign: HOURS = 1
sim-campaign: STEPS = 3000
sim-campaign: build ## play seeds of the simulator on every processor for HOURS (1), and add a summary to docs/campaigns; STEPS operations (3,000) a seed
	$(BIN) sim campaign --hours $(HOURS) --steps $(STEPS)

# Every case of one history takes a minute or two of one processor.
metamorphic: SEEDS = 5
metamorphic: ## play SEEDS histories (5) in every configuration of volumes and troubles, which must all tell the same
	METAMORPHIC_SEEDS=$(SEEDS) $(GO) test -count=1 -timeout 24h -run TestHistories ./internal/metamorphic

bugs: ## plant known bugs, one by one, and have the simulator find them in up to BUGSEEDS seeds; BUGS="-left -jobs 1" and so on
	$(GO) run ./internal/sim/bugs -seeds $(BUGSEEDS) $(BUGS)

packages: ## install what is missing of Debian or Ubuntu
	@missing=; for c in $(COMMANDS); do PATH="$$PATH:/usr/sbin:/sbin" command -v $$c >/dev/null || missing=$$c; done; \
	if [ -n "$$missing" ]; then \
	  command -v apt-get >/dev/null || { echo "$$missing is missing, and this is not Debian or Ubuntu: install $(PACKAGES) yourself"; exit 1; }; \
	  echo "installing $(PACKAGES)"; \
	  $(SUDO) apt-get update -qq && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null; \
	fi

lab: packages build ## bring up a lab of three racks
	$(BIN) lab up

down: ## end the lab and remove its data
	$(BIN) lab down --wipe

# $(call in-own-lab,DRILL,FLAGS) plays a drill in a lab of its own, brought up with
# FLAGS, and ends that.
define in-own-lab
dir=$$(mktemp -d /tmp/hf$(1).XXXXXX); export XDG_STATE_HOME=$$dir/state; \
$(BIN) lab up $(2) --dir $$dir/l && $(BIN) drill $(1) --dir $$dir/l $(DRILL); status=$$?; \
[ $$status = 0 ] || { mkdir -p build/$(1).logs; for h in $$dir/l/*/log; do cp $$h build/$(1).logs/$$(basename $$(dirname $$h)); done; tail -n 30 $$dir/l/*/log; }; \
$(BIN) lab down --wipe --dir $$dir/l; rm -rf $$dir; exit $$status
endef

drill: lab ## pull the plug of a rack; GUEST=debian for the real thing
ifeq ($(GUEST),debian)
	@$(MAKE) --no-print-directory image
endif
	$(BIN) drill rack-loss --guest $(GUEST)
	@echo
	@echo "The lab is still up. Try:"
	@echo "  $(BIN) status"
	@echo "  $(BIN) list"
	@echo "  $(BIN) console drill-$(GUEST)        # Ctrl-] leaves it"
	@echo "  $(BIN) incident show"
	@echo "  $(BIN) lab kill b; $(BIN) status; $(BIN) lab start b"
	@echo "  make drill GUEST=debian             # a stock Debian with PostgreSQL"
	@echo "  make down                           # end it and remove its data"

ifdef VOLATILE
drill-power-loss: packages build
	@$(call in-own-lab,power-loss,--volatile)
else
drill-power-loss: lab ## take the power of the whole lab, and give it back; DRILL="--guests 12 --times 20" and so on; VOLATILE=1: with all that was not synced (root)
	$(BIN) drill power-loss $(DRILL)
endif

drill-wipe: lab ## destroy the disks of a rack, and build everything anew on empty ones; DRILL=--replace for new hosts, too
	$(BIN) drill wipe $(DRILL)

drill-two-box: packages build ## lose each of two racks, their witness and everything, in a lab of its own; DRILL=--quick, DRILL="--times 5" and so on
	@$(call in-own-lab,two-box,--racks 2 --witness)

drill-museum: packages build ## destroy two of three racks for good, and recover from the third, in a lab of its own; DRILL="--guests 12" and so on
	@$(call in-own-lab,museum)

drill-split: packages build ## cut a rack off and connect it again, in a lab of its own (root); DRILL="--isolation off" and so on
	@unshare -n true 2>/dev/null || { echo "SKIPPED: drill split needs root and network namespaces, which are not allowed here"; exit 0; }; \
	$(call in-own-lab,split,--netns)

torture: MINUTES = 60
torture: DRILL = --for $(MINUTES)m --figures build/torture.json $(TORTURE)
torture: packages build ## break a lab of its own in every way for MINUTES (60), and compare everything in the end (root); TORTURE="--seed 7" and so on
	@unshare -n true 2>/dev/null || { echo "SKIPPED: the torture needs root and network namespaces, which are not allowed here"; exit 0; }; mkdir -p build; \
	$(call in-own-lab,torture,--netns $(if $(wildcard /dev/loop-control),--volatile) --hosts-per-rack 2 --disk-gib 1)

soak: MINUTES = 60
soak: DRILL = --for $(MINUTES)m --figures build/soak.json --plot build/soak.svg $(SOAK)
soak: packages build ## let 60 guests work on 8 hosts while racks are killed for MINUTES (60), and see that nothing grows; SOAK="--guests 24 --iops 10" and so on
	@mkdir -p build; $(call in-own-lab,soak,--racks 4 --hosts-per-rack 2 --disk-gib 1)

image: packages build/debian.raw ## build the Debian image of the drill

build/debian.raw: $(wildcard images/*)
	@mkdir -p build
	$(GO) run ./images -o $@

# Only Debian has this kernel; the tests that boot it say so where it is missing.
kernel: packages ## fetch a kernel for the guests of tests; nothing is installed
	@[ -e $(GUEST_ROOT)/bin/busybox ] || { mkdir -p build; $(GO) run ./images --kernel -o $(GUEST_ROOT) || echo "going on without a kernel for guests"; }

bench: packages build ## figures beside nbdkit and qemu-nbd
	bench/run.sh

runbooks: PACKAGES += etcd-client
runbooks: COMMANDS += etcdctl
runbooks: packages ## play the commands of all runbooks in a lab, those too that take long
	RUNBOOKS=all $(GO) test -count=1 -v -timeout 20m -run TestRunbooks ./lab/baddays

# CI plays those that are short with the ordinary tests.
bad-days: packages kernel ## the bad days that take minutes: UEFI, two disks and a CD-ROM; clocks that jump; an older etcd put back; a control plane that moves (root)
	PATH="$(GUEST_ROOT)/bin:$$PATH" HOLDFAST_TEST_KERNEL="$(GUEST_ROOT)" BAD_DAYS=1 $(GO) test -count=1 -v -timeout 1h -parallel 1 -run 'TestUEFI|TestClocksJump|TestAnOlderEtcd|TestTheControlPlaneMoves' ./lab/baddays

bench-iscsi: packages build ## figures of iSCSI beside tgt, if that is installed
	bench/iscsi.sh

rebuild-bench: ## how fast a copy is built beside how fast is written, and write+flush beside a rebuild and a scrub; REBUILD="-size BYTES" and so on
	@$(GO) run ./bench/rebuild $(REBUILD)

clean-bench: ## what the cleaner costs at 50 and 80 % fill; CLEAN="-seconds 1200 -svg FILE" and so on
	@$(GO) run ./bench/cleaner -fill 50 $(CLEAN) && $(GO) run ./bench/cleaner -fill 80 $(CLEAN)

backup-bench: packages build ## an incremental backup beside a full one, and QCOW2 beside qemu-img; BACKUP="-size BYTES -runs 5" and so on
	@$(GO) run ./bench/backup -binary $(BIN) $(BACKUP)

flood-bench: build ## what a volume feels of another one's flood, and floods by weight; FLOOD="-runs 5 -seconds 2" and so on
	@$(GO) run ./bench/flood -binary $(BIN) $(FLOOD)

figures: packages build image ## drills and what a host costs; FIGURES="-saturate 30m -o json" and so on
	@$(GO) run ./bench/figures $(FIGURES)

judge-cloud-init: packages ## boot a Debian with its own cloud-init, and look what it did
	@mkdir -p build
	$(GO) run ./images --cloud-init -o build/cloud-init.raw
	HOLDFAST_CLOUD_IMAGE=$(CURDIR)/build/cloud-init.raw $(GO) test -count=1 -v -timeout 30m -run TestCloudInit ./lab/baddays

judge-installer: PACKAGES += grub-common grub-pc-bin grub-efi-amd64-bin xorriso mtools
judge-installer: COMMANDS += grub-mkrescue xorriso mformat
judge-installer: packages ## start Debian's own installer from a CD-ROM, by a BIOS and by UEFI
	@mkdir -p build
	@[ -e build/installer.iso ] || images/installer.sh build/installer.iso
	HOLDFAST_INSTALLER=$(CURDIR)/build/installer.iso $(GO) test -count=1 -v -timeout 30m -run TestAnInstaller ./lab/baddays

# QEMU's initiator is known by its file: it is no command. Empty where it is.
BLOCK_ISCSI = $(if $(wildcard /usr/lib/*/qemu/block-iscsi.so),,block-iscsi)

# What the judges need beyond that. One of them is built on libnbd, in C: it
# alone needs a compiler, and of the library's headers only pkg-config knows.
JUDGE_PACKAGES := $(PACKAGES) xfsprogs nbd-client fuse3 openssl util-linux diffutils gcc libc6-dev pkg-config libnbd-dev qemu-block-extra
JUDGE_COMMANDS  = $(BLOCK_ISCSI) mkfs.xfs nbd-client fusermount3 openssl losetup fstrim cmp gcc pkg-config $(shell pkg-config --exists libnbd 2>/dev/null || echo libnbd-dev)

snapshots: ## make, clone, send and delete 10,000 snapshots of one volume, with figures
	HOLDFAST_SNAPSHOTS=10000 $(GO) test -count=1 -v -timeout 30m -run TestManySnapshots ./internal/store

tebibyte: ## a volume of 1 TiB, every block written, in 256 MiB of map memory; GIB=100 for less. It needs 6 GB of disk
	HOLDFAST_MAP_GIB=$(or $(GIB),1024) $(GO) test -count=1 -v -timeout 30m -run TestALargeVolumeInLittleMemory ./internal/store

judges: build ## let others' programs judge; QUICK=1 in two minutes, JUDGES='-run fio' for some
	@$(MAKE) --no-print-directory packages PACKAGES='$(JUDGE_PACKAGES)' COMMANDS='$(COMMANDS) $(JUDGE_COMMANDS)'
	@mkdir -p build
	@$(GO) build -o bin/judges ./lab/judges
	@CGO_ENABLED=1 $(GO) build -tags libnbd -o bin/judge-libnbd ./lab/judges/libnbd
	@CGO_ENABLED=1 $(GO) test -count=1 -tags libnbd ./lab/judges/libnbd >build/judge-libnbd.log || { cat build/judge-libnbd.log; exit 1; }
	@bin/judges $(if $(QUICK),-quick) -summary build/judges.json $(JUDGES)

judge-iscsi: ## let libiscsi's suite and QEMU judge iSCSI over volumes of two copies, and over memory
	@$(MAKE) --no-print-directory packages PACKAGES='libiscsi-bin qemu-utils qemu-block-extra' COMMANDS='iscsi-test-cu iscsi-ls iscsi-inq qemu-io $(BLOCK_ISCSI)'
	@mkdir -p build; HOLDFAST_JUDGE=all $(GO) test -count=1 -v -p 1 -run TestJudge ./internal/export/iscsi ./lab/baddays >build/judge-iscsi.log 2>&1; status=$$?; \
	sed -n 's/^ *\(judges\|iscsi\)_test.go:[0-9]*: //p; t; /^[-a-zA-Z]/p' build/judge-iscsi.log; exit $$status

# CI plays the shortest of them with the ordinary tests.
isolation: packages ## cut racks off and parts of them, flap a link and take the control plane away, FLAP (10m) each (root)
	@mkdir -p build; HOLDFAST_ISOLATION=$(FLAP) $(GO) test -count=1 -v -timeout 24h -parallel 1 -run '$(ISOLATION)' ./lab/baddays >build/isolation.log 2>&1; status=$$?; \
	sed -n 's/^ *isolation_test.go:[0-9]*: //p; /--- /p; /^FAIL/p; /^ok/p; /^panic/p' build/isolation.log; exit $$status

power-orders: packages ## take all power of two racks and a witness, which come back in every order, and not all of them
	HOLDFAST_ORDERS=1 $(GO) test -count=1 -v -timeout 1h -run TestTwoRacksAndAWitness ./lab/baddays

upgrade-walk: packages ## upgrade a lab of three racks to another build under a guest, and back
	UPGRADE=1 $(GO) test -count=1 -v -timeout 30m -run TestAnUpgradeWalks ./lab/baddays

# CI damages a few hundred with the ordinary tests.
rot: ## damage ROT blocks of replicas (10,000): flipped, swapped, rolled back; found, told, restored
	@mkdir -p build; VOLUME_DAMAGES=$(ROT) $(GO) test -count=1 -v -timeout 30m -run 'Damage|ScrubFinds|Lost|HelpEachOther' ./internal/volume >build/rot.log 2>&1; status=$$?; \
	sed -n 's/^ *[a-z]*_test.go:[0-9]*: //p; /^--- /p; /^FAIL/p; /^ok/p; /^panic/p' build/rot.log; exit $$status

# CI replays a few points of one history with the ordinary tests.
crash-points: POINTS = 1000
crash-points: ## record writes to a disk and open what POINTS (1,000) crashes leave of them, on a real file; figures in docs/campaigns
	@mkdir -p docs/campaigns; CRASH_POINTS=$(POINTS) CRASH_FIGURES=$(CURDIR)/docs/campaigns/crash-points.json $(GO) test -count=1 -v -timeout 24h -run 'TestCrashPoints$$' ./internal/store

# What a checker finds nothing wrong with proves something only if it finds bugs.
crash-bugs: POINTS = 400
crash-bugs: ## plant bugs in the store, one by one, and replay up to POINTS (400) crash points of each, which must find it
	$(GO) run ./internal/sim/bugs -crash-points $(POINTS)

# CI kills a process at a few points with the ordinary tests.
kill-points: KILL = all
kill-points: ## have real processes kill themselves at every named point while clients write; KILL=resync for some
	@mkdir -p docs/campaigns; KILL_POINTS='$(KILL)' KILL_FIGURES=$(CURDIR)/docs/campaigns/kill-points.json $(GO) test -count=1 -v -timeout 24h -run TestKillPoints ./lab/killpoints

# CI explores one disturbance with the ordinary tests.
model: STATES = 2000000
model: ## explore the protocol of take-overs, up to STATES states (2,000,000) of each kind, and write docs/MODEL.md
	MODEL_STATES=$(STATES) $(GO) test -count=1 -v -timeout 24h -run TestModel ./internal/ha/model

fuzz-smoke: ## run every fuzz target for a moment
	@set -e; for p in $$($(GO) list ./...); do \
	  dir=$$($(GO) list -f '{{.Dir}}' $$p); \
	  for f in $$(grep -hos '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/^func //'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p >/dev/null; \
	  done; done

fuzz: ## run the targets of protocols and formats FUZZ_MINUTES (20) each, FUZZ_JOBS (1) at once, and keep the corpus; FUZZ='-run nbd' for some
	@$(GO) run ./internal/fuzz -minutes $(FUZZ_MINUTES) -jobs $(FUZZ_JOBS) $(FUZZ)

# What is built stands in git, so that only who changes web/ needs Node.
web/node_modules: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

ui: web/node_modules ## build the web interface from web/ into internal/ui/dist (needs Node 20)
	cd web && npm run check && npm test && npm run build

ui-check: ui ## build the web interface, and see that what is in git is the same
	@git diff --exit-code --stat -- internal/ui/dist && [ -z "$$(git status --porcelain -- internal/ui/dist)" ] || { echo "internal/ui/dist is not what web/ builds: commit it"; exit 1; }

ui-test: kernel build web/node_modules ## use the web interface in Debian's Chromium, on a lab of its own; pictures in build/ui; UI_PARTS="machine acts" for some
	@$(MAKE) --no-print-directory packages PACKAGES='$(PACKAGES) chromium fonts-inter libnss3-tools' COMMANDS='$(COMMANDS) chromium certutil'
	@dir=$$(mktemp -d /tmp/hfui.XXXXXX); UI_LAB=$$dir/l node web/test/ui.js; status=$$?; rm -rf $$dir; exit $$status

fleet-figures: build web/node_modules ## measure pages and lists with 60 and with 2,000 simulated VMs, in Debian's Chromium, and write docs/BENCHMARKS.md; FLEET="-runs 15" and so on
	@$(MAKE) --no-print-directory packages PACKAGES='chromium fonts-inter' COMMANDS='chromium'
	@$(GO) run ./bench/fleet -binary $(BIN) -write docs/BENCHMARKS.md $(FLEET)

ui-dev: web/node_modules ## serve the web interface from web/, with the API of the host at SOCKET
	cd web && HOLDFAST_SOCKET="$(SOCKET)" npm run dev

package: ## make a Debian package and a tarball for amd64 and arm64, in build/packages; ARCH=amd64 for one
	$(GO) run ./cmd/pack -version $(VERSION) -arch $(or $(ARCH),amd64,arm64)

clean: ## remove what was built
	rm -rf bin build
