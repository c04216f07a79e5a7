/* The counting hooks of the emulated board, in C because they run once for every block of instructions that is executed.
   Compiled at first use by native.py. The meaning of every figure is that of PythonCounter in counting.py. */
#include <stdint.h>

enum { STARTS_WITH_LOAD = 1, ENDS_WITH_ACCESS = 2, NEEDS_FPU = 4 };
enum { RUNNING = 0, OVER_LIMIT = 1, FPU_OFF = 2, TABLE_FULL = 3, NOT_DECODED = 4 };

typedef struct {
  uint32_t address, size, instructions, cost, flags, successor;
  uint64_t runs, taken, paired;
} Entry;

typedef struct {
  Entry *entries;
  uint32_t *index; /* hash table: number of an entry + 1, or 0 */
  uint32_t index_mask, capacity, used, fpu_enabled;
  uint32_t status, status_address;
  int32_t last, previous; /* entry of the block that runs, and of the one before; -1: none */
  uint32_t last_taken, last_paired, taken_cost, spare;
  uint64_t instructions, cycles, limit;
  void (*analyse)(uint32_t address, uint32_t size, Entry *entry);
  int (*stop)(void *engine);
} State;

typedef struct {
  State *state;
  uint64_t runs;
  uint32_t more, spare;
} Site;

static int32_t find(State *s, uint32_t address, uint32_t size) {
  uint32_t slot = ((address >> 1) * 2654435761u ^ size * 40503u) & s->index_mask;
  while (s->index[slot]) {
    Entry *e = s->entries + s->index[slot] - 1;
    if (e->address == address && e->size == size) return (int32_t)s->index[slot] - 1;
    slot = (slot + 1) & s->index_mask;
  }
  if (s->used == s->capacity) return -1;
  Entry *e = s->entries + s->used;
  e->address = address;
  e->size = size;
  s->analyse(address, size, e);
  s->index[slot] = ++s->used;
  return (int32_t)s->used - 1;
}

static void halt(State *s, void *engine, uint32_t status, uint32_t address) {
  s->status = status;
  s->status_address = address;
  if (engine) s->stop(engine);
}

static void enter(State *s, int32_t number) {
  Entry *e = s->entries + number;
  s->last_taken = s->last_paired = 0;
  if (s->last >= 0) {
    Entry *l = s->entries + s->last;
    if (l->address + l->size != e->address) {
      l->taken++;
      s->last_taken = 1;
      s->cycles += s->taken_cost;
    } else if ((l->flags & ENDS_WITH_ACCESS) && (e->flags & STARTS_WITH_LOAD)) {
      e->paired++;
      s->last_paired = 1;
      s->cycles--;
    }
  }
  e->runs++;
  s->instructions += e->instructions;
  s->cycles += e->cost;
  s->previous = s->last;
  s->last = number;
}

/* Before the first instruction of a block. */
void tk_block(void *engine, uint64_t address64, uint32_t size, void *user) {
  State *s = user;
  uint32_t address = (uint32_t)address64;
  int32_t number = s->last >= 0 ? (int32_t)s->entries[s->last].successor : -1;
  if (s->status) { /* asked to stop: nothing more may be counted */
    s->stop(engine);
    return;
  }
  if (number < 0 || s->entries[number].address != address || s->entries[number].size != size) {
    number = find(s, address, size);
    if (number < 0) {
      halt(s, engine, TABLE_FULL, address);
      return;
    }
    if (s->last >= 0) s->entries[s->last].successor = (uint32_t)number;
  }
  Entry *e = s->entries + number;
  if (!e->instructions) halt(s, engine, NOT_DECODED, address);
  else if (s->instructions + e->instructions > s->limit) halt(s, engine, OVER_LIMIT, address);
  else if ((e->flags & NEEDS_FPU) && !s->fpu_enabled) halt(s, engine, FPU_OFF, address);
  else enter(s, number);
}

/* Execution stopped before the instruction at `address` of the block that was entered last: takes back what did not run. */
void tk_cut(State *s, uint32_t address) {
  Entry *e = s->entries + s->last;
  int32_t number = s->last;
  if (s->last < 0 || address < e->address || address >= e->address + e->size) return;
  uint32_t before = address - e->address, taken = s->last_taken, paired = s->last_paired;
  e->runs--;
  e->paired -= paired;
  s->instructions -= e->instructions;
  s->cycles -= e->cost;
  s->cycles += paired;
  if (taken) {
    s->entries[s->previous].taken--;
    s->cycles -= s->taken_cost;
  }
  s->last = s->previous;
  s->previous = -1;
  s->last_taken = s->last_paired = 0;
  if (!before) return;
  number = find(s, s->entries[number].address, before);
  if (number < 0) {
    halt(s, 0, TABLE_FULL, address);
    return;
  }
  enter(s, number);
}

/* Before an instruction of an IT block that is executed, not skipped. */
void tk_site(void *engine, uint64_t address, uint32_t size, void *user) {
  Site *site = user;
  (void)engine;
  (void)address;
  (void)size;
  site->runs++;
  site->state->cycles += site->more;
}
