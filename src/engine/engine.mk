# dsocr-engine: plain C11, no PostgreSQL.  Objects go to $(BUILD).

BUILD ?= build
ENGINE_CC ?= $(CC)
ENGINE_OPT ?= -O2 -g
ENGINE_SAN ?=
# no: without the library of matrix products
DSOCR_ONEDNN ?= yes
# Formats and orientation: taken where they are installed, "no" leaves one out.
DSOCR_LEPTONICA := $(or $(DSOCR_LEPTONICA),$(shell pkg-config --exists lept 2>/dev/null && echo yes || echo no))
DSOCR_TIFF := $(or $(DSOCR_TIFF),$(shell pkg-config --exists libtiff-4 2>/dev/null && echo yes || echo no))
DSOCR_WEBP := $(or $(DSOCR_WEBP),$(shell pkg-config --exists libwebpdemux 2>/dev/null && echo yes || echo no))
# Remote workers and loading of folders: likewise.
DSOCR_LIBPQ := $(or $(DSOCR_LIBPQ),$(shell pkg-config --exists libpq 2>/dev/null && echo yes || echo no))
PQ_CFLAGS := $(if $(filter yes,$(DSOCR_LIBPQ)),-DDSOCR_WITH_LIBPQ $(shell pkg-config --cflags libpq))
PQ_LIBS := $(if $(filter yes,$(DSOCR_LIBPQ)),$(shell pkg-config --libs libpq))
IMAGE_PARTS := $(foreach part,LEPTONICA TIFF WEBP,$(if $(filter yes,$(DSOCR_$(part))),$(part)))
IMAGE_LIB_LEPTONICA = -llept
IMAGE_LIB_TIFF = -ltiff
IMAGE_LIB_WEBP = -lwebpdemux -lwebp
IMAGE_LIBS = $(foreach part,$(IMAGE_PARTS),$(IMAGE_LIB_$(part))) -lpng -lz -ljpeg
ENGINE_LIBS = $(if $(filter no,$(DSOCR_ONEDNN)),,-ldnnl) $(IMAGE_LIBS) -ljansson -lpcre2-8 -lseccomp \
	-lpthread -lm
ENGINE_CFLAGS = -std=gnu11 -D_GNU_SOURCE $(ENGINE_OPT) $(ENGINE_SAN) -fopenmp -Isrc/engine -Ikernels/cpu \
	-Wall -Wextra -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wno-unused-parameter \
	-Wno-missing-field-initializers $(IMAGE_PARTS:%=-DDSOCR_WITH_%) -MMD -MP
# hidden visibility is not needed: the engine is one executable

# Command line programs have a main or belong to one; the rest is the library.
ENGINE_CLI = $(filter-out $(if $(filter yes,$(DSOCR_LIBPQ)),,src/engine/cli_join%.c src/engine/cli_load%.c),\
	$(wildcard src/engine/main.c src/engine/cli_*.c src/engine/check_*.c))
ENGINE_LIB = $(filter-out $(ENGINE_CLI),$(wildcard src/engine/*.c))
KERNEL_SRC = $(filter-out %_isa.c kernels/cpu/onednn$(if $(filter no,$(DSOCR_ONEDNN)),,_none).c,\
	$(wildcard kernels/cpu/*.c))
# Files named *_isa.c are compiled once for each instruction set.
KERNEL_ISA = $(wildcard kernels/cpu/*_isa.c)
ISA_FLAGS_generic =
ISA_FLAGS_avx2 = -mavx2 -mfma -mf16c
ISA_FLAGS_avx512 = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -mprefer-vector-width=512
ISAS = generic avx2 avx512

ENGINE_LIB_OBJ = $(patsubst %.c,$(BUILD)/%.o,$(ENGINE_LIB) $(KERNEL_SRC)) \
	$(foreach isa,$(ISAS),$(patsubst %.c,$(BUILD)/%.$(isa).o,$(KERNEL_ISA)))
ENGINE_CLI_OBJ = $(patsubst %.c,$(BUILD)/%.o,$(ENGINE_CLI))

dsocr-engine: $(BUILD)/dsocr-engine
	cp $< $@

$(BUILD)/dsocr-engine: $(ENGINE_CLI_OBJ) $(BUILD)/libengine.a
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $^ $(ENGINE_LIBS) $(PQ_LIBS)

$(BUILD)/src/engine/main.o $(BUILD)/src/engine/cli_join.o $(BUILD)/src/engine/cli_join_db.o \
$(BUILD)/src/engine/cli_load_db.o $(BUILD)/src/engine/cli_load_table.o: \
	ENGINE_CFLAGS += $(PQ_CFLAGS) -DDSOCR_VERSION='"$(DSOCR_VERSION)"'

$(BUILD)/libengine.a: $(ENGINE_LIB_OBJ)
	rm -f $@
	ar rcs $@ $^

# what a model folder is quantized by when it is opened
$(BUILD)/src/engine/quantize.o $(BUILD)/src/engine/tensor.o: ENGINE_OPT += -O3

define isa_rule
$(BUILD)/%_isa.$(1).o: %_isa.c
	@mkdir -p $$(@D)
	$$(ENGINE_CC) $$(ENGINE_CFLAGS) -O3 $$(ISA_FLAGS_$(1)) -DDSOCR_ISA=$(1) -c -o $$@ $$<
endef
$(foreach isa,$(ISAS),$(eval $(call isa_rule,$(isa))))

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(ENGINE_CC) $(ENGINE_CFLAGS) -c -o $@ $<

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
