/* The part of child.h that reads and writes the page that the supervisor shares with the process; see protocol.h. */
#include "child_state.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"

int child_open_page(struct child *child) {
  if (child->page) {
    memset(child->page, 0, sizeof *child->page);
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
  return 0;
}

void child_close_page(struct child *child) {
  if (child->page)
    munmap(child->page, sizeof *child->page);
  if (child->page_fd >= 0)
    close(child->page_fd);
}

/* ── batches ── */

static struct page_lane *lane_of(const struct child *child, uint32_t batch) {
  return &child->page->lanes[batch % HOLDS_PER_EXECUTOR];
}

void child_begin_batch(struct child *child, uint32_t batch) {
  if (child->page)
    atomic_store(&lane_of(child, batch)->revoked, batch - HOLDS_PER_EXECUTOR);
}

uint32_t child_revoke(struct child *child, uint32_t batch) {
  if (child->page)
    atomic_store(&lane_of(child, batch)->revoked, batch);
  return child_begun(child, batch);
}

uint32_t child_begun(const struct child *child, uint32_t batch) {
  uint64_t begun = child->page ? atomic_load(&lane_of(child, batch)->begun) : 0;
  return begun >> 32 == batch ? (uint32_t)begun : 0;
}

bool child_has_begun(const struct child *child, uint32_t batch, uint32_t position) {
  uint64_t begun = child->page ? atomic_load(&lane_of(child, batch)->begun) : 0;
  int32_t beyond = (int32_t)((uint32_t)(begun >> 32) - batch);
  return beyond > 0 || (beyond == 0 && position <= (uint32_t)begun);
}

/* ── the activity of the process ── */

bool child_current(const struct child *child, int64_t *id, int64_t *ran_ms) {
  *id = child->page ? atomic_load(&child->page->current_job) : 0;
  *ran_ms = *id ? (clock_us() - atomic_load(&child->page->started_us)) / 1000 : 0;
  return child->state != CHILD_DEAD && *id != 0;
}

int64_t child_callback_ms(const struct child *child) {
  int64_t began_us = child->page ? atomic_load(&child->page->callback_us) : 0;
  return began_us ? (clock_us() - began_us) / 1000 : 0;
}

int64_t child_busy_ms(const struct child *child) {
  int64_t id, ran_ms;
  if (child_current(child, &id, &ran_ms))
    return (clock_us() - atomic_load(&child->page->resumed_us)) / 1000;
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
