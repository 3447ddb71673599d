# Builds, tests and checks all of rethread; `make help` lists the targets.
#
# One file, no recursion. Sources are found by wildcard: a new src/<room>/x.c, tests/<room>/test_x.c
# or bench/x.c needs no line here. Everything made goes under build/; a sanitizer variant
# (SAN=address or SAN=thread) has a tree of its own, build/san-<name>/.
# `make V=1` prints whole commands.

VERSION := $(shell sed -n 's/.*VERSION_TEXT "\(.*\)".*/\1/p' src/base/version.h)
SOVERSION := 0
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
SAN ?=
JOBS ?= 1
CASES ?= 1000000
PYTHON := /usr/bin/python3

ifeq ($(origin CC),default)
CC := gcc
endif

SHELL := /bin/sh
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDEXPANSION:
# A -j on the command line wins over this one.
MAKEFLAGS += --no-builtin-rules -j$(shell nproc)
Q := $(if $(V),,@)

# ---- Variants and flags --------------------------------------------------------------------------

B := build$(if $(SAN),/san-$(SAN))

WARN := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Werror
HARDEN := -fstack-protector-strong
ifeq ($(SAN),)
OPT := -O2 -g -D_FORTIFY_SOURCE=2
else ifeq ($(SAN),address)
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
else ifeq ($(SAN),thread)
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
else
$(error SAN is "address" (with UBSan) or "thread", not "$(SAN)")
endif
# Instrumented code makes gcc guess wrong about uninitialised values; plain builds stay strict.
WARN += $(if $(SAN),-Wno-error)

INCLUDES := -Isrc -Iinclude -I.
CSTD := -std=c11 -D_GNU_SOURCE
# Assertions stay on: NDEBUG is never defined.
FLAGS = $(CSTD) $(OPT) $(WARN) $(HARDEN) $(INCLUDES) $(CPPFLAGS) $(CFLAGS)
LINK = $(CC) $(OPT) -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)

STORE_LIBS := -llmdb -lzstd
SERVER_LIBS := -levent -lxxhash -lpthread $(STORE_LIBS)
CLIENT_LIBS := -lmsgpackc -ljansson -lsodium -lxxhash -lpthread
CLI_LIBS := $(CLIENT_LIBS) $(STORE_LIBS)
# liburcu and Concurrency Kit are only peers to measure against: bench/table_*.c do without them where
# they are absent. Asked when the program is linked: `make bench` may install them first.
BENCH_LIBS = $(STORE_LIBS) -ljansson -lxxhash -lm -lpthread \
	$(shell pkg-config --libs liburcu-qsbr liburcu-cds 2>/dev/null; pkg-config --libs ck 2>/dev/null)
# Asked when a test is linked, not before: `make check` may install Check first.
TEST_LIBS = $(shell pkg-config --libs check) -lsubunit -lrt -lm -ljansson -lsodium -lmsgpackc $(SERVER_LIBS)

# ---- Debian packages -----------------------------------------------------------------------------

define DEPS_BUILD
gcc the C compiler
libc6-dev the C library's headers
pkg-config finds the flags of libraries
libevent-dev event loops of the server
libxxhash-dev hashes of the index, checksums on disk
liblmdb-dev the tree of the disk tier
libzstd-dev compression of what goes to disk
libmsgpack-dev MessagePack in the client library
libjansson-dev JSON in the client library and rethread-cli
libsodium-dev SHA-256 in the client library
$(if $(findstring clang,$(CC)),clang the chosen compiler)
$(if $(findstring clang,$(CC)),libclang-rt-14-dev its sanitizers)
endef
define DEPS_CHECK
check the framework of the C tests
python3 runs the tests and the Python client
python3-msgpack MessagePack in the Python client
endef
define DEPS_LINT
clang the second compiler
clang-format the layout of the code
cppcheck static analysis
mypy types of the Python client
endef
define DEPS_BENCH
redis-server measured beside
memcached measured beside
liburcu-dev its hash table is measured beside the index
libck-dev likewise Concurrency Kit's
gnuplot-nox draws the plots
endef
export DEPS_BUILD DEPS_CHECK DEPS_LINT DEPS_BENCH

# Each goal asks for no more than it uses; whatever is compiled for it waits for the packages.
goals = $(filter $1,$(MAKECMDGOALS))
PACKAGES := "$$DEPS_BUILD" $(if $(call goals,check check-crash check-long lint deps),"$$DEPS_CHECK") \
	$(if $(call goals,lint deps),"$$DEPS_LINT")
NEEDS := $(if $(call goals,deps demo run check check-crash check-long lint bench),deps) \
	$(if $(call goals,bench),deps-bench)

# ---- Sources -------------------------------------------------------------------------------------

# Each room with the rooms it may call, in link order; tests/<room> links exactly these, so that a
# call upwards does not link. Any other folder of tests/ links everything.
ROOMS := base index wire thread store net server client
LINK_base := base
LINK_index := index base
LINK_wire := wire base
LINK_thread := thread wire index base
LINK_store := store thread wire index base
LINK_net := net thread wire index base
LINK_server := server net store thread wire index base
LINK_client := client wire base
LINK_everything := client $(LINK_server)
LINK_bench := bench store thread wire index base
LINK_crash := crash small thread wire index base
# A test that needs more says so here, by its path:
#   ROOMS_tests/wire/test_frame := client wire base
#   LIBS_tests/store/test_tree := -llmdb
ROOMS_tests/store/test_churn := bench $(LINK_store)
LIBS_tests/client/test_memory := -Wl,--wrap=malloc,--wrap=calloc
LIBS_tests/store/test_filler := -Wl,--wrap=tree_apply,--wrap=wal_write

MAIN := src/server/main.c
SRC := $(filter-out $(MAIN),$(foreach r,$(ROOMS),$(wildcard src/$r/*.c)))
CLI_SRC := $(wildcard src/cli/*.c)
BENCH_MAIN := bench/main.c
BENCH_SRC := $(filter-out $(BENCH_MAIN),$(wildcard bench/*.c))
TEST_LIB_SRC := $(wildcard tests/lib/*.c)
TEST_SRC := $(wildcard tests/*/test_*.c)
TEST_PY := $(wildcard tests/test_*.py tests/*/test_*.py tests/*/*/test_*.py)
# What tests the tools and not the product says the same in every variant.
TEST_PY := $(if $(SAN),$(filter-out tests/test_% tests/lint/%,$(TEST_PY)),$(TEST_PY))
# tests/crash: the recorder is a library of its own, the rest is shared by the tests there.
RECORDER_SRC := tests/crash/recorder.c
CRASH_SRC := $(filter-out $(RECORDER_SRC) $(TEST_SRC),$(wildcard tests/crash/*.c))
# Not a test, but what tests/weave/test_weave.py drives.
BATCH_SRC := tests/weave/batch.c
ALL_C := $(SRC) $(wildcard $(MAIN)) $(CLI_SRC) $(BENCH_MAIN) $(BENCH_SRC) $(TEST_LIB_SRC) \
	$(TEST_SRC) $(RECORDER_SRC) $(CRASH_SRC) $(BATCH_SRC)

FOLDERS := src/*/ include bench tests/*/
FOLDERS := $(patsubst %/,%,$(wildcard $(FOLDERS)))

SERVER := $(B)/rethread-server
CLI := $(B)/rethread-cli
BENCH := $(B)/rethread-bench
LIBRARY := $(B)/librethread.a $(B)/librethread.so
TESTS := $(TEST_SRC:%.c=$(B)/%)
BATCH := $(BATCH_SRC:%.c=$(B)/%)
CRASH_TESTS := $(patsubst %.c,$(B)/%,$(filter tests/crash/%,$(TEST_SRC)))
RECORDER := $(B)/tests/crash/recorder.so
BUILT := $(if $(wildcard $(MAIN)),$(SERVER)) $(if $(wildcard src/client/*.c),$(LIBRARY)) \
	$(if $(CLI_SRC),$(CLI))

LINT_OBJECTS := $(ALL_C:%.c=build/lint/gcc/%.o) $(ALL_C:%.c=build/lint/clang/%.o)

archive = $(B)/obj/lib$1.a
objects = $(patsubst %.c,$(B)/obj/%.o,$1)
pic_objects = $(patsubst %.c,$(B)/pic/%.o,$1)
rooms_of_test = $(or $(ROOMS_tests/$1),$(LINK_$(firstword $(subst /, ,$1))),$(LINK_everything))

.PHONY: help deps deps-bench all tests demo run check check-crash check-long lint format profiles bench measured install clean FORCE
.SECONDARY:

# ---- Compiling -----------------------------------------------------------------------------------

# Rewritten only when a compiler or a flag changes, and then every object is stale. It waits for the
# packages, so that under -j nothing compiles before they are there.
$(B)/flags: FORCE | $(NEEDS)
	@mkdir -p $(@D)
	@{ $(CC) --version | head -n 1; echo '$(CC) $(FLAGS) $(LINK)'; } >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# Likewise for the list of sources: a removed file must leave its archive.
$(B)/sources: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(sort $(ALL_C)) >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) $(FLAGS) -fPIE -MMD -MP -c -o $@ $<

$(B)/pic/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) $(FLAGS) -fPIC -MMD -MP -c -o $@ $<

# What is there to compare with decides what these are made of.
$(B)/peers: FORCE | $(NEEDS)
	@mkdir -p $(@D)
	@pkg-config --modversion liburcu-cds ck >$@.new 2>&1 || true
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(patsubst %.c,$(B)/obj/%.o,$(wildcard bench/table_*.c)): $(B)/peers

define archive_rule
$(call archive,$1): $(call objects,$2) $(B)/sources $(B)/flags
	@mkdir -p $$(@D)
	@echo "  AR      $$@"
	$(Q)rm -f $$@ && ar rcsD $$@ $(call objects,$2)
endef
$(foreach r,$(ROOMS),$(eval $(call archive_rule,$r,$(filter src/$r/%,$(SRC)))))
$(eval $(call archive_rule,tests,$(TEST_LIB_SRC)))
$(eval $(call archive_rule,bench,$(BENCH_SRC)))
$(eval $(call archive_rule,crash,$(CRASH_SRC) $(TEST_LIB_SRC)))

# The store with small segments of the log, for the crash runs.
SMALL_SRC := $(filter src/store/%,$(SRC))
$(eval $(call archive_rule,small,$(SMALL_SRC:%=small/%)))

$(B)/obj/small/%.o: %.c $(B)/flags tests/crash/small.h
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) $(FLAGS) -include tests/crash/small.h -fPIE -MMD -MP -c -o $@ $<

# It stands in for functions of the C library, which fortified headers do not allow.
$(RECORDER): $(RECORDER_SRC) $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) $(CSTD) -O2 -g $(WARN) $(INCLUDES) -fPIC -shared -MMD -MP -MF $(B)/obj/recorder.d -o $@ $< -lpthread

# `make lint` compiles everything once more by both compilers, with the warnings that only matter
# there: a function that is neither static nor declared in a header is one.
LINT_FLAGS := $(CSTD) -O2 $(filter-out -Wno-error,$(WARN)) -Wmissing-prototypes $(INCLUDES)
define lint_rule
build/lint/$1/%.o: %.c Makefile | $(NEEDS)
	@mkdir -p $$(@D)
	@echo "  LINT    $$@"
	$(Q)$1 $(LINT_FLAGS) -MMD -MP -c -o $$@ $$<
endef
$(foreach c,gcc clang,$(eval $(call lint_rule,$c)))

$(SERVER): $(call objects,$(MAIN)) $(foreach r,$(LINK_server),$(call archive,$r))
	@echo "  LINK    $@"
	$(Q)$(LINK) -o $@ $^ $(SERVER_LIBS)

# The library is one object in which everything but rethread_* is local, so neither form of it can
# clash with a caller's names. Of base/ and wire/ it holds only what the client calls.
$(B)/pic/floors.a: $(call pic_objects,$(filter src/base/% src/wire/%,$(SRC))) $(B)/sources
	$(Q)rm -f $@ && ar rcsD $@ $(filter %.o,$^)

$(B)/pic/librethread.o: $(call pic_objects,$(filter src/client/%,$(SRC))) $(B)/pic/floors.a
	@echo "  LD      $@"
	$(Q)ld -r -o $@ $^ && objcopy --wildcard --keep-global-symbol='rethread_*' $@

$(B)/librethread.a: $(B)/pic/librethread.o
	@echo "  AR      $@"
	$(Q)rm -f $@ && ar rcsD $@ $^

$(B)/librethread.so.$(SOVERSION): $(B)/pic/librethread.o
	@echo "  LINK    $@"
	$(Q)$(CC) $(OPT) -shared -Wl,-soname,librethread.so.$(SOVERSION) -Wl,-z,relro,-z,now \
		-Wl,--as-needed $(if $(SAN),,-Wl,-z,defs) $(LDFLAGS) -o $@ $^ $(CLIENT_LIBS)

$(B)/librethread.so: $(B)/librethread.so.$(SOVERSION)
	$(Q)ln -sf $(<F) $@

# `verify` is the store's, the rest is the client library's.
$(CLI): $(call objects,$(CLI_SRC)) $(B)/librethread.a \
		$(foreach r,$(LINK_store),$(call archive,$r))
	@echo "  LINK    $@"
	$(Q)$(LINK) -o $@ $^ $(CLI_LIBS)

$(BENCH): $(call objects,$(BENCH_MAIN)) $(foreach r,$(LINK_bench),$(call archive,$r))
	@echo "  LINK    $@"
	$(Q)$(LINK) -o $@ $^ $(BENCH_LIBS)

$(TESTS) $(BATCH): $(B)/tests/%: $(B)/obj/tests/%.o $(call archive,tests) \
		$$(foreach r,$$(call rooms_of_test,$$*),$$(call archive,$$r))
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	$(Q)$(LINK) -o $@ $^ $(LIBS_tests/$*) $(TEST_LIBS)

$(CRASH_TESTS): | $(RECORDER)

-include $(B)/obj/recorder.d $(patsubst %.c,$(B)/obj/small/%.d,$(SMALL_SRC)) \
	$(patsubst %.c,$(B)/obj/%.d,$(ALL_C)) $(patsubst %.c,$(B)/pic/%.d,$(SRC)) \
	$(LINT_OBJECTS:.o=.d)

# ---- Goals ---------------------------------------------------------------------------------------

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'
	@echo "  SAN=address (with UBSan) or SAN=thread builds and checks a variant; CC=clang, V=1, JOBS=2"
	@echo "  make check ONLY=wire/test_frame runs the test programs whose names hold that"

# Names those of $1 that are missing, and installs them.
define install_missing
@if ! command -v dpkg-query >/dev/null; then \
		echo "Not a Debian system; what is needed, by Debian's names:"; \
		printf '%s\n' $1 | sed '/^$$/d; s/^/  /'; exit 0; \
	fi; \
	lacking=$$(printf '%s\n' $1 | while read -r name why; do \
		test -z "$$name" || dpkg -s "$$name" 2>/dev/null | grep -q '^Status: install ok installed' || \
		echo "$$name: $$why"; done); \
	test -n "$$lacking" || exit 0; \
	echo "Missing Debian packages:"; echo "$$lacking" | sed 's/^/  /'; \
	names=$$(echo "$$lacking" | sed 's/:.*//'); \
	if [ "$$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi; \
	apt="$$as_root env DEBIAN_FRONTEND=noninteractive apt-get"; \
	apt-cache show $$names >/dev/null 2>&1 || $$apt update; \
	$$apt install -y --no-install-recommends $$names || \
		{ $$apt update && $$apt install -y --no-install-recommends $$names; }
endef

deps: ## name and install the missing Debian packages
	$(call install_missing,$(PACKAGES))

# What is not there is not measured; that is no failure.
deps-bench: | deps
	$(call install_missing,"$$DEPS_BENCH") || echo "Going on without them."

all: $(BUILT) ## build the server, the library and the command line client

tests: $(TESTS) $(BATCH)

demo: deps all ## play a conversation into a server of its own and take it back
	@sh src/cli/demo.sh $(SERVER) $(CLI)

run: deps all ## keep a server in the foreground on 127.0.0.1:7411 (ARGS=... adds options)
	exec $(SERVER) --listen 127.0.0.1:7411 $(ARGS)

check: deps all tests $(BENCH) ## build and pass all tests
	@tests/run --build $(B) --san "$(SAN)" --jobs $(JOBS) \
		$(foreach t,$(TESTS) $(TEST_PY),$(if $(ONLY),$(if $(findstring $(ONLY),$t),$t),$t))

check-crash: deps all tests ## a hundred thousand crash states, every fault, kill -9: some minutes
	$(B)/tests/crash/test_crash --states 100000 $(ARGS)
	$(B)/tests/crash/test_inject --all
	RETHREAD_KILLS=200 RETHREAD_SERVER=$(abspath $(SERVER)) PYTHONPATH=src/client/python \
		$(PYTHON) tests/crash/test_kill.py

check-long: deps all tests ## a million random conversations against the rules of replay: some minutes
	CK_FORK=no RETHREAD_RULES_CASES=$(CASES) $(B)/tests/thread/test_rules
	CK_FORK=no RETHREAD_RULES_CASES=$$(($(CASES) / 4)) $(B)/tests/thread/test_rules_disk

lint: deps all tests $(LINT_OBJECTS) ## check layout, layers, names, warnings of two compilers, types
	@$(PYTHON) tests/lint/lint.py

format: ## lay out all C code by .clang-format
	clang-format -i $(sort $(wildcard include/*.h $(patsubst %,%/*.[ch],$(FOLDERS))))

profiles: ## write the Python client's table of profiles anew, from schema/profiles.def
	$(PYTHON) src/client/python/generate_profiles.py

bench: deps deps-bench all $(BENCH) ## measure beside what would be picked instead: build/bench/report.md, in minutes
	@mkdir -p $(B)/bench
	$(BENCH) all --quick --json $(B)/bench/report.jsonl --report $(B)/bench/report.md \
		--plot $(B)/bench $(ARGS)

measured: ## put what the last `make bench` measured into the README
	$(PYTHON) bench/readme.py $(B)/bench/report.md README.md

install: all ## install under DESTDIR and PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(LIBDIR)/pkgconfig
	install -m 755 $(SERVER) $(CLI) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(wildcard include/*.h) $(DESTDIR)$(PREFIX)/include
	install -m 644 $(B)/librethread.a $(DESTDIR)$(LIBDIR)
	install -m 755 $(B)/librethread.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/librethread.so.$(VERSION)
	ln -sf librethread.so.$(VERSION) $(DESTDIR)$(LIBDIR)/librethread.so.$(SOVERSION)
	ln -sf librethread.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/librethread.so
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' rethread.pc.in \
		>$(DESTDIR)$(LIBDIR)/pkgconfig/rethread.pc

clean: ## remove build/
	rm -rf build
