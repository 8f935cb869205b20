#include "regions.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "memory.h"
#include "queue.h"

struct request {
  struct queue *queue;
  int64_t ids, us; /* the length of the region, see region_asked() */
};

struct regions {
  struct connection *connection;
  const int64_t *worker_id;
  struct frontier *frontier;
  struct request *requests; /* without an answer, oldest first */
  int count;
  bool failure_logged;
};

static void ask(void *owner, struct queue *queue);

struct regions *regions_new(struct connection *connection, const int64_t *worker_id, struct frontier *frontier) {
  struct regions *regions = memory_new(sizeof *regions);
  *regions = (struct regions){.connection = connection, .worker_id = worker_id, .frontier = frontier};
  *frontier = (struct frontier){.ask = ask, .owner = regions};
  return regions;
}

void regions_free(struct regions *regions) {
  if (!regions)
    return;
  *regions->frontier = (struct frontier){0};
  free(regions->requests);
  free(regions);
}

static void ask(void *owner, struct queue *queue) {
  struct regions *regions = owner;
  struct parameters parameters = {0};
  struct request request = {.queue = queue};
  if (!connection_is_up(regions->connection) || *regions->worker_id == 0)
    return;
  struct place floor = {queue->floor_us, queue->floor_id};
  struct place own = region_asked(&queue->region, floor, queue_fits(queue), &request.ids, &request.us);
  regions->requests = memory_resize(regions->requests, (size_t)(regions->count + 1) * sizeof *regions->requests);
  regions->requests[regions->count++] = request;
  parameters_add_i64(&parameters, *regions->worker_id);
  parameters_add_text(&parameters, queue->name);
  parameters_add_i64(&parameters, own.us);
  parameters_add_i64(&parameters, own.id);
  parameters_add_i64(&parameters, request.us);
  parameters_add_i64(&parameters, request.ids);
  parameters_add_bool(&parameters, queue->region.anew);
  connection_send(regions->connection, STATEMENT_RESERVE_REGION, &parameters);
  connection_sync(regions->connection);
  parameters_free(&parameters);
}

void regions_down(struct regions *regions) {
  for (int i = 0; i < regions->count; i++)
    region_denied(&regions->requests[i].queue->region, clock_ms());
  regions->count = 0;
}

static void take_failure(struct regions *regions, const PGresult *result) {
  const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (!primary) /* the message is libpq's: the connection is lost, and regions_down() follows */
    return;
  log_line(regions->failure_logged ? LOG_DEBUG : LOG_WARN,
           "cannot write to pgq_frontiers: workers that share a busy queue skip each other's jobs one by one",
           LOG_T("error", primary));
  regions->failure_logged = true;
}

bool regions_result(struct regions *regions, enum statement statement, const PGresult *result) {
  if (statement != STATEMENT_RESERVE_REGION)
    return false;
  if (regions->count == 0)
    return true;
  struct request request = regions->requests[0];
  memmove(regions->requests, regions->requests + 1, (size_t)--regions->count * sizeof *regions->requests);
  struct region *region = &request.queue->region;
  if (result_failed(result))
    take_failure(regions, result);
  if (result_failed(result) || PQntuples(result) == 0) {
    region_denied(region, clock_ms());
    return true;
  }
  regions->failure_logged = false;
  struct place end = {result_i64(result, 0, 0), result_i64(result, 0, 1)};
  region->sweep = *PQgetvalue(result, 0, 2);
  region_answered(region, end, request.ids, request.us, clock_ms());
  return true;
}
