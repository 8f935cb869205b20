#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connector.h"
#include "lookup.h"

/* ── the name server: "one" and "two" have addresses, "hangs" is answered when the tests end ── */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int asked, hanging;
static int released;

static struct addrinfo *address(const char *text, struct addrinfo *next) {
  struct addrinfo *info = calloc(1, sizeof *info + sizeof(struct sockaddr_in));
  struct sockaddr_in *to = (struct sockaddr_in *)(info + 1);
  to->sin_family = AF_INET;
  inet_pton(AF_INET, text, &to->sin_addr);
  *info = (struct addrinfo){
      .ai_family = AF_INET, .ai_addr = (struct sockaddr *)to, .ai_addrlen = sizeof *to, .ai_next = next};
  return info;
}

/* Stands before the system's function. libpq calls it for numbers only. */
int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict found) {
  struct in_addr number;
  if (node && inet_pton(AF_INET, node, &number) == 1) {
    *found = address(node, NULL);
    ((struct sockaddr_in *)(*found)->ai_addr)->sin_port = htons((uint16_t)(service ? atoi(service) : 0));
    (*found)->ai_socktype = SOCK_STREAM;
    return 0;
  }
  if (hints && hints->ai_flags & AI_NUMERICHOST)
    return EAI_NONAME;
  pthread_mutex_lock(&mutex);
  asked++;
  if (strcmp(node, "hangs") == 0)
    for (hanging++; !released;)
      pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
  if (strcmp(node, "two") != 0 && strcmp(node, "one") != 0)
    return EAI_NONAME;
  *found = address("127.0.0.3", NULL);
  if (strcmp(node, "two") == 0)
    *found = address("127.0.0.2", *found);
  return 0;
}

void freeaddrinfo(struct addrinfo *info) {
  while (info) {
    struct addrinfo *next = info->ai_next;
    free(info);
    info = next;
  }
}

static int count_asked(void) {
  pthread_mutex_lock(&mutex);
  int count = asked;
  pthread_mutex_unlock(&mutex);
  return count;
}

static int set_up(void **state) {
  (void)state;
  pthread_mutex_lock(&mutex);
  asked = 0;
  pthread_mutex_unlock(&mutex);
  return 0;
}

/* ── look-ups ── */

static char addresses[LOOKUP_ADDRESSES_MOST][LOOKUP_ADDRESS_SIZE];

static int wait_for(int fd, int timeout_ms) {
  struct pollfd readable = {.fd = fd, .events = POLLIN};
  return poll(&readable, 1, timeout_ms);
}

static void a_name_has_all_its_addresses_in_order(void **state) {
  (void)state;
  const char *error;
  struct lookup *lookup = lookup_start("two");
  assert_int_equal(wait_for(lookup_fd(lookup), 5000), 1);
  assert_int_equal(lookup_take(lookup, addresses, &error), 2);
  assert_string_equal(addresses[0], "127.0.0.2");
  assert_string_equal(addresses[1], "127.0.0.3");
  lookup_free(lookup);
}

static void an_unknown_name_has_an_error(void **state) {
  (void)state;
  const char *error;
  struct lookup *lookup = lookup_start("nowhere");
  assert_int_equal(wait_for(lookup_fd(lookup), 5000), 1);
  assert_int_equal(lookup_take(lookup, addresses, &error), 0);
  assert_string_equal(error, gai_strerror(EAI_NONAME));
  lookup_free(lookup);
}

static void lookups_of_a_name_share_a_thread_and_other_names_go_on(void **state) {
  (void)state;
  const char *error;
  struct lookup *hang[20], *other;
  for (int i = 0; i < 20; i++)
    hang[i] = lookup_start("hangs");
  assert_int_equal(wait_for(lookup_fd(hang[0]), 50), 0);
  assert_int_equal(lookup_take(hang[0], addresses, &error), -1);
  other = lookup_start("one");
  assert_int_equal(wait_for(lookup_fd(other), 5000), 1);
  assert_int_equal(lookup_take(other, addresses, &error), 1);
  lookup_free(other);
  for (int i = 0; i < 20; i++)
    lookup_free(hang[i]);
  assert_true(count_asked() <= 2);
}

/* ── connecting ── */

/* A server that only listens. Returns its socket, and sets the port. */
static int listen_at(const char *text, int *port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
  socklen_t length = sizeof at;
  int server = socket(AF_INET, SOCK_STREAM, 0);
  inet_pton(AF_INET, text, &at.sin_addr);
  assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof at), 0);
  assert_int_equal(listen(server, 5), 0);
  assert_int_equal(getsockname(server, (struct sockaddr *)&at, &length), 0);
  *port = ntohs(at.sin_port);
  return server;
}

static struct connector *start(const char *conninfo) {
  static const char *keywords[] = {"dbname", NULL};
  const char *values[] = {conninfo, NULL};
  return connector_start(keywords, values, 300);
}

/* Goes on until something comes in on the server's socket (1), or connecting has failed (0). */
static int drive(struct connector *connector, int server) {
  enum connector_progress progress = connector_step(connector);
  for (int steps = 0; progress != CONNECTOR_FAILED && steps < 1000; steps++) {
    struct pollfd fds[2] = {{.fd = server, .events = POLLIN},
                            {.fd = connector_fd(connector), .events = progress == CONNECTOR_READ ? POLLIN : POLLOUT}};
    int ready = poll(fds, 2, (int)connector_left_ms(connector));
    if (fds[0].revents)
      return 1;
    progress = ready > 0 ? connector_step(connector) : connector_expire(connector);
  }
  return 0;
}

static void expect_connection(const char *format, const char *at) {
  char conninfo[512];
  int port = 0, server = listen_at(at, &port);
  snprintf(conninfo, sizeof conninfo, format, port, port, port);
  struct connector *connector = start(conninfo);
  assert_int_equal(drive(connector, server), 1);
  connector_free(connector);
  close(server);
}

static void all_addresses_of_a_name_are_tried(void **state) {
  (void)state;
  expect_connection("host=two port=%d", "127.0.0.3");
}

static void all_hosts_of_a_list_are_tried_also_behind_a_name_that_hangs_or_is_unknown(void **state) {
  (void)state;
  expect_connection("host=hangs,nowhere,one port=1,1,%d", "127.0.0.3");
  expect_connection("postgres://hangs:1,nowhere:1,one:%d/x?target_session_attrs=any", "127.0.0.3");
}

static void an_address_that_does_not_answer_is_left_after_the_time_limit(void **state) {
  (void)state;
  int silent_port = 0, silent = listen_at("127.0.0.2", &silent_port), server;
  char conninfo[128];
  server = listen_at("127.0.0.3", &silent_port); /* the same port */
  snprintf(conninfo, sizeof conninfo, "host=two port=%d connect_timeout=1", silent_port);
  struct connector *connector = start(conninfo);
  assert_int_equal(drive(connector, server), 1);
  connector_free(connector);
  close(silent);
  close(server);
}

static void addresses_and_sockets_are_not_looked_up(void **state) {
  (void)state;
  expect_connection("host=127.0.0.3 port=%d", "127.0.0.3");
  expect_connection("host=hangs hostaddr=127.0.0.3 port=%d", "127.0.0.3");
  expect_connection("host=/nowhere,127.0.0.3 port=%d", "127.0.0.3");
  assert_int_equal(count_asked(), 0);
}

static void the_error_names_everything_that_was_tried(void **state) {
  (void)state;
  struct connector *connector = start("host=nowhere,two,hangs port=1");
  assert_int_equal(drive(connector, -1), 0);
  const char *error = connector_error(connector);
  assert_non_null(strstr(error, "could not translate host name \"nowhere\""));
  assert_non_null(strstr(error, "host \"two\": connection to server at \"127.0.0.2\", port 1 failed"));
  assert_non_null(strstr(error, "host \"two\": connection to server at \"127.0.0.3\", port 1 failed"));
  assert_non_null(strstr(error, "\"hangs\" to address: no answer"));
  connector_free(connector);
}

static void lists_that_do_not_match_are_left_to_libpq(void **state) {
  (void)state;
  struct connector *connector = start("host=one,two port=1,2,3");
  assert_int_equal(drive(connector, -1), 0);
  assert_non_null(strstr(connector_error(connector), "could not match 3 port numbers to 2 hosts"));
  connector_free(connector);
}

static int end_hanging(void **state) {
  (void)state;
  pthread_mutex_lock(&mutex);
  released = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
  usleep(50000);
  return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(a_name_has_all_its_addresses_in_order),
      TEST(an_unknown_name_has_an_error),
      TEST(lookups_of_a_name_share_a_thread_and_other_names_go_on),
      TEST(all_addresses_of_a_name_are_tried),
      TEST(all_hosts_of_a_list_are_tried_also_behind_a_name_that_hangs_or_is_unknown),
      TEST(an_address_that_does_not_answer_is_left_after_the_time_limit),
      TEST(addresses_and_sockets_are_not_looked_up),
      TEST(the_error_names_everything_that_was_tried),
      TEST(lists_that_do_not_match_are_left_to_libpq),
  };
  return cmocka_run_group_tests(tests, NULL, end_hanging);
}
