# The CUDA backend compiled for the host, see test/cuda_emu/README.md.  Three
# ways to build it: plain, asan (address and undefined behaviour sanitizers)
# and race (every access is checked against those of other threads).

EMU_CXX ?= $(firstword $(shell command -v clang++-14 2>/dev/null) $(shell command -v clang++ 2>/dev/null) g++)
EMU_FLAGS = -std=c++17 -gline-tables-only -fPIC -fvisibility=hidden -ffp-contract=off -DDSOCR_CUDA_EMU -Itest/cuda_emu \
	-Ikernels/cuda -Isrc/engine -Itest/reference -Wall -Wextra -Wno-unused-parameter -Wno-unused-function \
	-Wno-missing-field-initializers -MMD -MP
EMU_SAN = -fsanitize=address,undefined -fno-sanitize-recover=undefined

# Unrolled loops make the sanitizers' compilers slow.
EMU_ROLLED = -fno-unroll-loops -mllvm -pragma-unroll-threshold=1 -Wno-pass-failed

# Flags of kernels, of the emulator itself and of links, by build.
EMU_KERNEL_plain = -O2
EMU_KERNEL_asan = -O1 $(EMU_ROLLED) -DDSOCR_EMU_CHECKED $(EMU_SAN) -fno-omit-frame-pointer
EMU_KERNEL_race = -O1 $(EMU_ROLLED) -DDSOCR_EMU_CHECKED -DDSOCR_TEST_RACE -fsanitize=thread -mllvm -tsan-instrument-func-entry-exit=0 \
	-mllvm -tsan-instrument-read-before-write=1 -mllvm -tsan-instrument-atomics=0
EMU_SELF_plain = -O2
EMU_SELF_asan = -O1 -DDSOCR_EMU_CHECKED $(EMU_SAN) -fno-omit-frame-pointer
EMU_SELF_race = -O2 -DDSOCR_EMU_CHECKED -DDSOCR_EMU_RACE
EMU_LINK_plain =
EMU_LINK_asan = $(EMU_SAN)
EMU_LINK_race =
# Copies of memory are accesses too.
EMU_AFTER_race = objcopy --redefine-sym memcpy=dsocr_emu_memcpy --redefine-sym memmove=dsocr_emu_memmove \
	--redefine-sym memset=dsocr_emu_memset
EMU_BUILDS = plain asan race

EMU = $(BUILD)/cuda_emu
EMU_KERNELS = $(wildcard kernels/cuda/*.cu)
EMU_SELF = $(wildcard $(addprefix test/cuda_emu/,block.cc warp.cc memory.cc runtime.cc race.cc fence.cc))
EMU_LIBS = -lgomp $(ENGINE_LIBS) -ldl

# $(1) is the build
define emu_rules
$(EMU)/$(1)/%.o: kernels/cuda/%.cu
	@mkdir -p $$(@D)
	$(EMU_CXX) -x c++ $(EMU_FLAGS) $$(EMU_KERNEL_$(1)) -c -o $$@ $$<
	$$(if $$(EMU_AFTER_$(1)),$$(EMU_AFTER_$(1)) $$@)
$(EMU)/$(1)/self/%.o: test/cuda_emu/%.cc
	@mkdir -p $$(@D)
	$(EMU_CXX) $(EMU_FLAGS) $$(EMU_SELF_$(1)) -c -o $$@ $$<
$(EMU)/$(1)/libdsocr_cuda.a: $$(EMU_KERNELS:kernels/cuda/%.cu=$(EMU)/$(1)/%.o) \
		$$(EMU_SELF:test/cuda_emu/%.cc=$(EMU)/$(1)/self/%.o)
	rm -f $$@
	ar rcs $$@ $$^
# Kernels on their own, without the backend, and a test in C++ beside them.
$(EMU)/$(1)/%: test/cuda_emu/%.cu $$(EMU_SELF:test/cuda_emu/%.cc=$(EMU)/$(1)/self/%.o)
	@mkdir -p $$(@D)
	$(EMU_CXX) $(EMU_FLAGS) $$(EMU_KERNEL_$(1)) -c -o $$@.o -x c++ $$<
	$$(if $$(EMU_AFTER_$(1)),$$(EMU_AFTER_$(1)) $$@.o)
	$(EMU_CXX) $$(EMU_LINK_$(1)) -o $$@ $$@.o $$(filter %.o,$$^) -ldl -lpthread -lm
# Tests in C of the backend's table.
$(EMU)/$(1)/unit/%: test/unit/%.c $(EMU)/$(1)/libdsocr_cuda.a $(REFERENCE_OBJ) $(BUILD)/libengine.a
	@mkdir -p $$(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -c -o $$@.o $$<
	$(EMU_CXX) $$(EMU_LINK_$(1)) -Wl,-u,dsocr_cuda_open -o $$@ $$@.o $$(filter %.o %.a,$$^) $(EMU_LIBS) -lcmocka
$(EMU)/$(1)/%: test/cuda_emu/%.c $(EMU)/$(1)/libdsocr_cuda.a $(REFERENCE_OBJ) $(BUILD)/libengine.a
	@mkdir -p $$(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -Itest/reference -c -o $$@.o $$<
	$(EMU_CXX) $$(EMU_LINK_$(1)) -Wl,-u,dsocr_cuda_open -o $$@ $$@.o $$(filter %.o %.a,$$^) $(EMU_LIBS) -lcmocka
endef
$(foreach build,$(EMU_BUILDS),$(eval $(call emu_rules,$(build))))

# What the engine loads: DSOCR_CUDA_LIBRARY=$(EMU)/dsocr_cuda.so
$(EMU)/engine/%.o: src/engine/%.c
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -fPIC -fvisibility=hidden -c -o $@ $<

$(EMU)/dsocr_cuda.so: $(EMU)/plain/libdsocr_cuda.a $(EMU)/engine/base.o $(EMU)/engine/tensor.o
	$(EMU_CXX) -shared -o $@ -Wl,--whole-archive $< -Wl,--no-whole-archive $(filter %.o,$^) \
		-Wl,-z,defs -ldl -lpthread -lm

# Every test in every build; EMU_LEVEL=night for more seeds and cases.
EMU_LEVEL ?= ci
EMU_TESTS = test_emu test_faults $(patsubst test/cuda_emu/%.c,%,$(wildcard test/cuda_emu/test_*.c)) \
	unit/test_backend unit/test_backend_decoder
EMU_BIN = $(foreach build,$(EMU_BUILDS),$(EMU_TESTS:%=$(EMU)/$(build)/%))

cuda-emu: $(EMU)/dsocr_cuda.so

build-cuda-emu: $(EMU_BIN) $(EMU)/dsocr_cuda.so $(BUILD)/dsocr-engine

check-cuda-emu: build-cuda-emu golden
	@test/cuda_emu/run $(EMU) $(EMU_LEVEL) $(BUILD)/dsocr-engine build/golden $(EMU_TESTS)

.PHONY: cuda-emu build-cuda-emu check-cuda-emu
.SECONDARY:
