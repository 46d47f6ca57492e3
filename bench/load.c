/*
 * The load generator and the webhook receiver of the benchmarks. One thread, epoll; bodies leave by sendfile and answers are
 * dropped by MSG_TRUNC, so that 100 MB cost it next to nothing and the server has a core of its own.
 *
 *   load send HOST PORT CONNECTIONS PLAN BODY REQUESTS [SAVE]
 *     Plays the requests of PLAN in order, again from its beginning when there are fewer than REQUESTS. Prints one line of JSON.
 *     PLAN, little endian: for each request u32 head length, u64 body offset, u64 body length, head. BODY: the file that
 *     bodies are slices of. SAVE: where the first 16 KB of each answer's body go, as u32 request, u32 status, u32 length, body.
 *   load receive PORT REQUESTS
 *     Answers POSTs with 200 until there were REQUESTS of them. Prints "ready", then one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUFFER 65536
#define SAVED 16384
#define DROP (1 << 20)

typedef struct { uint32_t head_length; uint64_t body_offset, body_length; const char *head; } Request;
enum { IDLE, SENDING, HEAD, BODY_LENGTH, BODY_CHUNKED, BODY_CLOSE };

typedef struct {
  int fd, state, status, closes, writes_armed, is_fresh;
  uint32_t request;
  uint64_t head_sent, body_sent, body_left;
  double started;
  size_t have;
  char buffer[BUFFER];
  /* chunked: what is left of the chunk with its end, and the size line so far */
  uint64_t chunk_left;
  char line[64];
  int line_length, last_chunk;
  char *saved;
  uint32_t saved_length;
} Connection;

static int epoll_fd, body_fd, connection_count;
static struct sockaddr_in address;
static Request *requests;
static uint32_t request_count;
static uint64_t wanted, begun, done, failed, bytes_in, bytes_out;
static uint64_t statuses[1000];
static double *latencies;
static FILE *save;

static void die(const char *what) { perror(what); exit(1); }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }

static void arm(Connection *c, int writing) {
  if (c->writes_armed == writing) return;
  struct epoll_event event = { .events = writing ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c };
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
  c->writes_armed = writing;
}

static void dial(Connection *c) {
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0) die("socket");
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
  int one = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
  c->writes_armed = 0;
  c->is_fresh = 1;
}

static void begin(Connection *c);

static void finish(Connection *c, int ok) {
  latencies[done++] = now() - c->started;
  statuses[c->status >= 0 && c->status < 1000 ? c->status : 0]++;
  if (!ok || c->status < 200 || c->status > 299) failed++;
  if (save) {
    uint32_t record[3] = { c->request, (uint32_t)c->status, c->saved_length };
    fwrite(record, 4, 3, save);
    fwrite(c->saved, 1, c->saved_length, save);
  }
  if (!ok || c->closes) { close(c->fd); dial(c); }
  begin(c);
}

/* Sends what the socket takes. 0: the connection broke. */
static int pump(Connection *c) {
  Request *r = &requests[c->request];
  while (c->head_sent < r->head_length) {
    ssize_t n = send(c->fd, r->head + c->head_sent, r->head_length - c->head_sent, MSG_NOSIGNAL | (r->body_length ? MSG_MORE : 0));
    if (n < 0) { if (errno == EAGAIN) { arm(c, 1); return 1; } return 0; }
    c->head_sent += n; bytes_out += n;
  }
  while (c->body_sent < r->body_length) {
    off_t offset = r->body_offset + c->body_sent;
    ssize_t n = sendfile(c->fd, body_fd, &offset, r->body_length - c->body_sent);
    if (n < 0) { if (errno == EAGAIN) { arm(c, 1); return 1; } return 0; }
    if (n == 0) return 0;
    c->body_sent += n; bytes_out += n;
  }
  arm(c, 0);
  c->state = HEAD;
  return 1;
}

static void begin(Connection *c) {
  c->state = IDLE;
  if (begun >= wanted) return;
  c->request = begun++ % request_count;
  c->head_sent = c->body_sent = c->have = c->saved_length = 0;
  c->status = 0; c->closes = 0; c->line_length = 0; c->chunk_left = 0; c->last_chunk = 0;
  c->started = now();
  c->state = SENDING;
  if (!pump(c)) finish(c, 0);
}

static void keep(Connection *c, const char *data, size_t length) {
  if (!save) return;
  if (length > SAVED - c->saved_length) length = SAVED - c->saved_length;
  memcpy(c->saved + c->saved_length, data, length);
  c->saved_length += length;
}

/* True when the last chunk and its empty line have passed. No trailers. */
static int chunks(Connection *c, const char *data, size_t length) {
  for (size_t i = 0; i < length;) {
    if (c->chunk_left > 2) {
      size_t n = length - i;
      if (n > c->chunk_left) n = c->chunk_left;
      size_t content = c->chunk_left > 2 ? c->chunk_left - 2 : 0;
      keep(c, data + i, n < content ? n : content);
      c->chunk_left -= n; i += n;
      if (c->chunk_left == 0) c->line_length = 0;
      continue;
    }
    if (c->chunk_left) { c->chunk_left--; i++; if (!c->chunk_left) { if (c->last_chunk) return 1; c->line_length = 0; } continue; }
    char ch = data[i++];
    if (ch != '\n') { if (c->line_length < 63) c->line[c->line_length++] = ch; continue; }
    c->line[c->line_length] = 0;
    c->chunk_left = strtoull(c->line, NULL, 16) + 2;
    c->last_chunk = c->chunk_left == 2;
    c->line_length = 0;
  }
  return 0;
}

static const char *header(const char *head, const char *end, const char *name) {
  size_t length = strlen(name);
  for (const char *p = strchr(head, '\n'); p && p < end; p = strchr(p + 1, '\n'))
    if (!strncasecmp(p + 1, name, length) && p[1 + length] == ':') { p += 2 + length; while (*p == ' ') p++; return p; }
  return NULL;
}

/* 1: go on, 0: the connection broke, 2: the answer is complete. */
static int parse_head(Connection *c) {
  c->buffer[c->have] = 0;
  char *end = strstr(c->buffer, "\r\n\r\n");
  if (!end) return c->have < BUFFER - 1;
  if (sscanf(c->buffer, "HTTP/1.%*d %d", &c->status) != 1) return 0;
  size_t head = end + 4 - c->buffer, rest = c->have - head;
  if (c->status == 100) { memmove(c->buffer, c->buffer + head, rest); c->have = rest; return rest ? parse_head(c) : 1; }
  const char *value = header(c->buffer, end, "connection");
  c->closes = value && !strncasecmp(value, "close", 5);
  if (c->state == SENDING) c->closes = 1; /* answered before the body was out: a refusal */
  if (c->status == 204 || c->status == 304) return 2;
  if ((value = header(c->buffer, end, "content-length"))) {
    uint64_t length = strtoull(value, NULL, 10);
    keep(c, c->buffer + head, rest < length ? rest : length);
    c->body_left = length > rest ? length - rest : 0;
    c->state = BODY_LENGTH;
    return c->body_left ? 1 : 2;
  }
  if ((value = header(c->buffer, end, "transfer-encoding")) && !strncasecmp(value, "chunked", 7)) {
    c->state = BODY_CHUNKED;
    return chunks(c, c->buffer + head, rest) ? 2 : 1;
  }
  c->closes = 1;
  c->state = BODY_CLOSE;
  return 1;
}

static int receive(Connection *c) {
  for (;;) {
    if (c->state == BODY_LENGTH && !save) {
      ssize_t n = recv(c->fd, NULL, c->body_left < DROP ? c->body_left : DROP, MSG_TRUNC);
      if (n < 0) return errno == EAGAIN ? 1 : 0;
      if (n == 0) return 0;
      bytes_in += n;
      if (!(c->body_left -= n)) return 2;
      continue;
    }
    size_t at = c->state == HEAD || c->state == SENDING ? c->have : 0;
    ssize_t n = recv(c->fd, c->buffer + at, BUFFER - 1 - at, 0);
    if (n < 0) return errno == EAGAIN ? 1 : 0;
    if (n == 0) return c->state == BODY_CLOSE ? 2 : 0;
    bytes_in += n;
    int verdict = 1;
    if (c->state == BODY_LENGTH) { keep(c, c->buffer, n); if (!(c->body_left -= n)) verdict = 2; }
    else if (c->state == BODY_CHUNKED) { if (chunks(c, c->buffer, n)) verdict = 2; }
    else if (c->state != BODY_CLOSE) { c->have += n; verdict = parse_head(c); }
    if (verdict != 1) return verdict;
  }
}

static int compare(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return x < y ? -1 : x > y; }
static double cpu(void) {
  struct rusage u; getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static int send_all(int argc, char **argv) {
  if (argc < 8) return 2;
  address.sin_family = AF_INET;
  address.sin_port = htons(atoi(argv[3]));
  inet_pton(AF_INET, argv[2], &address.sin_addr);
  connection_count = atoi(argv[4]);
  int plan = open(argv[5], O_RDONLY);
  struct stat found;
  if (plan < 0 || fstat(plan, &found) < 0) die(argv[5]);
  const char *p = mmap(NULL, found.st_size, PROT_READ, MAP_PRIVATE, plan, 0), *end = p + found.st_size;
  for (; p < end; p += requests[request_count++].head_length) {
    if (!(request_count & (request_count - 1))) requests = realloc(requests, sizeof *requests * (request_count ? request_count * 2 : 1));
    Request *r = &requests[request_count];
    memcpy(&r->head_length, p, 4); memcpy(&r->body_offset, p + 4, 8); memcpy(&r->body_length, p + 12, 8);
    r->head = p += 20;
  }
  /* Into a memfd: neither the disk nor the page cache of its file is measured. */
  int source = open(argv[6], O_RDONLY);
  if (source < 0) die(argv[6]);
  body_fd = memfd_create("body", 0);
  static char copy[1 << 20];
  for (ssize_t n; (n = read(source, copy, sizeof copy)) > 0;) if (write(body_fd, copy, n) != n) die("memfd");
  wanted = strtoull(argv[7], NULL, 10);
  latencies = malloc(sizeof(double) * (wanted + connection_count));
  if (argc > 8 && !(save = fopen(argv[8], "w"))) die(argv[8]);
  epoll_fd = epoll_create1(0);
  Connection *all = calloc(connection_count, sizeof(Connection));
  for (int i = 0; i < connection_count; i++) { all[i].saved = malloc(SAVED); dial(&all[i]); }
  double cpu0 = cpu(), t0 = now();
  for (int i = 0; i < connection_count; i++) begin(&all[i]);
  struct epoll_event events[256];
  while (done < wanted) {
    int n = epoll_wait(epoll_fd, events, 256, 120000);
    if (n == 0) { fprintf(stderr, "nothing happened for two minutes\n"); break; }
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (c->state == IDLE) { /* closed by the other side while it was not used */
        close(c->fd); dial(c); continue;
      }
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        int verdict = receive(c);
        if (verdict != 1) { finish(c, verdict == 2); continue; }
      }
      if ((events[i].events & EPOLLOUT) && c->state == SENDING && !pump(c)) finish(c, 0);
    }
  }
  double seconds = now() - t0;
  if (save) fclose(save);
  qsort(latencies, done, sizeof(double), compare);
  printf("{\"requests\":%llu,\"failed\":%llu,\"seconds\":%.6f,\"bytesIn\":%llu,\"bytesOut\":%llu,\"cpu\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"statuses\":{",
    (unsigned long long)done, (unsigned long long)failed, seconds, (unsigned long long)bytes_in, (unsigned long long)bytes_out, cpu() - cpu0,
    latencies[done / 2] * 1e3, latencies[done * 9 / 10] * 1e3, latencies[done * 99 / 100] * 1e3, latencies[done ? done - 1 : 0] * 1e3);
  for (int i = 0, first = 1; i < 1000; i++) if (statuses[i]) { printf("%s\"%d\":%llu", first ? "" : ",", i, (unsigned long long)statuses[i]); first = 0; }
  printf("}}\n");
  return 0;
}

/* The other end of webhooks. A connection's memory is its Connection; heads and bodies fit its buffer or are counted off. */
static int receive_all(int argc, char **argv) {
  if (argc < 4) return 2;
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 512) < 0) die("listen");
  wanted = strtoull(argv[3], NULL, 10);
  epoll_fd = epoll_create1(0);
  struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
  printf("ready\n"); fflush(stdout);
  static const char OK[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  double first = 0, last = 0;
  struct epoll_event events[256];
  while (done < wanted) {
    int n = epoll_wait(epoll_fd, events, 256, 120000);
    if (n == 0) break;
    for (int i = 0; i < n; i++) {
      Connection *c = events[i].data.ptr;
      if (!c) {
        c = calloc(1, sizeof *c);
        c->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        event.data.ptr = c;
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
        continue;
      }
      ssize_t got = recv(c->fd, c->buffer + c->have, BUFFER - 1 - c->have, 0);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) { close(c->fd); free(c); continue; }
      if (!first) first = now();
      c->have += got;
      for (;;) {
        c->buffer[c->have] = 0;
        char *end = strstr(c->buffer, "\r\n\r\n");
        if (!end) break;
        const char *value = header(c->buffer, end, "content-length");
        size_t length = end + 4 - c->buffer + (value ? strtoull(value, NULL, 10) : 0);
        if (c->have < length) break;
        memmove(c->buffer, c->buffer + length, c->have -= length);
        if (send(c->fd, OK, sizeof OK - 1, MSG_NOSIGNAL) < 0) break;
        done++; last = now();
      }
    }
  }
  printf("{\"requests\":%llu,\"seconds\":%.6f}\n", (unsigned long long)done, last - first);
  return 0;
}

int main(int argc, char **argv) {
  int code = argc > 1 && !strcmp(argv[1], "send") ? send_all(argc, argv) : argc > 1 && !strcmp(argv[1], "receive") ? receive_all(argc, argv) : 2;
  if (code == 2) fprintf(stderr, "see the top of load.c\n");
  return code;
}
