/* The part of child.h that reads and writes the page that the supervisor shares with the process; see protocol.h. */
#include "child_state.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"

/* After so many checks in a row, an inconsistent page was not only being written. */
enum { BROKEN_SEALS = 3 };

/* Brings the page into the state that a new process expects. */
static void clear_page(struct child *child) {
  memset(child->page, 0, sizeof *child->page);
  atomic_store(&child->page->seal, page_seal(child->page));
  memset(child->revoked, 0, sizeof child->revoked);
  child->page_damaged = false;
  child->broken_seals = 0;
}

int child_open_page(struct child *child) {
  if (child->page) {
    clear_page(child);
    return 0;
  }
  child->page_fd = memfd_create("pgq-lua executor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (child->page_fd < 0 || ftruncate(child->page_fd, sizeof *child->page) != 0)
    return -1;
  /* A handler that shrank the file would crash the supervisor. */
  if (fcntl(child->page_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return -1;
  void *page = mmap(NULL, sizeof *child->page, PROT_READ | PROT_WRITE, MAP_SHARED, child->page_fd, 0);
  if (page == MAP_FAILED)
    return -1;
  child->page = page;
  clear_page(child);
  return 0;
}

void child_close_page(struct child *child) {
  if (child->page)
    munmap(child->page, sizeof *child->page);
  if (child->page_fd >= 0)
    close(child->page_fd);
}

bool child_page_is_intact(const struct child *child) {
  bool intact = !child->page_damaged;
  for (int lane = 0; child->page && lane < HOLDS_PER_EXECUTOR; lane++)
    intact = intact && atomic_load(&child->page->lanes[lane].revoked) == child->revoked[lane];
  if (child->page && child->state == CHILD_DEAD) /* a live process may be between the two writes */
    intact = intact && atomic_load(&child->page->seal) == page_seal(child->page);
  return intact;
}

bool child_seal_is_broken(struct child *child) {
  bool broken = child->page && atomic_load(&child->page->seal) != page_seal(child->page);
  child->broken_seals = broken ? child->broken_seals + 1 : 0;
  return child->broken_seals >= BROKEN_SEALS;
}

/* ── batches ── */

/* What a handler has written over the page must not be covered up by this. */
static void write_revoked(struct child *child, uint32_t batch, uint32_t revoked) {
  uint32_t lane = batch % HOLDS_PER_EXECUTOR;
  if (!child->page)
    return;
  if (atomic_exchange(&child->page->lanes[lane].revoked, revoked) != child->revoked[lane])
    child->page_damaged = true;
  child->revoked[lane] = revoked;
}

/* The last job of that hold that has begun: PAGE_TASK(batch, position). */
static uint64_t read_begun(const struct child *child, uint32_t batch) {
  if (child->page_damaged)
    return PAGE_TASK(batch, UINT32_MAX);
  return child->page ? atomic_load(&child->page->lanes[batch % HOLDS_PER_EXECUTOR].begun) : 0;
}

void child_begin_batch(struct child *child, uint32_t batch) {
  write_revoked(child, batch, batch - HOLDS_PER_EXECUTOR);
}

uint32_t child_revoke(struct child *child, uint32_t batch) {
  write_revoked(child, batch, batch);
  return child_begun(child, batch);
}

uint32_t child_begun(const struct child *child, uint32_t batch) {
  uint64_t begun = read_begun(child, batch);
  return begun >> 32 == batch ? (uint32_t)begun : 0;
}

bool child_has_begun(const struct child *child, uint32_t batch, uint32_t position) {
  uint64_t begun = read_begun(child, batch);
  int32_t beyond = (int32_t)((uint32_t)(begun >> 32) - batch);
  return beyond > 0 || (beyond == 0 && position <= (uint32_t)begun);
}

/* ── the activity of the process ── */

/* The time since a moment on the page, which is any number if a handler has written over the page. */
static int64_t since_us(int64_t began_us) {
  int64_t now_us = clock_us();
  return began_us > 0 && began_us < now_us ? now_us - began_us : 0;
}

bool child_current(const struct child *child, int64_t *id, int64_t *ran_ms) {
  bool runs = child->state != CHILD_DEAD && child->page && atomic_load(&child->page->runs) == 1;
  *id = runs ? atomic_load(&child->page->current_job) : 0;
  *ran_ms = runs ? since_us(atomic_load(&child->page->started_us)) / 1000 : 0;
  return runs;
}

int64_t child_callback_ms(const struct child *child) {
  return child->page ? since_us(atomic_load(&child->page->callback_us)) / 1000 : 0;
}

int64_t child_busy_ms(const struct child *child) {
  int64_t id, ran_ms;
  if (child_current(child, &id, &ran_ms))
    return since_us(atomic_load(&child->page->resumed_us)) / 1000;
  return child->state != CHILD_DEAD ? child_callback_ms(child) : 0;
}

bool child_is_overdue(const struct child *child) {
  int64_t id, ran_ms;
  if (!child_current(child, &id, &ran_ms))
    return false;
  int64_t kill_at_us = atomic_load(&child->page->kill_at_us);
  return kill_at_us > 0 && clock_us() >= kill_at_us;
}

bool child_is_all_waiting(const struct child *child) {
  return child->page && atomic_load(&child->page->all_waiting) != 0;
}
