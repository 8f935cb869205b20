#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "server.h"

/* A client asks again as soon as it has an answer, which takes ANSWER_NS to make. */
enum { ANSWER_NS = 100000, LASTS_MS = 2000 };

static uv_loop_t loop;
static uv_tcp_t client;
static uv_timer_t end;
static struct http_server *server;
static uint64_t spent_ns;
static int answers;

static void on_page(void *owner, const struct http_request *request, struct http_response *response) {
  (void)owner;
  (void)request;
  uint64_t began_ns = uv_hrtime();
  while (uv_hrtime() - began_ns < ANSWER_NS)
    continue;
  spent_ns += uv_hrtime() - began_ns;
  answers++;
  buffer_add(&response->body, "x", 1);
}

static void ask(void) {
  static char text[] = "GET /page HTTP/1.1\r\nHost: x\r\n\r\n";
  uv_buf_t bytes = uv_buf_init(text, sizeof text - 1);
  assert_int_equal(uv_try_write((uv_stream_t *)&client, &bytes, 1), (int)bytes.len);
}

static void on_space(uv_handle_t *handle, size_t wanted, uv_buf_t *space) {
  static char bytes[4096];
  (void)handle;
  (void)wanted;
  *space = uv_buf_init(bytes, sizeof bytes);
}

static void on_answer(uv_stream_t *stream, ssize_t length, const uv_buf_t *bytes) {
  (void)stream;
  (void)bytes;
  assert_true(length > 0);
  ask();
}

static void on_connected(uv_connect_t *connecting, int status) {
  (void)connecting;
  assert_int_equal(status, 0);
  uv_read_start((uv_stream_t *)&client, on_space, on_answer);
  ask();
}

static void on_end(uv_timer_t *timer) {
  uv_close((uv_handle_t *)timer, NULL);
  uv_close((uv_handle_t *)&client, NULL);
  http_server_free(server);
}

static void test_gets_a_fifth_of_the_loops_time(void **state) {
  static const struct http_route routes[] = {{"/page", "a page", on_page}};
  struct http_problem problem = {""};
  struct address address = {.host = "127.0.0.1"};
  struct sockaddr_in to;
  uv_connect_t connecting;
  (void)state;
  uv_loop_init(&loop);
  server = http_server_new(&loop, &address, routes, 1, NULL, &problem);
  assert_non_null(server);
  uv_ip4_addr("127.0.0.1", http_server_address(server).port, &to);
  uv_tcp_init(&loop, &client);
  uv_tcp_connect(&connecting, &client, (const struct sockaddr *)&to, on_connected);
  uv_timer_init(&loop, &end);
  uv_timer_start(&end, on_end, LASTS_MS, 0);
  uint64_t began_ns = uv_hrtime();
  uv_run(&loop, UV_RUN_DEFAULT);
  double share = (double)spent_ns / (double)(uv_hrtime() - began_ns);
  assert_int_equal(uv_loop_close(&loop), 0);
  print_message("%d answers, %.0f %% of the time\n", answers, share * 100);
  assert_true(answers > 20);
  assert_true(share < 0.3);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_gets_a_fifth_of_the_loops_time)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
