# Tests that need no server: unit, golden, fuzz.

FUZZ_SECONDS ?= 60
UNIT_SKIP ?=
UNIT_SRC = $(filter-out $(UNIT_SKIP:%=test/unit/test_%.c),$(wildcard test/unit/test_*.c))
UNIT_BIN = $(patsubst test/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))
# engine_driver needs the whole engine, of which some tests have a part of their own.
REFERENCE_OBJ = $(patsubst %.c,$(BUILD)/%.o,$(filter-out %/engine_driver.c,$(wildcard test/reference/*.c)))

$(BUILD)/unit/%: test/unit/%.c $(REFERENCE_OBJ) $(BUILD)/libengine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $(filter %.c %.o,$^) $(filter %.a,$^) $(ENGINE_LIBS) -lcmocka

$(BUILD)/unit/test_engine $(BUILD)/unit/test_engine_gap $(BUILD)/unit/test_engine_images $(BUILD)/unit/test_engine_rotate $(BUILD)/unit/test_ladder: $(BUILD)/test/reference/engine_driver.o

# Reference cases on the reference backend: the code of `dsocr-engine check`.
$(BUILD)/unit/test_model: $(patsubst %,$(BUILD)/src/engine/check_%.o,case stages compare routes generate)

$(BUILD)/unit/test_memory: ENGINE_LIBS += -Wl,--wrap=dsocr_alloc,--wrap=dsocr_zalloc,--wrap=dsocr_strdup

TEST_ENGINE ?= $(BUILD)/dsocr-engine
TEST_PAGES ?= $(BUILD)/dsocr-pages
check-unit: $(UNIT_BIN) $(TEST_ENGINE) $(TEST_PAGES) golden
	@export DSOCR_TEST_ENGINE=$(TEST_ENGINE) DSOCR_TEST_PAGES=$(TEST_PAGES) DSOCR_TEST_MODEL=models/nano; rc=0; for t in $(UNIT_BIN); do \
		echo "== $$t"; began=$$(date +%s); $$t || rc=1; echo "-- $$(($$(date +%s) - began)) s"; done; exit $$rc

# Speed of single operations: make $(BUILD)/bench/bench_ops
$(BUILD)/bench/%: test/bench/%.c $(BUILD)/libengine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $(filter %.c %.o,$^) $(filter %.a,$^) $(ENGINE_LIBS)

# Counts of instructions against test/bench/counts.txt.  Linked without the
# library of matrix products, whose instructions are not ours.
COUNT_COMPILER = gcc-$(shell $(ENGINE_CC) -dumpversion)
$(BUILD)/bench/count_work: $(BUILD)/kernels/cpu/onednn_none.o
$(BUILD)/bench/count_work: ENGINE_LIBS := $(filter-out -ldnnl,$(ENGINE_LIBS))
check-callgrind: $(BUILD)/bench/count_work
	@test/bench/count $< $(COUNT_COMPILER)
update-counts: $(BUILD)/bench/count_work
	@test/bench/count --update $< $(COUNT_COMPILER)

# In turns with llama.cpp, PyTorch and Tesseract, which are downloaded:
# PEERS_FLAGS='--only decode --wall', or --nano alone
bench-peers: server-copy golden $(BUILD)/bench/bench_stages
	@tools/bench/peers $(PEERS_FLAGS)

# The scripts themselves, with small models.
check-bench: $(BUILD)/bench/bench_stages
	@python3 tools/bench/peers.py --self-test --stages $(BUILD)/bench/bench_stages

FUZZ_SRC = $(filter-out $(FUZZ_SKIP:%=test/fuzz/fuzz_%.c),$(wildcard test/fuzz/fuzz_*.c))
FUZZ_BIN = $(patsubst test/fuzz/%.c,build/fuzz/%,$(FUZZ_SRC))
FUZZ_CC ?= clang-14
FUZZ_FLAGS = -std=gnu11 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=undefined -Isrc/engine $(IMAGE_PARTS:%=-DDSOCR_WITH_%)
# Each target links only what it tests; no device code.
FUZZ_LIB = $(filter-out $(patsubst %,src/engine/%.c,engine engine_step engine_decode scheduler job job_check job_result sequence model load encoder \
	encoder_weights decoder decoder_weights device serve sandbox sandbox_calls kv_cache),$(ENGINE_LIB))

build/fuzz/%: test/fuzz/%.c $(FUZZ_LIB)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -o $@ $^ $(FUZZ_LIBS) $(IMAGE_LIBS) -ljansson -lpcre2-8 -lm

# Reference data: unpacked once for each state of the archives.
golden:
	@tools/golden/unpack build/golden

# The whole reference data where it lies beside the tree, as well as our own.
SHARED_GOLDEN = $(wildcard ../shared/golden)
check-golden: golden $(BUILD)/dsocr-engine
	@$(BUILD)/dsocr-engine check build/golden
ifneq ($(SHARED_GOLDEN),)
	@$(BUILD)/dsocr-engine check --tokenizer build/golden/tokenizer/tokenizer.json $(SHARED_GOLDEN)
endif

# The model of full size: 6.7 GB of weights from a formula, 8 GB of disk and
# 16 GB of memory in all.
SYNTH ?= build/synth
check-synth: golden $(BUILD)/dsocr-engine
	@mkdir -p $(SYNTH)/official
	@cp build/golden/synth/official/*.json build/golden/tokenizer/tokenizer.json $(SYNTH)/official/
	$(BUILD)/dsocr-engine synth --spec build/golden/synth --seed 4 --reference $(SYNTH)/official \
		--out $(SYNTH)/model
	$(BUILD)/dsocr-engine check --model $(SYNTH)/model build/golden/synth

# Stands in for the engine in tests of the PostgreSQL side.
STUB_OBJ = $(patsubst %,$(BUILD)/src/engine/%.o,base request utf8 protocol protocol_read protocol_wire channel output output_boxes output_lines)
$(BUILD)/stub_engine: test/stub/stub_engine.c $(STUB_OBJ)
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $(filter %.c %.o,$^) -lm

# Stands in for the page server, beside the other.
STUB_PAGES_OBJ = $(patsubst %,$(BUILD)/src/engine/%.o,base request utf8 protocol protocol_read protocol_wire channel)
$(BUILD)/stub_pages: test/stub/stub_pages.c $(STUB_PAGES_OBJ)
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $(filter %.c %.o,$^)

# Writes the files of docs/inputs.md, where all that reads them is built.
MAKE_INPUTS = $(if $(filter yes-yes-yes,$(DSOCR_TIFF)-$(DSOCR_WEBP)-$(DSOCR_PDF)),$(BUILD)/make_inputs)
INPUTS_OBJ = $(patsubst %,$(BUILD)/%.o,test/reference/make_image test/reference/pdf_maker src/engine/base)
$(BUILD)/make_inputs: $(wildcard test/inputs/*.c) $(INPUTS_OBJ)
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $(filter %.c %.o,$^) $(IMAGE_LIBS) -lm

# docs/inputs.md anew, from what a server makes of them
inputs-table: $(BUILD)/make_inputs
	@rm -f $(BUILD)/inputs.md && install -m 666 /dev/null $(BUILD)/inputs.md
	-@DSOCR_INPUTS_TABLE=$(abspath $(BUILD))/inputs.md $(MAKE) --no-print-directory check-tap TAP=test/t/134_inputs.pl
	@test -s $(BUILD)/inputs.md && cp $(BUILD)/inputs.md docs/inputs.md

# A stand-in for cuBLASLt, which the emulated backend finds in the program itself.
FAKE_BLAS = $(patsubst %,$(BUILD)/cuda_emu/%/test_blas,plain asan race)
$(BUILD)/cuda_emu/%/fake_cublaslt.o: test/cuda_emu/fake_cublaslt.cu
	@mkdir -p $(@D)
	$(EMU_CXX) -x c++ $(EMU_FLAGS) $(EMU_KERNEL_$*) -c -o $@ $<
	$(if $(EMU_AFTER_$*),$(EMU_AFTER_$*) $@)
$(FAKE_BLAS): %/test_blas: %/fake_cublaslt.o
$(foreach build,plain asan race,$(eval $$(FAKE_BLAS): EMU_LINK_$(build) += -rdynamic))

# What several parts of tools/check use.
build-shared: $(BUILD)/dsocr-engine $(BUILD)/stub_engine $(BUILD)/stub_pages $(MAKE_INPUTS) $(BUILD)/cuda_emu/dsocr_cuda.so golden
build-unit: $(UNIT_BIN)
build-fuzz: $(FUZZ_BIN)

# Each target for FUZZ_SECONDS, starting from test/fuzz/corpus/NAME where it exists.
check-fuzz: $(FUZZ_BIN)
	@test/fuzz/run $(FUZZ_SECONDS) $(FUZZ_BIN)

# Scenarios that start servers of their own: a copy of the server of PG_CONFIG
# with the extension installed in it.  TAP=test/t/001_engine_crash.pl runs one.
TAP = $(sort $(wildcard test/t/*.pl))
PROVE_FLAGS ?= -v
SERVER_COPY = $(abspath $(BUILD))/server
check-tap: server-copy $(BUILD)/stub_engine $(BUILD)/stub_pages $(MAKE_INPUTS) golden $(BUILD)/cuda_emu/dsocr_cuda.so
	@PG_CONFIG='$(PG_CONFIG)' DSOCR_SERVER_COPY='$(SERVER_COPY)' \
		DSOCR_EMULATED='$(abspath $(BUILD))/cuda_emu/dsocr_cuda.so' \
		DSOCR_PROVE_FLAGS='$(PROVE_FLAGS)' test/t/run $(BUILD)/stub_engine $(TAP)

# Pages a second through SQL beside those of the engine alone: BENCH_PAGES, BENCH_ROUNDS.
bench-sql:
	@$(MAKE) --no-print-directory check-tap TAP=test/bench/bench_sql.pl

# What the queue adds: BENCH_IMAGES, BENCH_JOBS, BENCH_FILES.
bench-queue:
	@$(MAKE) --no-print-directory check-tap TAP=test/bench/bench_queue.pl

# Without the CUDA backend: tests name the emulated one, and compiling takes minutes.
server-copy:
	@$(MAKE) --no-print-directory CUDA=no all
	@test/t/copy_server '$(PG_CONFIG)' '$(SERVER_COPY)'
	@$(MAKE) --no-print-directory CUDA=no install DESTDIR='$(SERVER_COPY)' > /dev/null

lint:
	@test/lint/run

format:
	@test/lint/run --format

.PHONY: bench-peers check-bench check-unit check-golden check-synth check-callgrind update-counts check-fuzz check-tap server-copy build-unit build-shared build-fuzz golden inputs-table lint format
