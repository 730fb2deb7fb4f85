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
HARDEN = -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2 \
	-ftrivial-auto-var-init=zero
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
LDLIBS   += -lyaml -lxxhash

LIB_SRC    := $(wildcard protocol/*.c lib/*/*.c)
SERVER_SRC := $(wildcard proxy-server/*.c)
CLIENT_SRC := $(wildcard remote-client/*.c)
UNIT_SRC   := $(wildcard tests/unit/*.c)
TOOL_SRC   := $(wildcard tests/support/*.c)

LIB_OBJ    := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
SERVER_OBJ := $(SERVER_SRC:%.c=$(BUILD)/obj/%.o)
CLIENT_OBJ := $(CLIENT_SRC:%.c=$(BUILD)/obj/%.o)
UNIT_OBJ   := $(UNIT_SRC:%.c=$(BUILD)/obj/%.o)
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

# The unit tests take the daemons' modules in, all but their main files.
UNIT_MODULES := $(filter-out %/main.o,$(SERVER_OBJ) $(CLIENT_OBJ))
$(BUILD)/unit: $(UNIT_OBJ) $(UNIT_MODULES) $(BUILD)/libtunnel.a
	$(CC) $(LDFLAGS) -o $@ $^ -lhttp_parser -lcunit $(LDLIBS)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

clean:
	rm -rf build

.PHONY: all tools clean
