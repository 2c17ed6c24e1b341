# dsocr_cuda.so: the CUDA backend, which the engine loads when a device asks for
# it.  Without nvcc nothing here is built and the rest is as it would be.
# CUDA=no leaves it out; NVCC or CUDA_HOME name the compiler; CUDA_GENCODE the
# GPUs it is made for.

CUDA ?= yes
ifneq ($(CUDA),no)
NVCC ?= $(firstword $(if $(CUDA_HOME),$(wildcard $(CUDA_HOME)/bin/nvcc)) \
	$(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
endif

# Ampere, Hopper, and what comes later by the driver's compiler.
CUDA_GENCODE ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 \
	-gencode arch=compute_90,code=compute_90
CUDA_FLAGS = -std=c++17 -O3 -lineinfo $(CUDA_GENCODE) -Isrc/engine -Ikernels/cuda \
	-Xcompiler -Wall,-Wextra,-fPIC,-fvisibility=hidden -Werror all-warnings
# What the backend uses of the engine, without anything it does not need.
CUDA_ENGINE = base tensor
CUDA_OBJ = $(patsubst %.cu,$(BUILD)/%.o,$(wildcard kernels/cuda/*.cu)) \
	$(patsubst %,$(BUILD)/kernels/cuda/%.o,$(CUDA_ENGINE))

$(BUILD)/kernels/cuda/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	$(NVCC) $(CUDA_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<

$(CUDA_ENGINE:%=$(BUILD)/kernels/cuda/%.o): $(BUILD)/kernels/cuda/%.o: src/engine/%.c
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -fPIC -fvisibility=hidden -c -o $@ $<

# The runtime is linked in: nothing but the driver is needed where it runs.
$(BUILD)/dsocr_cuda.so: $(CUDA_OBJ)
	$(NVCC) -shared -cudart static -o $@ $^ -Xlinker -z,defs,--exclude-libs,ALL,--as-needed -ldl

ifneq ($(NVCC),)
cuda: $(BUILD)/dsocr_cuda.so
else
cuda:
	@echo 'no nvcc: the CUDA backend is left out (see README.md, GPU)'
endif
ifneq ($(CUDA),no)
all: cuda
endif

# Where an installed engine finds it, when it is not beside it.
ifneq ($(pkglibdir),)
$(BUILD)/src/engine/device.o: ENGINE_CFLAGS += -DDSOCR_LIBRARY_DIR='"$(pkglibdir)"'

ifneq ($(NVCC),)
install: install-cuda
endif
install-cuda: $(BUILD)/dsocr_cuda.so
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)'
	$(INSTALL_SHLIB) $< '$(DESTDIR)$(pkglibdir)/dsocr_cuda.so'

uninstall: uninstall-cuda
uninstall-cuda:
	rm -f '$(DESTDIR)$(pkglibdir)/dsocr_cuda.so'
endif

.PHONY: cuda install-cuda uninstall-cuda
