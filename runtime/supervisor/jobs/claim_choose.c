/* The part of claim.h that chooses the queues of a claim, and how many jobs of each it asks for. */
#include "claim.h"

#include "clock.h"
#include "memory.h"

/* A claim takes at most this many jobs. */
enum { CLAIM_MOST = 1000 };

/* A claim ahead asks only queues from which a claim may take at least this many jobs: each of them takes a dozen
 * milliseconds at most. */
enum { AHEAD_LEAST = 4 };

/* To ask a queue costs the server a few microseconds, whatever it gives. So the least share of a queue is this much
 * work: the time of its handlers, and JOB_COST_US of worker and server for each job. */
enum { SHARE_US = 100, JOB_COST_US = 4 };

/* The part of a claim that the shares have when it is full; less than the sum of shares that were rounded. */
#define FULL 0.999

/* A claim asks at most this many queues whose pace is unknown. */
enum { TRIALS_MOST = 32 };

/* What is known of the queues before some of them are chosen. */
struct overview {
  uint32_t busy;                  /* number of quick queues that are known to have jobs */
  uint32_t first;                 /* the one of them that was asked the longest time ago */
  uint32_t first_unknown;         /* the same for the queues of unknown pace */
  uint32_t seen_quick, seen_slow; /* numbers of queues whose pace is known */
};

bool claim_is_shut(const struct claim *claim, uint32_t index, int64_t now_ms) {
  const struct queue *queue = claim->queues[index];
  return claim->capacity[index] <= 0 || queue->ignored >= QUEUE_IGNORED_MOST || queue_is_shut(queue, now_ms);
}

bool claim_knows_jobs(const struct queue *queue) {
  return queue->busy || queue->region.inside; /* a worker that leaves a region looks before it again */
}

/* Whether several jobs of the queue fit into a claim. */
static bool is_quick(const struct queue *queue) {
  return queue->batch > 1;
}

/* Whether the queue's jobs are so short that they may wait until another batch has run. */
static bool is_quick_enough(const struct queue *queue, enum claim_kind kind) {
  return kind == CLAIM_ANY ? is_quick(queue) : queue->batch >= AHEAD_LEAST;
}

/* Whether none of the queue's jobs has run yet. */
static bool is_unknown(const struct queue *queue) {
  return queue->batch == 1 && queue->job_us <= 0;
}

/* Whether this claim asks only queues of the other kind. */
static bool is_left_out(const struct claim *claim, uint32_t index) {
  enum claim_only kind = claim->transactional[index] ? CLAIM_ONLY_TRANSACTIONAL : CLAIM_ONLY_PLAIN;
  return claim->only != CLAIM_ONLY_NONE && claim->only != kind;
}

/* If plain and transactional queues have jobs, claims ask one kind and the other alternately. */
static void choose_kind(struct claim *claim, int64_t now_ms) {
  bool has_jobs[2] = {false, false};
  for (uint32_t i = 0; i < claim->queue_count; i++)
    if (claim->queues[i]->busy && !claim_is_shut(claim, i, now_ms))
      has_jobs[claim->transactional[i]] = true;
  claim->only = CLAIM_ONLY_NONE;
  if (has_jobs[0] && has_jobs[1])
    claim->only = claim->last_only = claim->last_only == CLAIM_ONLY_PLAIN ? CLAIM_ONLY_TRANSACTIONAL : CLAIM_ONLY_PLAIN;
}

/* Whether the claim may ask the queue. */
static bool is_open(const struct claim *claim, uint32_t index, int64_t now_ms) {
  return !is_left_out(claim, index) && !claim_is_shut(claim, index, now_ms);
}

/* Also sets the number of the claim. */
static struct overview look_over(struct claim *claim, enum claim_kind kind, int64_t now_ms) {
  struct overview overview = {.first = claim->first_queue, .first_unknown = claim->first_queue};
  uint64_t least = UINT64_MAX, least_unknown = UINT64_MAX;
  claim->turn = 0;
  for (uint32_t i = 0; i < claim->queue_count; i++) {
    uint32_t index = (claim->first_queue + i) % claim->queue_count;
    const struct queue *queue = claim->queues[index];
    claim->turn = queue->turn > claim->turn ? queue->turn : claim->turn;
    overview.seen_quick += is_quick(queue);
    overview.seen_slow += !is_quick(queue) && !is_unknown(queue);
    if (!claim_knows_jobs(queue) || !is_open(claim, index, now_ms))
      continue;
    if (is_unknown(queue) && queue->turn < least_unknown) {
      least_unknown = queue->turn;
      overview.first_unknown = index;
    }
    if (!is_quick_enough(queue, kind))
      continue;
    overview.busy++;
    if (queue->turn < least) {
      least = queue->turn;
      overview.first = index;
    }
  }
  claim->turn++;
  return overview;
}

/* Asks for no more jobs than the claim can bring with their data. Earlier jobs show how large the data is. */
static void ask(struct claim *claim, uint32_t index, int32_t most) {
  double bring = CLAIM_BYTES / (2 * claim->queues[index]->data_bytes + 1);
  if (bring < most)
    most = bring < 1 ? 1 : (int32_t)bring;
  if (most > claim->capacity[index])
    most = claim->capacity[index];
  claim->asked[claim->asked_count] = claim->queues[index];
  claim->asked_index[claim->asked_count] = index;
  claim->most[claim->asked_count++] = most;
}

/* Returns how many jobs of the queue a claim asks for at least, if its pace is known. */
static int least_share(const struct queue *queue) {
  int share = (int)(SHARE_US / (queue->job_us + JOB_COST_US));
  return share > 1 ? share : 1;
}

/* Returns how many jobs of the queue a claim asks for, if `busy` queues share it. */
static int share_of(const struct queue *queue, uint32_t busy) {
  int share = queue_fits(queue) / (int)busy, least = least_share(queue);
  if (share < least)
    share = least;
  return share < queue->batch ? share : queue->batch;
}

/* Asks quick queues that have jobs until the claim is full, and with `all` the other quick ones too. */
static void ask_quick(struct claim *claim, enum claim_kind kind, const struct overview *overview, bool all,
                      int64_t now_ms) {
  double filled = 0;
  for (uint32_t i = 0; i < claim->queue_count; i++) {
    uint32_t index = (overview->first + i) % claim->queue_count;
    const struct queue *queue = claim->queues[index];
    bool busy = claim_knows_jobs(queue);
    if (!is_quick_enough(queue, kind) || !(busy || all) || !is_open(claim, index, now_ms))
      continue;
    claim->crowded = claim->crowded || least_share(queue) * (int64_t)overview->busy > queue_fits(queue);
    if (busy && filled >= FULL)
      continue;
    int share = share_of(queue, overview->busy + !busy);
    if (busy)
      filled += (double)share / queue_fits(queue);
    ask(claim, index, share);
  }
}

/* The jobs of a queue of which none has run yet may be long. So a claim tries as many such queues as have, by what is
 * known of the others, one slow queue among them. */
static uint32_t count_trials(const struct overview *overview) {
  uint32_t trials = overview->seen_quick / (1 + overview->seen_slow);
  return trials < 1 ? 1 : trials > TRIALS_MOST ? TRIALS_MOST : trials;
}

/* Asks queues of which no job has run yet for one job each. */
static void ask_unknown(struct claim *claim, const struct overview *overview, int64_t now_ms) {
  uint32_t trials = count_trials(overview);
  for (uint32_t i = 0; i < claim->queue_count && trials > 0; i++) {
    uint32_t index = (overview->first_unknown + i) % claim->queue_count;
    const struct queue *queue = claim->queues[index];
    if (!is_unknown(queue) || !claim_knows_jobs(queue) || !is_open(claim, index, now_ms))
      continue;
    ask(claim, index, 1);
    trials--;
  }
}

/* Asks each queue for one job; with `only_slow`, only slow queues. Without `all`, which is so if other queues have
 * jobs, it asks one queue, each time the next. */
static void ask_slow(struct claim *claim, bool all, bool only_slow, int64_t now_ms) {
  uint32_t turn = all ? claim->first_queue : claim->first_slow_queue;
  for (uint32_t i = 0; i < claim->queue_count; i++) {
    uint32_t index = (turn + i) % claim->queue_count;
    const struct queue *queue = claim->queues[index];
    if ((only_slow && is_quick(queue)) || !is_open(claim, index, now_ms))
      continue;
    if (!all && claim->looks && (is_unknown(queue) || !claim_knows_jobs(queue)))
      continue;
    ask(claim, index, 1);
    claim->first_slow_queue = index + 1;
    if (!all)
      return;
  }
}

/* Asks every queue for a whole group of jobs that must run alone. */
static void ask_groups(struct claim *claim, int32_t most, int64_t now_ms) {
  for (uint32_t i = 0; i < claim->queue_count; i++) {
    uint32_t index = (claim->first_queue + i) % claim->queue_count;
    if (!claim_is_shut(claim, index, now_ms))
      ask(claim, index, most);
  }
  claim->complete = true;
  claim->most_jobs = most;
}

static bool has_asked_all(const struct claim *claim, int64_t now_ms) {
  uint32_t shut = 0;
  for (uint32_t i = 0; i < claim->queue_count; i++)
    shut += claim_is_shut(claim, i, now_ms);
  return claim->only == CLAIM_ONLY_NONE && claim->asked_count + shut == claim->queue_count;
}

/* Returns the number of jobs in total. The job beyond CLAIM_MOST is for the slow queue. */
static int32_t asked_jobs(const struct claim *claim) {
  int32_t jobs = 0;
  for (uint32_t i = 0; i < claim->asked_count && jobs < CLAIM_MOST; i++)
    jobs += claim->most[i];
  return jobs < CLAIM_MOST ? jobs : CLAIM_MOST + 1;
}

static void begin(struct claim *claim) {
  size_t count = claim->queue_count;
  claim->asked = memory_resize(claim->asked, count * sizeof *claim->asked);
  claim->asked_index = memory_resize(claim->asked_index, count * sizeof *claim->asked_index);
  claim->most = memory_resize(claim->most, count * sizeof *claim->most);
  claim->swept = memory_resize(claim->swept, count * sizeof *claim->swept);
  claim->ends = memory_resize(claim->ends, count * sizeof *claim->ends);
  claim->asked_count = 0;
  claim->stale = claim->looks = claim->crowded = false;
}

static bool has_asked_busy(const struct claim *claim) {
  for (uint32_t i = 0; i < claim->asked_count; i++)
    if (claim->asked[i]->busy)
      return true;
  return false;
}

/* Asks the queues of which several jobs fit into a claim, or may do so. Returns whether they have jobs, as far as is
 * known. */
static bool ask_several(struct claim *claim, enum claim_kind kind, int64_t now_ms) {
  bool many = claim->queue_count > CLAIM_ASKED_ALWAYS;
  struct overview overview = look_over(claim, kind, now_ms);
  ask_quick(claim, kind, &overview, !many, now_ms);
  if (many && kind == CLAIM_ANY && (overview.busy > 0 || count_trials(&overview) > 1))
    ask_unknown(claim, &overview, now_ms);
  bool has_jobs = has_asked_busy(claim);
  claim->looks = many && has_jobs;
  if (!many || has_jobs || kind != CLAIM_ANY)
    return has_jobs;
  claim->asked_count = 0;
  ask_quick(claim, kind, &overview, true, now_ms);
  return false;
}

bool claim_choose(struct claim *claim, enum claim_kind kind, int32_t most) {
  int64_t now_ms = clock_ms();
  begin(claim);
  if (claim->deaths == CLAIM_DEATHS_MANY) {
    claim->only = CLAIM_ONLY_NONE;
    ask_groups(claim, most, now_ms);
    return claim->asked_count > 0;
  }
  choose_kind(claim, now_ms);
  bool has_jobs = most > 1 && ask_several(claim, kind, now_ms);
  if (kind == CLAIM_ANY)
    ask_slow(claim, !has_jobs, most > 1, now_ms);
  claim->complete = has_asked_all(claim, now_ms);
  claim->most_jobs = has_jobs || claim->asked_count == 1 ? asked_jobs(claim) : 1;
  if (claim->most_jobs > most)
    claim->most_jobs = most;
  return claim->asked_count > 0;
}
