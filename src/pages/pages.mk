# dsocr-pages: documents to page images.  A program of its own, because poppler
# is GPL.  Without poppler and cairo it is built without PDF; DSOCR_PDF=no does that.

DSOCR_PDF := $(or $(DSOCR_PDF),$(shell pkg-config --exists poppler-glib gio-2.0 cairo fontconfig 2>/dev/null && \
	echo yes || echo no))
PAGES_PDF_SRC = src/pages/source_pdf.c src/pages/pdf_stored.c src/pages/page_draw.c src/pages/surface.c
ifneq ($(DSOCR_PDF),no)
PAGES_PDF_CFLAGS := $(shell pkg-config --cflags poppler-glib gio-2.0 cairo fontconfig)
PAGES_PDF_LIBS := $(shell pkg-config --libs poppler-glib gio-2.0 cairo fontconfig)
PAGES_LEFT_OUT = src/pages/without_pdf.c
else
PAGES_LEFT_OUT = $(PAGES_PDF_SRC)
endif

PAGES_SRC = $(filter-out $(PAGES_LEFT_OUT),$(wildcard src/pages/*.c))
PAGES_OBJ = $(patsubst %.c,$(BUILD)/%.o,$(PAGES_SRC))
PAGES_LIBS = -Wl,--as-needed $(PAGES_PDF_LIBS) $(ENGINE_LIBS)

$(PAGES_OBJ): ENGINE_CFLAGS += $(PAGES_PDF_CFLAGS)

dsocr-pages: $(BUILD)/dsocr-pages
	cp $< $@

# Of the engine: frames, sandbox and decoders of images.
$(BUILD)/dsocr-pages: $(PAGES_OBJ) $(BUILD)/libengine.a
	$(ENGINE_CC) $(ENGINE_CFLAGS) -o $@ $^ $(PAGES_LIBS)

# Speed and memory: make $(BUILD)/bench/bench_pages
$(BUILD)/bench/bench_pages: $(patsubst %,$(BUILD)/test/reference/%_peer.o,pages serve)
$(BUILD)/bench/bench_pages: ENGINE_LIBS += -lcmocka

# Fuzz targets of what renderers do with documents, and with lists of shapes.
PAGES_FUZZ = build/fuzz/fuzz_pdf build/fuzz/fuzz_pages
PAGES_FUZZ_SRC = $(filter-out $(patsubst %,src/pages/%.c,main child renderer supervisor \
	supervisor_documents supervisor_renderers),$(PAGES_SRC))
ifneq ($(DSOCR_PDF),no)
$(PAGES_FUZZ): FUZZ_FLAGS += -Isrc/pages $(PAGES_PDF_CFLAGS)
$(PAGES_FUZZ): FUZZ_LIBS = $(PAGES_PDF_LIBS)
$(PAGES_FUZZ): $(PAGES_FUZZ_SRC)
else
override FUZZ_SKIP += pdf pages
# What these tests ask for is PDF.
override UNIT_SKIP += pages_pdf pages_hostile
endif
