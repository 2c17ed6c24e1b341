# Checks and measurements on a GPU: see test/gpu/README.md.

GPU_PROGRAMS = $(patsubst test/gpu/%.c,%,$(filter-out test/gpu/gp%.c,$(wildcard test/gpu/*.c)))
GPU_OBJ = $(patsubst %.c,$(BUILD)/%.o,$(wildcard test/gpu/gp*.c)) $(BUILD)/test/reference/make_image.o

$(BUILD)/gpu/%: $(BUILD)/test/gpu/%.o $(GPU_OBJ) $(BUILD)/libengine.a
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $^ $(ENGINE_LIBS) -ldl

ifneq ($(NVCC),)
$(BUILD)/gpu/gp_tools.so: test/gpu/gp_tools.cu test/gpu/gp_tools.h kernels/cuda/cuda.h kernels/cuda/device.cuh
	@mkdir -p $(@D)
	$(NVCC) $(CUDA_FLAGS) -shared -cudart static -o $@ $<
endif

gpu-programs: $(addprefix $(BUILD)/gpu/,$(GPU_PROGRAMS))
