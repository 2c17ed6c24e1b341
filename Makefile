# dsocr: DeepSeek-OCR inside PostgreSQL.  `make help` lists the targets.

EXTENSION = dsocr
DSOCR_VERSION = 0.1.0
MODULE_big = dsocr
DATA_built = sql/dsocr--$(DSOCR_VERSION).sql
DATA = $(wildcard sql/dsocr--*--*.sql)

# The module: what runs in PostgreSQL processes, and the plain data formats it
# shares with the engine.
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c bgworker/*.c)) \
       $(addprefix src/engine/,base.o request.o utf8.o protocol.o protocol_read.o protocol_wire.o \
       image_sniff.o geometry.o smiles.o)
PG_CPPFLAGS = -I$(CURDIR)/src -I$(CURDIR)/bgworker
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
            -Wno-declaration-after-statement -Wno-cast-function-type

# setup comes first: it makes the extension and the pages that the others read.
REGRESS = setup $(filter-out setup,$(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql))))
# Tests in test/sql, what they must print in expected.
REGRESS_OPTS = --inputdir=test
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=.
EXTRA_CLEAN = sql/dsocr--$(DSOCR_VERSION).sql build dsocr-engine dsocr-pages results

.DEFAULT_GOAL := all

PG_CONFIG ?= pg_config
ifneq ($(shell command -v $(PG_CONFIG) 2>/dev/null),)
PGXS := $(shell $(PG_CONFIG) --pgxs)
# Bitcode is for inlining into queries; these functions wait for milliseconds.
override with_llvm = no
include $(PGXS)
endif

include src/engine/engine.mk
include src/pages/pages.mk
include kernels/cuda/cuda.mk
include test/test.mk
include test/model/model.mk
include test/cuda_emu/emu.mk
include test/gpu/gpu.mk

all: dsocr-engine dsocr-pages

# PGXS does not follow includes.
$(OBJS): $(wildcard src/*.h src/engine/*.h bgworker/*.h)

# The parts of the install script, in the order in which they need each other.
SQL_PARTS = dsocr read watch documents jobs attach elements search remote
sql/dsocr--$(DSOCR_VERSION).sql: $(SQL_PARTS:%=sql/%.sql)
	cat $^ >$@

# The engine lies beside the server's own programs, the model in its share folder.
install: install-engine
install-engine: dsocr-engine dsocr-pages
	$(MKDIR_P) '$(DESTDIR)$(bindir)' '$(DESTDIR)$(datadir)/dsocr/nano'
	$(INSTALL_PROGRAM) dsocr-engine dsocr-pages '$(DESTDIR)$(bindir)/'
	$(INSTALL_DATA) $(wildcard models/nano/*) '$(DESTDIR)$(datadir)/dsocr/nano/'

uninstall: uninstall-engine
uninstall-engine:
	rm -f '$(DESTDIR)$(bindir)/dsocr-engine' '$(DESTDIR)$(bindir)/dsocr-pages'
	rm -rf '$(DESTDIR)$(datadir)/dsocr'

help:
	@echo 'make                 extension and engine'
	@echo 'make dsocr-engine    the engine alone, without PostgreSQL'
	@echo 'make dsocr-pages     the page server alone; DSOCR_PDF=no leaves PDF out'
	@echo 'make cuda            the CUDA backend alone; CUDA=no leaves it out elsewhere'
	@echo 'make install         into the server of PG_CONFIG ($(PG_CONFIG))'
	@echo 'make check-unit      unit tests of the engine'
	@echo 'make check-golden    reference data of the official model code'
	@echo 'make check-synth     the same for a model of full size: 8 GB of disk'
	@echo 'make check-callgrind instructions of small work, against stored counts'
	@echo 'make check-cuda-emu  the CUDA backend, emulated on the host'
	@echo 'make check-queue-model   the queue under the thread sanitizer'
	@echo 'make check-tap       scenarios against servers of their own'
	@echo 'make check-bench     the scripts of bench-peers, with small models'
	@echo 'make bench-peers     speed against llama.cpp, PyTorch and Tesseract'
	@echo 'make check-fuzz      fuzz targets, FUZZ_SECONDS=$(FUZZ_SECONDS) each'
	@echo 'make installcheck    regression tests against a running server'
	@echo 'make lint format     layout, include rules, static checks'
	@echo './tools/check        install what the tests need and run them all'

.PHONY: help install-engine uninstall-engine
