# port-proxy.  `make` builds the two daemons; `make help` lists the rest.

SAN     ?=
VARIANT := $(if $(SAN),$(SAN)$(if $(filter clang,$(notdir $(CC))),-clang),)
BUILD   ?= build$(if $(VARIANT),/$(VARIANT),)
PREFIX  ?= /usr/local
DESTDIR ?=
SYSCONF ?= /etc
WERROR  ?=

VERSION := $(shell cat VERSION)

WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wwrite-strings -Wundef -Wvla -Wformat=2 \
	-Wno-format-nonliteral $(if $(WERROR),-Werror)
OPT  = -O2 -g
# clang before 16 has zero initialisation only behind another flag.
ZEROINIT := $(shell $(CC) -ftrivial-auto-var-init=zero -E -x c /dev/null \
	>/dev/null 2>&1 && echo -ftrivial-auto-var-init=zero)
HARDEN = -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2 $(ZEROINIT)
LDHARDEN = -pie -Wl,-z,relro,-z,now

ifeq ($(SAN),asan)
OPT = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=undefined
HARDEN =
LDHARDEN =
endif
ifeq ($(SAN),tsan)
OPT = -O1 -g -fno-omit-frame-pointer -fsanitize=thread
HARDEN = -fPIE
LDHARDEN = -pie
endif
ifeq ($(SAN),cov)
OPT = -O0 -g --coverage
HARDEN =
LDHARDEN =
endif

CPPFLAGS += -D_GNU_SOURCE -DPORT_PROXY_VERSION='"$(VERSION)"' \
	-Iprotocol -Ilib -I.
CFLAGS   += -std=c11 $(OPT) $(WARN) $(HARDEN) -pthread
LDFLAGS  += $(OPT) $(LDHARDEN) -pthread
LDLIBS   += -lyaml -lxxhash -lcrypto
ifeq ($(shell pkg-config --exists libsystemd && echo yes),yes)
CPPFLAGS += -DHAVE_SYSTEMD
LDLIBS   += -lsystemd
endif

LIB_SRC    := $(wildcard protocol/*.c lib/*/*.c)
SERVER_SRC := $(wildcard proxy-server/*.c)
CLIENT_SRC := $(wildcard remote-client/*.c)
UNIT_SRC   := $(wildcard tests/unit/*.c)
SIM_SRC    := $(wildcard tests/sim/*.c)
TOOL_SRC   := $(wildcard tests/support/*.c)
BENCH_SRC  := $(wildcard bench/*.c bench/load/*.c)
CHAOS_SRC  := $(wildcard tests/chaos/load/*.c)

LIB_OBJ    := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
SERVER_OBJ := $(SERVER_SRC:%.c=$(BUILD)/obj/%.o)
CLIENT_OBJ := $(CLIENT_SRC:%.c=$(BUILD)/obj/%.o)
UNIT_OBJ   := $(UNIT_SRC:%.c=$(BUILD)/obj/%.o)
SIM_OBJ    := $(SIM_SRC:%.c=$(BUILD)/obj/%.o)
TOOLS      := $(TOOL_SRC:tests/support/%.c=$(BUILD)/tools/%)

all: $(BUILD)/proxy-server $(BUILD)/remote-client

$(BUILD)/proxy-server: $(SERVER_OBJ) $(BUILD)/libtunnel.a
	$(CC) $(LDFLAGS) -o $@ $^ -lhttp_parser $(LDLIBS)

$(BUILD)/remote-client: $(CLIENT_OBJ) $(BUILD)/libtunnel.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libtunnel.a: $(LIB_OBJ)
	rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/obj/%.o: %.c Makefile VERSION
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tools/%: $(BUILD)/obj/tests/support/%.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^

tools: $(TOOLS)

# The unit tests take in the proxy-server but for its main(), and of the
# remote-client what is pure.
UNIT_MODULES := $(filter-out %/main.o,$(SERVER_OBJ)) \
	$(BUILD)/obj/remote-client/roll.o
$(BUILD)/unit: $(UNIT_OBJ) $(UNIT_MODULES) $(BUILD)/libtunnel.a
	$(CC) $(LDFLAGS) -o $@ $^ -lhttp_parser -lcunit $(LDLIBS)

$(BUILD)/sim: $(SIM_OBJ) $(BUILD)/libtunnel.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# Tests.  CHECK_SCALE shrinks the volumes of the integration tests.
CHECK_SCALE ?= 1

check: check-unit check-sim check-integration

check-unit: $(BUILD)/unit
	$(SANENV) $(BUILD)/unit $(UNIT_SUITES)

# New seeds, from a random start that is printed; before them those that once
# found something.
SIM_SECONDS ?= 3600
SIM_JOBS    ?= 1
SIM_FLAGS   ?=
SIM_RUN = $(SANENV) $(BUILD)/sim --file tests/sim/seeds --jobs $(SIM_JOBS)

sim: $(BUILD)/sim
	$(SIM_RUN) --seconds $(SIM_SECONDS) $(SIM_FLAGS)

sim-asan:
	$(MAKE) SAN=asan sim

check-sim: $(BUILD)/sim
	$(SIM_RUN) --seconds $(if $(filter file,$(origin SIM_SECONDS)),60,$(SIM_SECONDS))

check-integration: all
	@$(MAKE) --no-print-directory SAN= BUILD=build tools
	BUILD=$(BUILD) TOOLS=build/tools SAN=$(SAN) \
		CHECK_SCALE=$(CHECK_SCALE) python3 -B tests/integration/run.py $(if $(SAN),-j 2)

check-asan:
	$(MAKE) SAN=asan CHECK_SCALE=0.1 SIM_SECONDS=20 check

# The suites left out here have one thread.
check-tsan:
	$(MAKE) SAN=tsan CHECK_SCALE=0.05 SIM_SECONDS=2 \
		UNIT_SUITES="base net connector crew daemon listeners handshake \
			instruction config http" check

check-oom: $(BUILD)/unit
	$(BUILD)/unit oom

check-valgrind: $(BUILD)/unit
	UNIT_SCALE=0.05 valgrind -q --leak-check=full --error-exitcode=1 \
		--errors-for-leak-kinds=definite,possible $(BUILD)/unit

ifeq ($(SAN),asan)
SANENV = ASAN_OPTIONS=detect_leaks=1
endif
ifeq ($(SAN),tsan)
SANENV = TSAN_OPTIONS=halt_on_error=1
endif

demo: all tools
	BUILD=$(BUILD) sh tests/demo.sh

# The benchmark.  BENCH_FLAGS go to bench.py; it has --help.
BENCH_FLAGS  ?=
BENCH_ROUNDS ?= 5
# Of one measurement, after the warm-up.
BENCH_SECONDS ?= 0.6
BENCH_TOOLS  := $(BUILD)/bench/load $(BUILD)/bench/relay
BENCH_RUN = BUILD=$(BUILD) python3 -B bench/bench.py --rounds $(BENCH_ROUNDS) \
	--seconds $(BENCH_SECONDS)

$(BUILD)/bench/%: $(BUILD)/obj/bench/%.o
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^

$(BUILD)/bench/load: $(patsubst %.c,$(BUILD)/obj/%.o,\
	$(wildcard bench/load/*.c))

bench-tools: $(BENCH_TOOLS) $(BUILD)/bench/path

bench: all $(BENCH_TOOLS)
	$(BENCH_RUN) $(BENCH_FLAGS)

bench-full: all $(BENCH_TOOLS)
	$(BENCH_RUN) --full $(BENCH_FLAGS)

# LONG_FLAGS go to long.py; it has --help.
LONG_FLAGS ?=

bench-long: all $(BUILD)/bench/load $(BUILD)/bench/path
	BUILD=$(BUILD) python3 -B bench/long.py $(LONG_FLAGS)

# Real faults on a real pair of daemons.  CHAOS_FLAGS go to chaos.py; it has
# --help.  Needs root.
CHAOS_FLAGS ?=

$(BUILD)/chaos/load: $(CHAOS_SRC:%.c=$(BUILD)/obj/%.o)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^

chaos-load: $(BUILD)/chaos/load

chaos: all
	@$(MAKE) --no-print-directory SAN= BUILD=build chaos-load
	BUILD=$(BUILD) LOAD=build/chaos/load \
		python3 -B tests/chaos/chaos.py $(CHAOS_FLAGS)

# Fuzzing: FUZZ_SECONDS for each target, with the corpus in the tree.
FUZZ_SECONDS ?= 150
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SRC := $(LIB_SRC) $(filter-out %/main.c,$(SERVER_SRC)) \
	remote-client/roll.c

build/fuzz/%: tests/fuzz/fuzz_%.c $(FUZZ_SRC) $(wildcard tests/fuzz/*.h)
	@mkdir -p $(@D)
	clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=undefined $(CPPFLAGS) -o $@ $< \
		$(FUZZ_SRC) -lhttp_parser $(LDLIBS) -pthread

fuzzers: $(FUZZERS:%=build/fuzz/%)

fuzz: fuzzers
	@for f in $(FUZZERS); do \
		echo "fuzz: $$f, $(FUZZ_SECONDS) s"; \
		mkdir -p build/fuzz/new-$$f; \
		build/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) \
			-timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
			-artifact_prefix=build/fuzz/ build/fuzz/new-$$f \
			tests/fuzz/corpus/$$f >build/fuzz/$$f.log 2>&1 || \
			{ tail -40 build/fuzz/$$f.log; exit 1; }; \
		grep -E 'number_of_executed|^Done' build/fuzz/$$f.log; \
	done

# Looks.
C_SRC := $(LIB_SRC) $(SERVER_SRC) $(CLIENT_SRC) $(BENCH_SRC)
ALL_C := $(C_SRC) $(UNIT_SRC) $(SIM_SRC) $(TOOL_SRC) $(CHAOS_SRC) \
	$(wildcard tests/fuzz/*.c)

lint: lint-layers lint-shell lint-man lint-cppcheck lint-tidy

lint-layers:
	sh tests/lint-layers.sh

lint-shell:
	shellcheck bootstrap.sh tests/*.sh .ci/run

lint-man:
	mandoc -Tlint -W warning docs/man/*

# varFuncNullUB: POSIX has NULL as a pointer.
lint-cppcheck:
	cppcheck -q --std=c11 --enable=warning,performance,portability \
		--error-exitcode=1 --inline-suppr -j2 \
		--suppress=missingIncludeSystem --suppress=varFuncNullUB \
		$(CPPFLAGS) $(C_SRC)

TIDYFLAGS := -D_GNU_SOURCE -DPORT_PROXY_VERSION=__FILE__ -Iprotocol -Ilib -I.
lint-tidy:
	printf '%s\n' $(C_SRC) | xargs -P 2 -n 8 sh -c \
		'clang-tidy --quiet "$$@" -- -std=c11 $(TIDYFLAGS) 2>/dev/null' tidy

format-check:
	clang-format --dry-run --Werror $(ALL_C)

format:
	clang-format -i $(ALL_C)

coverage:
	$(MAKE) SAN=cov CHECK_SCALE=0.05 SIM_SECONDS=10 check
	lcov -q --capture --directory build/cov --output-file build/cov/all.info \
		--rc lcov_branch_coverage=1
	lcov -q --extract build/cov/all.info '*/protocol/*' '*/lib/*' \
		'*/proxy-server/*' '*/remote-client/*' \
		--output-file build/cov/own.info --rc lcov_branch_coverage=1
	lcov --summary build/cov/own.info --rc lcov_branch_coverage=1

arch.png: docs/arch.dot
	dot -Tpng docs/arch.dot -o $@

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(SYSCONF)/port-proxy \
		$(DESTDIR)$(PREFIX)/share/man/man5 \
		$(DESTDIR)$(PREFIX)/share/man/man8
	install -m 755 $(BUILD)/proxy-server $(BUILD)/remote-client \
		$(DESTDIR)$(PREFIX)/sbin/
	install -m 644 config.example.yaml $(DESTDIR)$(SYSCONF)/port-proxy/
	install -m 644 docs/man/port-proxy.yaml.5 \
		$(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 docs/man/proxy-server.8 docs/man/remote-client.8 \
		$(DESTDIR)$(PREFIX)/share/man/man8/

help:
	@echo 'make                build/proxy-server and build/remote-client'
	@echo 'make demo           the main job, step by step'
	@echo 'make check          unit and integration tests'
	@echo 'make check-asan check-tsan check-oom check-valgrind'
	@echo 'make sim            SIM_SECONDS of sessions that outlive carriers'
	@echo 'make fuzz           FUZZ_SECONDS for each fuzz target'
	@echo 'make bench          beside direct and a plain relay, 5 minutes'
	@echo 'make bench-full     beside other tunnels and relays as well'
	@echo 'make bench-long     over distant paths, 12 minutes'
	@echo 'make chaos          real faults under load, 20 minutes, as root'
	@echo 'make lint format-check format coverage arch.png'
	@echo 'make install        DESTDIR= PREFIX= SYSCONF='

clean:
	rm -rf build

# Packages for everything; bootstrap.sh has installed them by now.
ci-packages:

.DELETE_ON_ERROR:
.PHONY: all tools check check-unit check-sim check-integration check-asan \
	check-tsan check-oom check-valgrind sim sim-asan demo bench-tools \
	bench bench-full bench-long chaos chaos-load \
	fuzzers fuzz lint lint-layers lint-shell lint-man lint-cppcheck \
	lint-tidy format-check format coverage install ci-packages help clean
