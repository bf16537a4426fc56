# pgmq: build with PGXS.
#
#   make, make install      build and install against $(PG_CONFIG)
#   make test               build and test on private servers; installs nothing
#   make lint               the rules a compiler does not know
#   make demo, demo-stop    a private server with producers and consumers
#   make bench              all measurements, quick and small; see bench/README.md
#
# Settings: PG_CONFIG=path, WERROR=1 (warnings are errors), ASSERT=1 (assertions),
# FAILPOINTS=1 (the points of src/common/failpoint.h; never for production),
# with_llvm=yes (bitcode for the JIT).  VPATH builds work: make -f SRC/Makefile.

here := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

# Paths below $(here), relative to it
below = $(patsubst $(here)/%,%,$(wildcard $(addprefix $(here)/,$(1))))

EXTENSION = pgmq
MODULE_big = pgmq
DATA = $(call below,sql/pgmq--*.sql)
# Update scripts, of one text, from each version of the SQL-only pgmq, and from one that
# is no extension ("unpackaged")
RELEASED = 1.5.0 1.5.1 1.5.2 1.6.0 1.6.1 1.7.0 1.8.0 1.8.1 1.9.0 1.10.0 1.10.1 \
	1.11.0 1.11.1 1.12.0 1.13.0 1.13.1
version := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(here)/pgmq.control)
updates = $(patsubst %,pgmq--%--$(version).sql,$(RELEASED) unpackaged)
DATA_built = $(updates) pgmq--unpackaged.sql
OBJS = $(patsubst %.c,%.o,$(call below,src/*.c src/*/*.c))

PG_CPPFLAGS = -I$(here)/src $(if $(ASSERT),-DUSE_ASSERT_CHECKING) \
	$(if $(FAILPOINTS),-DPGMQ_FAILPOINTS)
PG_CFLAGS = -Wall -Wextra -Wmissing-prototypes \
	-Wshadow=compatible-local -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-clobbered $(if $(WERROR),-Werror)

# Tests run on servers of their own, since the library must be preloaded.
# TEMP_CONFIG also reaches the servers that the TAP tests start.
# test_setup makes what the others use: it runs first, whichever run.
REGRESS = test_setup $(filter-out test_setup $(needs_15),$(basename $(notdir \
	$(filter-out sql/pgmq--%,$(call below,sql/*.sql)))))
ISOLATION = $(filter-out $(needs_15),$(basename $(notdir $(call below,specs/*.spec))))
needs_15 = $(if $(filter 14,$(MAJORVERSION)),$(basename $(notdir \
	$(shell cd $(here) && grep -l 'Needs PostgreSQL 15\.' sql/*.sql specs/*.spec))))
TAP_TESTS = 1
export TEMP_CONFIG ?= $(abspath $(here))/test.conf
REGRESS_OPTS = --temp-instance=./tmp_check_regress --temp-config=$(TEMP_CONFIG) \
	--load-extension=pgmq
ISOLATION_OPTS = --temp-instance=./tmp_check_iso --temp-config=$(TEMP_CONFIG) \
	--load-extension=pgmq
EXTRA_CLEAN = tmp_check_regress

# Goals that are scripts must work before PostgreSQL's headers are there
scripts = test lint demo demo-stop bench
.PHONY: $(scripts) objects
.DEFAULT_GOAL = all

test lint demo demo-stop:
	@$(here)/scripts/$@

bench:
	@$(here)/bench/run --quick

ifneq ($(filter-out $(scripts),$(or $(MAKECMDGOALS),all)),)

# Bitcode needs clang and doubles the build: only on demand
ifneq ($(origin with_llvm),command line)
override with_llvm = no
endif

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error no pg_config: install PostgreSQL's server headers or set PG_CONFIG)
endif
include $(PGXS)

# Compile, do not link
objects: $(OBJS)

$(updates): $(addprefix $(here)/sql/,upgrade.awk upgrade.sql.in pgmq--$(version).sql)
	awk -f $(here)/sql/upgrade.awk $(here)/sql/pgmq--$(version).sql $(here)/sql/upgrade.sql.in >$@

pgmq--unpackaged.sql: $(addprefix $(here)/sql/,upgrade.awk unpackaged.sql.in pgmq--$(version).sql)
	awk -f $(here)/sql/upgrade.awk $(here)/sql/pgmq--$(version).sql $(here)/sql/unpackaged.sql.in >$@

# PGXS follows no #include; headers are few, so each object depends on all.
# A VPATH build has to make folders, by absolute name lest VPATH finds the sources'.
folders = $(addprefix $(CURDIR)/,$(sort $(dir $(OBJS))))
$(OBJS): $(call below,src/*.h src/*/*.h) | $(folders)

$(folders):
	@mkdir -p $@

endif
