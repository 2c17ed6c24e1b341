# The queue of requests as threads, under the thread sanitizer: see model.h.

MODEL_OPERATIONS ?= 150000
MODEL_SEED ?= 1
MODEL_DIR = $(BUILD)/model
MODEL_INCLUDE = $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)
MODEL_FLAGS = -std=gnu11 -D_GNU_SOURCE -O1 -g -fsanitize=thread -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Isrc -Ibgworker -Itest/model -I$(MODEL_INCLUDE) \
	$(if $(wildcard $(MODEL_INCLUDE)/storage/procnumber.h),-DMODEL_PROC_NUMBERS)
# the module's own files, and what stands in for the server
MODEL_OBJ = $(patsubst %,$(MODEL_DIR)/%.o,src/queue src/slots src/dispatch src/dispatch_lost src/dispatch_order \
	src/admission src/own_slots src/roles src/stats src/payload src/engine/base test/model/process test/model/server)

$(MODEL_DIR)/%.o: %.c $(wildcard src/*.h src/engine/*.h test/model/*.h)
	@mkdir -p $(@D)
	$(CC) $(MODEL_FLAGS) -fPIC -c -o $@ $<

$(MODEL_DIR)/libqueue.so: $(MODEL_OBJ)
	$(CC) $(MODEL_FLAGS) -shared -Wl,-Bsymbolic -o $@ $^ -lm

$(MODEL_DIR)/queue_model: test/model/queue_model.c test/model/primitives.c $(wildcard src/*.h test/model/*.h)
	@mkdir -p $(@D)
	$(CC) $(MODEL_FLAGS) -rdynamic -o $@ $(filter %.c,$^) -lpthread -ldl

# MODEL_OPERATIONS=100000000 for a night.
check-queue-model: $(MODEL_DIR)/queue_model $(MODEL_DIR)/libqueue.so
	@$(MODEL_DIR)/queue_model $(MODEL_DIR)/libqueue.so $(MODEL_OPERATIONS) $(MODEL_SEED)

.PHONY: check-queue-model
