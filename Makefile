# Builds, tests and checks all of rethread; `make help` lists the targets.
#
# One file, no recursion. Sources are found by wildcard: a new src/<room>/x.c, tests/<room>/test_x.c
# or bench/x.c needs no line here. Everything made goes under build/; a sanitizer variant
# (SAN=address or SAN=thread) has a tree of its own, build/san-<name>/.
# `make V=1` prints whole commands.

VERSION := 0.1.0
SOVERSION := 0
PREFIX ?= /usr/local
DESTDIR ?=
SAN ?=
JOBS ?= 1
PYTHON := /usr/bin/python3

ifeq ($(origin CC),default)
CC := gcc
endif

SHELL := /bin/sh
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDEXPANSION:
MAKEFLAGS += --no-builtin-rules
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

SERVER_LIBS := -levent -lxxhash -lpthread
CLIENT_LIBS := -lmsgpackc -lxxhash -lpthread
CLI_LIBS := -ljansson $(CLIENT_LIBS)
# Asked when a test is linked, not before: `make check` may install Check first.
TEST_LIBS = $(shell pkg-config --libs check) -lsubunit -lrt -lm -ljansson -lmsgpackc $(SERVER_LIBS)

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
# A test that needs more says so here, by its path:
#   ROOMS_tests/wire/test_frame := client wire base
#   LIBS_tests/store/test_tree := -llmdb

MAIN := src/server/main.c
SRC := $(filter-out $(MAIN),$(foreach r,$(ROOMS),$(wildcard src/$r/*.c)))
CLI_SRC := $(wildcard src/cli/*.c)
BENCH_SRC := $(wildcard bench/*.c)
TEST_LIB_SRC := $(wildcard tests/lib/*.c)
TEST_SRC := $(wildcard tests/*/test_*.c)
TEST_PY := $(wildcard tests/test_*.py tests/*/test_*.py tests/*/*/test_*.py)
ALL_C := $(SRC) $(wildcard $(MAIN)) $(CLI_SRC) $(BENCH_SRC) $(TEST_LIB_SRC) $(TEST_SRC)

SERVER := $(B)/rethread-server
CLI := $(B)/rethread-cli
BENCH := $(B)/rethread-bench
LIBRARY := $(B)/librethread.a $(B)/librethread.so
TESTS := $(TEST_SRC:%.c=$(B)/%)
BUILT := $(if $(wildcard $(MAIN)),$(SERVER)) $(if $(wildcard src/client/*.c),$(LIBRARY)) \
	$(if $(CLI_SRC),$(CLI))

archive = $(B)/obj/lib$1.a
objects = $(patsubst %.c,$(B)/obj/%.o,$1)
pic_objects = $(patsubst %.c,$(B)/pic/%.o,$1)
rooms_of_test = $(or $(ROOMS_tests/$1),$(LINK_$(firstword $(subst /, ,$1))),$(LINK_everything))

.PHONY: help all tests demo run check lint format bench install clean FORCE
.SECONDARY:

all: $(BUILT)
tests: $(TESTS)

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

define archive_rule
$(call archive,$1): $(call objects,$2) $(B)/sources $(B)/flags
	@mkdir -p $$(@D)
	@echo "  AR      $$@"
	$(Q)rm -f $$@ && ar rcsD $$@ $(call objects,$2)
endef
$(foreach r,$(ROOMS),$(eval $(call archive_rule,$r,$(filter src/$r/%,$(SRC)))))
$(eval $(call archive_rule,tests,$(TEST_LIB_SRC)))

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

$(CLI): $(call objects,$(CLI_SRC)) $(B)/librethread.a $(call archive,base)
	@echo "  LINK    $@"
	$(Q)$(LINK) -o $@ $^ $(CLI_LIBS)

$(BENCH): $(call objects,$(BENCH_SRC)) $(foreach r,$(LINK_everything),$(call archive,$r))
	@echo "  LINK    $@"
	$(Q)$(LINK) -o $@ $^ $(CLI_LIBS) $(SERVER_LIBS)

$(TESTS): $(B)/tests/%: $(B)/obj/tests/%.o $(call archive,tests) \
		$$(foreach r,$$(call rooms_of_test,$$*),$$(call archive,$$r))
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	$(Q)$(LINK) -o $@ $^ $(LIBS_tests/$*) $(TEST_LIBS)

-include $(patsubst %.c,$(B)/obj/%.d,$(ALL_C)) $(patsubst %.c,$(B)/pic/%.d,$(SRC))

clean:
	rm -rf build
