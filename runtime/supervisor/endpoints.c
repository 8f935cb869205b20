#include "endpoints.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "memory.h"
#include "metrics.h"
#include "readiness.h"

struct endpoints {
  struct http_server *server;
  const struct worker_view *view;
};

static const char openmetrics_type[] = "application/openmetrics-text; version=1.0.0; charset=utf-8";
static const char prometheus_type[] = "text/plain; version=0.0.4; charset=utf-8";

/* A client that names the older form, and not OpenMetrics, gets the older form. */
static enum metrics_form choose_form(const char *accept) {
  bool is_old = accept && strstr(accept, "text/plain") && !strstr(accept, "application/openmetrics-text");
  return is_old ? METRICS_PROMETHEUS : METRICS_OPENMETRICS;
}

static bool on_more(void *context, struct buffer *body) {
  return metrics_more(context, body);
}

static void on_release(void *context) {
  metrics_free(context);
}

static void on_metrics(void *owner, const struct http_request *request, struct http_response *response) {
  const struct endpoints *endpoints = owner;
  enum metrics_form form = choose_form(request->accept);
  response->type = form == METRICS_OPENMETRICS ? openmetrics_type : prometheus_type;
  response->context = metrics_new(endpoints->view, form);
  response->more = on_more;
  response->release = on_release;
}

/* The loop runs, or nobody would answer. */
static void on_healthz(void *owner, const struct http_request *request, struct http_response *response) {
  (void)owner;
  (void)request;
  buffer_add(&response->body, "ok\n", 3);
}

static void on_readyz(void *owner, const struct http_request *request, struct http_response *response) {
  const struct endpoints *endpoints = owner;
  (void)request;
  if (readiness_check(endpoints->view, &response->body))
    buffer_add(&response->body, "ready\n", 6);
  else
    response->status = 503;
}

static const struct http_route routes[] = {
    {"/metrics", "metrics for Prometheus", on_metrics},
    {"/healthz", "200 while the worker runs", on_healthz},
    {"/readyz", "200 if the worker may claim jobs; otherwise 503 and the reasons", on_readyz},
};

struct endpoints *endpoints_new(uv_loop_t *loop, const struct worker_view *view, struct http_problem *problem) {
  struct endpoints *endpoints = memory_new(sizeof *endpoints);
  struct address address = {0};
  const char *why;
  char text[ADDRESS_TEXT_SIZE];
  endpoints->view = view;
  address_parse(view->options->listen, &address, &why); /* the option was checked when it was read */
  endpoints->server = http_server_new(loop, &address, routes, sizeof routes / sizeof routes[0], endpoints, problem);
  if (!endpoints->server) {
    free(endpoints);
    return NULL;
  }
  address = http_server_address(endpoints->server);
  log_info("listening for requests of metrics and health", LOG_T("address", address_text(&address, text)));
  return endpoints;
}

void endpoints_free(struct endpoints *endpoints) {
  if (!endpoints)
    return;
  http_server_free(endpoints->server);
  free(endpoints);
}
