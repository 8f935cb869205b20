#include "ledger.h"

#include <string.h>

#include "clock.h"
#include "memory.h"
#include "pieces.h"

/* Time to clean up, as task.c grants it. */
enum { TIMEOUT_CLEAN_US = 5000000, CANCEL_CLEAN_US = 1000000 };

/* libuv's timers know whole milliseconds, and so does what is left of a time limit. */
enum { ROUNDED_US = 2000 };

struct known {
  uint32_t batch, frame;
  struct message_job job; /* its data is a copy */
  enum { TO_BEGIN, RUNS, WAITS, ENDED } state;
  bool recalled, cancelled; /* before it began */
  bool to_be_cancelled;     /* its wait is to be interrupted, now */
  uint32_t number;          /* of its task */
  int64_t ready;            /* its turn among those that may go on; 0: it may not */
  bool waited;
  bool interrupted, final;
  enum script_interrupt why;
  int64_t interrupted_us, kill_at_us;
  int64_t started_us, entered_us, left_us, busy_us;
};

static struct shared_page *page;
static struct message_serve serve;
static bool *last_waited; /* of each queue: the last of its tasks that came back did */
static struct known *jobs;
static uint32_t job_count, next, frames; /* jobs begin in order: those before `next` had their turn */
static uint32_t most_tasks;              /* that there have been at once */
static int64_t last_ready;
static struct known *running;
static const struct job_outcome *ending; /* what the script has said of the running one; NULL: nothing yet */

void ledger_open(struct shared_page *of) {
  page = of;
  last_ready = 0;
  jobs = memory_new(sizeof *jobs); /* never NULL, to which not even 0 may be added */
}

void ledger_close(void) {
  for (uint32_t i = 0; i < job_count; i++)
    free((char *)jobs[i].job.data);
  free(jobs);
  message_free_serve(&serve);
  free(last_waited);
  last_waited = NULL;
  jobs = running = NULL;
  ending = NULL;
  job_count = next = frames = most_tasks = 0;
}

/* ── what the supervisor says ── */

void ledger_serve(const struct message_serve *said) {
  size_t size = said->queue_count * sizeof *said->queues;
  EXPECT(!serve.queues && said->concurrency > 0);
  serve = *said;
  serve.version = NULL;
  serve.queues = memory_new(size);
  memcpy(serve.queues, said->queues, size);
  last_waited = memory_new((serve.queue_count + 1) * sizeof *last_waited);
}

void ledger_add(struct frame frame) {
  struct message_jobs head;
  EXPECT(serve.queues && message_get_jobs(&frame, &head));
  frames++;
  for (uint32_t i = 0; i < head.count; i++) {
    struct message_job job;
    EXPECT(message_get_job(&frame, &job) && job.queue < serve.queue_count);
    job.data = memory_copy(job.data, job.data_length);
    jobs = memory_resize(jobs, (job_count + 1) * sizeof *jobs);
    jobs[job_count++] = (struct known){.batch = head.batch, .frame = frames, .job = job};
  }
}

static void recall(uint32_t from, uint32_t batch, uint32_t queue) {
  for (struct known *job = jobs + from; job < jobs + job_count; job++)
    if ((batch == 0 || job->batch == batch) && (queue == QUEUE_ALL || job->job.queue == queue))
      job->recalled = true;
}

void ledger_recall(uint32_t batch, uint32_t queue) {
  recall(next, batch, queue);
}

void ledger_cancel(uint32_t batch, uint32_t index) {
  for (struct known *job = jobs; job < jobs + job_count; job++) {
    bool meant = job->batch == batch && job->job.index == index;
    job->cancelled = job->cancelled || (meant && job->state == TO_BEGIN);
    job->to_be_cancelled = meant && job->state == WAITS && !job->final;
  }
}

void ledger_check_cancelled(void) {
  for (const struct known *job = jobs; job < jobs + job_count; job++)
    EXPECT(!job->to_be_cancelled);
}

/* ── tasks ── */

static struct known *task_of(uint32_t number) {
  for (struct known *job = jobs; job < jobs + next; job++)
    if ((job->state == RUNS || job->state == WAITS) && job->number == number)
      return job;
  return NULL;
}

bool ledger_has_task(uint32_t number) {
  return task_of(number) != NULL;
}

static uint32_t waits_of(uint32_t queue) {
  uint32_t count = 0;
  for (const struct known *job = jobs; job < jobs + next; job++)
    count += job->state == WAITS && (queue == QUEUE_ALL || job->job.queue == queue);
  return count;
}

/* Those of queues without a limit of their own. */
static uint32_t shared_waits(void) {
  uint32_t count = 0;
  for (const struct known *job = jobs; job < jobs + next; job++)
    count += job->state == WAITS && serve.queues[job->job.queue].concurrency == 0;
  return count;
}

/* The next job has its turn: it begins, or goes back. */
static bool next_has_turn(void) {
  if (next == job_count)
    return false;
  const struct known *job = &jobs[next];
  return job->recalled || job->cancelled || serve.queues[job->job.queue].concurrency > 0 ||
         !last_waited[job->job.queue] || shared_waits() < serve.concurrency;
}

uint32_t ledger_waits(void) {
  return waits_of(QUEUE_ALL);
}

uint32_t ledger_left(void) {
  return job_count - next + ledger_waits();
}

/* Those that complete their jobs themselves, in a transaction each. */
static uint32_t transactional(void) {
  uint32_t count = 0;
  for (const struct known *job = jobs; job < jobs + next; job++)
    count += (job->state == RUNS || job->state == WAITS) && job->job.settles;
  return count;
}

static bool may_begin(const struct known *job) {
  uint32_t most = serve.queues[job->job.queue].concurrency;
  uint32_t revoked = atomic_load(&page->lanes[job->batch % HOLDS_PER_EXECUTOR].revoked);
  return !job->recalled && !job->cancelled && (int32_t)(job->batch - revoked) > 0 &&
         (!job->job.settles || transactional() < TRANSACTIONAL_MOST(serve.pool)) &&
         (most == 0 || waits_of(job->job.queue) < most);
}

/* Which task goes on next, or NULL. */
static struct known *first_ready(void) {
  struct known *first = NULL;
  for (struct known *job = jobs; job < jobs + next; job++)
    if (job->state == WAITS && job->ready > 0 && (!first || job->ready < first->ready))
      first = job;
  return first;
}

bool ledger_has_work(void) {
  return first_ready() || next_has_turn();
}

/* The shared page tells of the running one, so that its death can be told from whose it was. */
static void enter(struct known *job) {
  running = job;
  job->state = RUNS;
  job->ready = 0;
  job->entered_us = clock_us();
  EXPECT(atomic_load(&page->runs) == 1 && atomic_load(&page->current_job) == job->job.id &&
         atomic_load(&page->all_waiting) == 0);
  EXPECT(atomic_load(&page->started_us) == job->started_us && atomic_load(&page->resumed_us) == job->entered_us);
  EXPECT(atomic_load(&page->kill_at_us) == job->kill_at_us);
}

static bool is_same(const struct message_job *begun, const struct message_job *sent) {
  return begun->queue == sent->queue && begun->id == sent->id && begun->attempt == sent->attempt &&
         begun->retries_left == sent->retries_left && begun->settles == sent->settles && begun->lease == sent->lease &&
         memcmp(&begun->created_at, &sent->created_at, sizeof sent->created_at) == 0 && /* it may be no number */
         memcmp(&begun->run_after, &sent->run_after, sizeof sent->run_after) == 0 &&
         begun->data_length == sent->data_length && memcmp(begun->data, sent->data, sent->data_length) == 0;
}

uint32_t ledger_begin(uint32_t number, const struct message_job *begun, bool preserve) {
  EXPECT(!running && !first_ready() && next_has_turn());
  struct known *job = &jobs[next], *before = next > 0 ? job - 1 : NULL;
  EXPECT(may_begin(job) && is_same(begun, &job->job));
  EXPECT(preserve == serve.queues[job->job.queue].preserve_completed);
  EXPECT(!before || before->frame != job->frame || before->job.position < job->job.position);
  EXPECT(atomic_load(&page->lanes[job->batch % HOLDS_PER_EXECUTOR].begun) == PAGE_TASK(job->batch, job->job.position));
  EXPECT(!task_of(number) && number <= most_tasks); /* numbers are used again before new ones are made up */
  next++;
  int64_t limit_ms = serve.queues[job->job.queue].timeout_ms;
  job->number = number;
  job->started_us = clock_us();
  job->kill_at_us = limit_ms > 0 ? job->started_us + limit_ms * 1000 : 0;
  enter(job);
  return job->batch;
}

void ledger_resume(uint32_t number) {
  struct known *job = task_of(number);
  EXPECT(!running && job && job == first_ready());
  enter(job);
}

void ledger_wake(uint32_t number) {
  struct known *job = task_of(number);
  if (job && job->state == WAITS && job->ready == 0)
    job->ready = ++last_ready;
}

static bool is_time(const struct known *job, enum script_interrupt why, bool final) {
  int64_t clean_us = why == SCRIPT_TIMEOUT ? TIMEOUT_CLEAN_US : CANCEL_CLEAN_US;
  int64_t limit_us = serve.queues[job->job.queue].timeout_ms * 1000, now_us = clock_us() + ROUNDED_US;
  if (final)
    return job->interrupted && job->why == why && now_us >= job->interrupted_us + clean_us;
  if (why == SCRIPT_CANCELLED)
    return job->to_be_cancelled;
  return !job->interrupted && limit_us > 0 && now_us >= job->started_us + limit_us;
}

void ledger_interrupt(uint32_t number, enum script_interrupt why, bool final) {
  struct known *job = task_of(number);
  EXPECT(!running && job && job->state == WAITS && !job->final && is_time(job, why, final));
  int64_t clean_us = final ? 0 : why == SCRIPT_TIMEOUT ? TIMEOUT_CLEAN_US : CANCEL_CLEAN_US;
  job->to_be_cancelled = false;
  job->interrupted = true;
  job->final = final;
  job->why = why;
  job->interrupted_us = clock_us();
  job->kill_at_us = job->interrupted_us + clean_us + 1000000;
  ledger_wake(number);
}

void ledger_check_limits(int64_t now_us) {
  for (const struct known *job = jobs; job < jobs + next; job++) {
    int64_t limit_us = serve.queues[job->job.queue].timeout_ms * 1000;
    if (job->state != WAITS || job->left_us >= now_us)
      continue;
    EXPECT(job->interrupted || limit_us == 0 || now_us < job->started_us + limit_us + ROUNDED_US);
    EXPECT(!job->interrupted || job->final || now_us < job->kill_at_us - 1000000 + ROUNDED_US);
  }
}

void ledger_return(uint32_t number, const struct job_outcome *end) {
  struct known *job = task_of(number);
  EXPECT(job && job == running && atomic_load(&page->runs) == 1 && atomic_load(&page->current_job) == job->job.id);
  job->left_us = clock_us();
  job->busy_us += job->left_us - job->entered_us;
  last_waited[job->job.queue] = job->waited || end->outcome == OUTCOME_NONE;
  if (end->outcome != OUTCOME_NONE) {
    ending = end;
    return;
  }
  job->state = WAITS;
  job->waited = true;
  running = NULL;
  if (ledger_waits() > most_tasks)
    most_tasks = ledger_waits();
}

/* ── what goes back ── */

static bool is_cut_of(const char *cut, size_t length, const char *text, size_t whole) {
  size_t most = ERROR_TEXT_MOST + 4;
  return length == (whole < most ? whole : most) && (length == 0 || memcmp(cut, text, length) == 0);
}

/* A job that is not to begin says so, when its turn comes. */
static void go_back(const struct job_outcome *outcome) {
  EXPECT(!running && next < job_count && !first_ready());
  struct known *job = &jobs[next++];
  EXPECT(outcome->batch == job->batch && outcome->index == job->job.index && !may_begin(job));
  EXPECT(!outcome->waited && outcome->duration_us == 0 && outcome->busy_us == 0);
  EXPECT(!outcome->backoff && !outcome->discard && outcome->wait_ms == -1);
  EXPECT(outcome->error_length == 0 && outcome->traceback_length == 0);
  job->state = ENDED;
}

void ledger_outcome(const struct job_outcome *outcome) {
  if (outcome->outcome == OUTCOME_UNRUN) {
    go_back(outcome);
    return;
  }
  EXPECT(running && ending && outcome->batch == running->batch && outcome->index == running->job.index);
  EXPECT(outcome->outcome == ending->outcome && outcome->backoff == ending->backoff);
  EXPECT(outcome->discard == ending->discard && outcome->wait_ms == ending->wait_ms);
  EXPECT(is_cut_of(outcome->error, outcome->error_length, ending->error, ending->error_length));
  EXPECT(is_cut_of(outcome->traceback, outcome->traceback_length, ending->traceback, ending->traceback_length));
  EXPECT(outcome->waited == running->waited && outcome->busy_us == (uint64_t)running->busy_us);
  EXPECT(outcome->duration_us == (uint64_t)(running->left_us - running->started_us));
  running->state = ENDED;
  if (outcome->backoff)
    recall(next, 0, running->job.queue);
  running = NULL;
  ending = NULL;
}
