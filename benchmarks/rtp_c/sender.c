// Sends G.711 RTP of many legs to one UDP port at an even rate: sender DST_PORT SRC_PORT LEGS PACKETS_PER_S SECONDS
// Leg i comes from 127.1.(i / 250).(i % 250 + 1): Linux answers for all of 127/8, so one socket can speak for them all.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { SAMPLES = 160, PACKET = 12 + SAMPLES, CHUNK = 32, MAX_LEGS = 60000 };

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  int dst_port = atoi(argv[1]), src_port = atoi(argv[2]), legs = atoi(argv[3]);
  double rate = atof(argv[4]), seconds = atof(argv[5]);
  if (legs < 1 || legs > MAX_LEGS) return 2;

  int fd = socket(AF_INET, SOCK_DGRAM, 0), buffer = 8 << 20;
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(src_port)};
  if (bind(fd, (void *)&any, sizeof any)) return perror("sender: bind"), 1;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(dst_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

  typedef struct { uint8_t bytes[PACKET]; } Packet;
  typedef union { struct cmsghdr align; uint8_t bytes[CMSG_SPACE(sizeof(struct in_pktinfo))]; } Control;
  Packet *packets = calloc(legs, sizeof *packets);
  Control *controls = calloc(legs, sizeof *controls);
  struct iovec *iov = calloc(legs, sizeof *iov);
  struct mmsghdr *messages = calloc(legs, sizeof *messages);
  uint16_t *sequence = calloc(legs, sizeof *sequence);
  uint32_t *timestamp = calloc(legs, sizeof *timestamp);
  srand(1);
  for (int i = 0; i < legs; i++) {
    uint8_t *p = packets[i].bytes;
    uint32_t ssrc = htonl(0x1000000u + i * 2654435761u);
    p[0] = 0x80;
    p[1] = i % 2 ? 8 : 0;
    memcpy(p + 8, &ssrc, 4);
    for (int j = 0; j < SAMPLES; j++) p[12 + j] = rand();
    sequence[i] = rand();
    timestamp[i] = rand();
    iov[i] = (struct iovec){p, PACKET};
    messages[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov[i], .msg_iovlen = 1,
                                          .msg_control = controls[i].bytes, .msg_controllen = sizeof controls[i].bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&messages[i].msg_hdr);
    c->cmsg_level = IPPROTO_IP;
    c->cmsg_type = IP_PKTINFO;
    c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
    struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(0x7F010000u + (i / 250 << 8) + i % 250 + 1)};
    memcpy(CMSG_DATA(c), &info, sizeof info);
  }

  double start = now_s(), late = 0;
  uint64_t sent = 0, total = (uint64_t)(rate * seconds);
  for (int at = 0; sent < total;) {
    double now = now_s();
    uint64_t due = (uint64_t)((now - start) * rate);
    if (sent + CHUNK > due) {
      nanosleep(&(struct timespec){0, 100000}, NULL);
      continue;
    }
    if ((due - sent) / rate > late) late = (due - sent) / rate;
    int n = legs - at < CHUNK ? legs - at : CHUNK;
    for (int i = at; i < at + n; i++) {
      uint16_t s = htons(sequence[i]++);
      uint32_t t = htonl(timestamp[i]);
      timestamp[i] += SAMPLES;
      memcpy(packets[i].bytes + 2, &s, 2);
      memcpy(packets[i].bytes + 4, &t, 4);
    }
    for (int done = 0; done < n;) {
      int r = sendmmsg(fd, messages + at + done, n - done, 0);
      if (r <= 0) return perror("sender: sendmmsg"), 1;
      done += r;
    }
    sent += n;
    at = at + n == legs ? 0 : at + n;
  }
  printf("{\"sent\": %lu, \"seconds\": %.3f, \"worst_lag_ms\": %.1f}\n", sent, now_s() - start, late * 1e3);
  return 0;
}
