# Tests that need no server: unit, golden, fuzz.

FUZZ_SECONDS ?= 60
UNIT_SRC = $(wildcard test/unit/test_*.c)
UNIT_BIN = $(patsubst test/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))
REFERENCE_OBJ = $(patsubst %.c,$(BUILD)/%.o,$(wildcard test/reference/*.c))

$(BUILD)/unit/%: test/unit/%.c $(REFERENCE_OBJ) $(BUILD)/libengine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $^ $(ENGINE_LIBS) -lcmocka

check-unit: $(UNIT_BIN) golden
	@rc=0; for t in $(UNIT_BIN); do echo "== $$t"; $$t || rc=1; done; exit $$rc

FUZZ_SRC = $(wildcard test/fuzz/fuzz_*.c)
FUZZ_BIN = $(patsubst test/fuzz/%.c,build/fuzz/%,$(FUZZ_SRC))
FUZZ_FLAGS = -std=gnu11 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=undefined -Isrc/engine
# Each target links only what it tests; no device code.
FUZZ_LIB = $(filter-out src/engine/engine.c src/engine/scheduler.c src/engine/encoder.c \
	src/engine/decoder.c src/engine/serve.c src/engine/sandbox.c src/engine/kv_cache.c,$(ENGINE_LIB))

build/fuzz/%: test/fuzz/%.c $(FUZZ_LIB)
	@mkdir -p $(@D)
	clang $(FUZZ_FLAGS) -o $@ $^ -lpng -ljpeg -ljansson -lpcre2-8 -lm

# Reference data: unpacked once for each state of the archives.
golden:
	@tools/golden/unpack build/golden

lint:
	@test/lint/run

format:
	@test/lint/run --format

.PHONY: check-unit golden lint format
