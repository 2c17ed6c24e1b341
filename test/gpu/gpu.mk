# Checks and measurements on a GPU, see test/gpu/README.md.

GPU_PROGRAMS = $(patsubst test/gpu/%.c,%,$(filter-out test/gpu/gp%.c,$(wildcard test/gpu/*.c)))
GPU_OBJ = $(patsubst %.c,$(BUILD)/%.o,$(wildcard test/gpu/gp*.c)) $(BUILD)/test/reference/make_image.o
GPU_LINK ?=

$(BUILD)/gpu/%: $(BUILD)/test/gpu/%.o $(GPU_OBJ) $(BUILD)/libengine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $^ $(GPU_LINK) $(ENGINE_LIBS) -ldl

# Tests of the table that run on a device as well as on its emulation: not
# those that tell the emulated device to misbehave or bring a library of their own.
GPU_TESTS = $(shell grep -LE 'DSOCR_EMU_(FAIL|HANG|DEVICES)|dsocr_emu_|emu\.h|fake_cublaslt' \
	$(wildcard test/cuda_emu/test_*.c) /dev/null | grep -v null)
$(BUILD)/gpu/kernels/%: test/cuda_emu/%.c $(REFERENCE_OBJ) $(BUILD)/libengine.a $(BUILD)/dsocr_cuda.so
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -Itest/reference -o $@ $(filter %.c %.o %.a,$^) \
		-Wl,-rpath,'$$ORIGIN' -Wl,-rpath,'$$ORIGIN/..' \
		-Wl,--push-state,--no-as-needed -L$(BUILD) -l:dsocr_cuda.so -Wl,--pop-state $(GPU_LINK) $(ENGINE_LIBS) \
		-lcmocka -ldl

ifneq ($(NVCC),)
$(BUILD)/gpu/gp_tools.so: test/gpu/gp_tools.cu test/gpu/gp_tools.h kernels/cuda/cuda.h kernels/cuda/device.cuh
	@mkdir -p $(@D)
	$(NVCC) $(CUDA_FLAGS) -shared -cudart static -o $@ $<
endif

gpu-programs: $(addprefix $(BUILD)/gpu/,$(GPU_PROGRAMS)) \
	$(patsubst test/cuda_emu/%.c,$(BUILD)/gpu/kernels/%,$(GPU_TESTS)) \
	$(if $(NVCC),$(BUILD)/gpu/gp_tools.so)

# Everything for a machine that has a GPU and no libraries: programs that need
# only libc there, and the scripts.
GPU_BUNDLE = $(BUILD)/gpu-bundle
GPU_STATIC = -Wl,--as-needed -Wl,-Bstatic -lpng16 -lz -ljpeg -ljansson -lpcre2-8 -lseccomp -l:libgomp.a \
	-Wl,-Bdynamic -lpthread -lm -ldl
gpu-bundle:
	@test -n '$(NVCC)' || { echo 'a bundle needs nvcc'; exit 1; }
	$(MAKE) --no-print-directory BUILD=$(BUILD)/gpu-static DSOCR_ONEDNN=no DSOCR_LEPTONICA=no DSOCR_TIFF=no DSOCR_WEBP=no ENGINE_LIBS='$(GPU_STATIC)' \
		GPU_LINK=-static-libgcc $(BUILD)/gpu-static/dsocr-engine $(BUILD)/gpu-static/dsocr_cuda.so gpu-programs
	tools/gpu/bundle $(BUILD)/gpu-static $(GPU_BUNDLE)

# The programs and the script on the CPU, with small numbers.
$(BUILD)/gpu/dsocr-engine: $(BUILD)/dsocr-engine
	@mkdir -p $(@D)
	cp $< $@

check-gpu-host: $(addprefix $(BUILD)/gpu/,$(GPU_PROGRAMS) dsocr-engine) golden
	@DEVICE=cpu GPU_QUICK=1 GPU_SECONDS=3600 BIN='$(abspath $(BUILD))/gpu' GOLDEN='$(abspath build/golden)' \
		OUT='$(abspath $(BUILD))/gpu-host' tools/gpu/check

# DEVICE=cpu tries the scripts; GPU_QUICK=1 with small settings.
gpu-check gpu-bench gpu-profile: gpu-%:
	@tools/gpu/$*

# Registers, shared memory and occupancy of every launch at the official
# dimensions, from compiled code and a device that runs nothing: no GPU needed.
$(BUILD)/gpu/dry.so: test/gpu/dry.cc $(EMU)/plain/libdsocr_cuda.a $(EMU)/engine/base.o $(EMU)/engine/tensor.o
	@mkdir -p $(@D)
	$(EMU_CXX) $(EMU_FLAGS) -O1 -shared -o $@ $< -Wl,--whole-archive $(EMU)/plain/libdsocr_cuda.a \
		-Wl,--no-whole-archive $(filter %.o,$^) -Wl,--allow-multiple-definition -ldl -lpthread -lm

gpu-resources: $(BUILD)/gpu/dry.so $(BUILD)/gpu/bench_kernels
	@tools/gpu/resources.py --dry $(BUILD)/gpu/dry.so --cases $(BUILD)/gpu/bench_kernels --nvcc '$(NVCC)' \
		--cubins $(BUILD)/gpu/cubins --output docs/benchmarks/gpu-resources.md

.PHONY: gpu-programs gpu-bundle gpu-check check-gpu-host gpu-bench gpu-profile gpu-resources
