// The yardstick: what a careful C programmer would write for the work of the packet plane. receiver PORT SRC_PORT LEGS TICK_MS
// Same socket options, rows, tick, checks, key lookup, sequence and timestamp rules for ordinary audio, ring, presence
// bits, counters and reader as inference/rtp; it only leaves out what ordinary audio never reaches (events, comfort
// noise, jumps, restarts). Prints "ready", runs until half a second after the last packet, then one JSON object.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 512, ROW = 1600, RING = 32768, AHEAD = 4000, DELAY = 480, READ_MS = 20 };

typedef struct {
  int64_t read, ext_seq, ref_pos, next_pos;
  uint64_t seen, epoch_received, received, bytes;
  uint32_t ssrc, ref_ts;
  int32_t anchored;
  int64_t base_seq, last_arrival, first_pos, bad_seq;
  uint64_t late, duplicate, stray, unknown, reanchors, overrun, silence, gap, ssrc_changes;
} __attribute__((aligned(64))) Leg;

static Leg *legs;
static int16_t *ring;
static uint64_t *bitmap, *keys, malformed, oversized, rtcp, unregistered;
static int32_t *places;
static uint32_t last_place;
static int16_t decode[2][256];
static uint16_t local_port;

static int64_t clock_ns(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static uint32_t home(uint64_t source) {
  return (((source ^ (uint64_t)local_port << 48) * 0x9E3779B97F4A7C15ull) >> 40) * (last_place + 1ull) >> 24;
}

static uint64_t source_key(uint32_t ip, uint16_t port) { return (uint64_t)ip << 32 | (uint32_t)port << 16 | AF_INET; }

static int find(uint64_t source) {
  for (uint32_t h = home(source);; h = (h + 1) & last_place) {
    int slot = places[h];
    if (slot < 0 || keys[slot] == source) return slot;
  }
}

static void mark(uint64_t *bits, int start, int num) {
  int word = start >> 6, bit = start & 63;
  while (num > 0) {
    int take = num < 64 - bit ? num : 64 - bit;
    bits[word] |= ~0ull >> (64 - take) << bit;
    num -= take;
    bit = 0;
    word = (word + 1) & (RING / 64 - 1);
  }
}

static void take(const uint8_t *row, int64_t length, uint64_t source, int64_t arrival) {
  if (length > ROW) { oversized++; return; }
  if (length < 8 || (row[0] & 0xC0) != 0x80) { malformed++; return; }
  if (row[1] >= 192 && row[1] <= 223) { rtcp++; return; }
  int64_t offset = 12 + 4 * (row[0] & 15), end = length;
  if (row[0] & 0x10) {
    if (offset + 4 > length) { malformed++; return; }
    offset += 4 + 4 * (row[offset + 2] << 8 | row[offset + 3]);
  }
  if (row[0] & 0x20) {
    end -= row[length - 1];
    if (end == length) end = -1;
  }
  if (offset > end) { malformed++; return; }
  int slot = find(source);
  if (slot < 0) { unregistered++; return; }
  Leg *leg = &legs[slot];
  uint16_t seq;
  uint32_t ts, ssrc;
  memcpy(&seq, row + 2, 2);
  memcpy(&ts, row + 4, 4);
  memcpy(&ssrc, row + 8, 4);
  seq = ntohs(seq);
  ts = ntohl(ts);
  ssrc = ntohl(ssrc);
  leg->received++;
  leg->bytes += length;
  leg->last_arrival = arrival;
  int step = 1;
  if (leg->ext_seq < 0 || ssrc != leg->ssrc) {
    leg->ssrc_changes += leg->ext_seq >= 0;
    leg->ssrc = ssrc;
    leg->ext_seq = leg->base_seq = 0x10000 + seq;
    leg->seen = leg->epoch_received = 1;
    leg->anchored = 0;
  } else {
    step = (int16_t)(seq - leg->ext_seq);
    if (step > 0 && step <= 3000) {
      leg->ext_seq += step;
      leg->seen = step < 64 ? leg->seen << step | 1 : 1;
      leg->epoch_received++;
      leg->bad_seq = -1;
    } else if (step > -64 && step <= 0) {
      if (leg->seen >> -step & 1) { leg->duplicate++; return; }
      leg->seen |= 1ull << -step;
      leg->epoch_received++;
    } else { leg->late++; return; }
  }
  int type = row[1] & 0x7F;
  if (type != 0 && type != 8) { leg->unknown++; return; }
  int64_t num = end - offset;
  if (!num) return;
  int64_t fresh = arrival - num > leg->read ? arrival - num : leg->read, position;
  if (!leg->anchored) {
    position = fresh;
  } else {
    position = leg->ref_pos + (int32_t)(ts - leg->ref_ts);
    if (step > 0) {
      if (position < leg->read || position + num > arrival + AHEAD) {
        position = fresh;
        leg->reanchors++;
      } else if (step == 1 && position > leg->next_pos) {
        leg->silence += position - leg->next_pos;
      }
    } else if (position < leg->read) { leg->late++; return; }
    else if (position + num > leg->next_pos) { leg->stray++; return; }
  }
  if (step > 0 || !leg->anchored) {
    leg->anchored = 1;
    leg->ref_ts = ts;
    leg->ref_pos = position;
    leg->next_pos = position + num;
  }
  if (position + num > leg->read + RING) { leg->overrun++; return; }
  if (leg->first_pos < 0 || position < leg->first_pos) leg->first_pos = position;
  const int16_t *table = decode[type == 8];
  const uint8_t *payload = row + offset;
  int16_t *out = ring + (size_t)slot * RING;
  int start = position & (RING - 1), first = num < RING - start ? num : RING - start;
  for (int i = 0; i < first; i++) out[start + i] = table[payload[i]];
  for (int i = first; i < num; i++) out[i - first] = table[payload[i]];
  mark(bitmap + (size_t)slot * (RING / 64), start, num);
}

// Audio of all legs up to `until`, with presence flags, as inference/rtp/reader.py hands it out.
static void read_all(int num_legs, int64_t until, int16_t *samples, uint8_t *present, int width) {
  for (int k = 0; k < num_legs; k++) {
    Leg *leg = &legs[k];
    int16_t *out = samples + (size_t)k * width, *from = ring + (size_t)k * RING;
    uint8_t *flags = present + (size_t)k * width;
    uint64_t *bits = bitmap + (size_t)k * (RING / 64);
    int64_t num = until - leg->read;
    if (num < 0) num = 0;
    if (num > width) num = width;
    int there = 0;
    for (int done = 0; done < num;) {
      int at = (leg->read + done) & (RING - 1), bit = at & 63, n = num - done < 64 - bit ? num - done : 64 - bit;
      uint64_t mask = ~0ull >> (64 - n) << bit, word = bits[at >> 6] & mask;
      if (word == mask) {
        memcpy(out + done, from + at, 2 * n);
        memset(flags + done, 1, n);
        there += n;
      } else {
        for (int i = 0; i < n; i++) {
          int is_there = word >> (bit + i) & 1;
          out[done + i] = is_there ? from[at + i] : 0;
          flags[done + i] = is_there;
          there += is_there;
        }
      }
      bits[at >> 6] &= ~mask;
      done += n;
    }
    if (leg->first_pos >= 0) {
      int64_t before = leg->first_pos - leg->read;
      if (before < 0) before = 0;
      if (before > num) before = num;
      leg->gap += num - before - there;
    }
    leg->read += num;
  }
}

static void *pages(size_t size) {  // large pages where the system has them, as NumPy asks for
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) exit(1);
  madvise(p, size, MADV_HUGEPAGE);
  return p;
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  local_port = atoi(argv[1]);
  int src_port = atoi(argv[2]), num_legs = atoi(argv[3]), tick_ms = atoi(argv[4]), buffer = 64 << 20;
  for (int i = 0; i < 256; i++) {
    int u = ~i & 255, m = (((u & 15) << 3) + 132 << (u >> 4 & 7)) - 132, a = i ^ 0x55, chord = a >> 4 & 7;
    decode[0][i] = u & 128 ? -m : m;
    m = chord ? ((a & 15) << 4) + 264 << (chord - 1) : ((a & 15) << 4) + 8;
    decode[1][i] = a & 128 ? m : -m;
  }
  for (last_place = 1; last_place < 4u * num_legs; last_place *= 2) {}
  places = malloc(last_place * sizeof *places);
  memset(places, -1, last_place * sizeof *places);
  last_place--;
  legs = pages(num_legs * sizeof *legs);
  keys = pages(num_legs * sizeof *keys);
  ring = pages((size_t)num_legs * RING * 2);
  bitmap = pages((size_t)num_legs * RING / 8);

  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(local_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(fd, (void *)&address, sizeof address)) return perror("receiver: bind"), 1;

  int64_t position = clock_ns(CLOCK_MONOTONIC) / 125000;
  for (int i = 0; i < num_legs; i++) {
    uint64_t key = source_key(htonl(0x7F010000u + (i / 250 << 8) + i % 250 + 1), htons(src_port));
    legs[i] = (Leg){.read = position, .ext_seq = -1, .bad_seq = -1, .first_pos = -1};
    keys[i] = key;
    uint32_t h = home(key);
    while (places[h] >= 0) h = (h + 1) & last_place;
    places[h] = i;
  }

  uint8_t *rows = pages(BATCH * ROW);
  static struct mmsghdr messages[BATCH];
  static struct iovec iov[BATCH];
  static struct sockaddr_in sources[BATCH];
  for (int i = 0; i < BATCH; i++) {
    iov[i] = (struct iovec){rows + (size_t)i * ROW, ROW};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1, .msg_name = &sources[i], .msg_namelen = sizeof *sources};
  }
  int width = 8000;
  int16_t *samples = pages((size_t)num_legs * width * 2);
  uint8_t *present = pages((size_t)num_legs * width);

  printf("ready\n");
  fflush(stdout);
  int64_t cpu_start = clock_ns(CLOCK_THREAD_CPUTIME_ID), cpu_read = 0, last = 0, next_read = 0;
  uint64_t packets = 0;
  struct pollfd waiting = {.fd = fd, .events = POLLIN};
  for (;;) {
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    if (last && now - last > 500000000) break;
    if (last && now >= next_read) {
      int64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID), until = now / 125000 - DELAY;
      int64_t num = until - legs[0].read;
      read_all(num_legs, until, samples, present, num < width ? (num > 0 ? (int)num : 0) : width);
      cpu_read += clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
      next_read = now + READ_MS * 1000000;
    }
    if (poll(&waiting, 1, 50) <= 0) continue;
    nanosleep(&(struct timespec){0, tick_ms * 1000000}, NULL);
    for (int n = BATCH; n == BATCH;) {
      n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
      if (n <= 0) break;
      last = clock_ns(CLOCK_MONOTONIC);
      int64_t arrival = last / 125000;
      for (int i = 0; i < n; i++) {
        messages[i].msg_hdr.msg_namelen = sizeof *sources;
        take(rows + (size_t)i * ROW, messages[i].msg_len, source_key(sources[i].sin_addr.s_addr, sources[i].sin_port), arrival);
      }
      packets += n;
    }
  }
  int64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_start - cpu_read;
  uint64_t received = 0, bad = malformed + oversized + unregistered, gap = 0, reanchors = 0;
  for (int i = 0; i < num_legs; i++) {
    received += legs[i].received;
    gap += legs[i].gap;
    reanchors += legs[i].reanchors;
    bad += legs[i].late + legs[i].duplicate + legs[i].stray + legs[i].unknown + legs[i].overrun;
  }
  printf("{\"received\": %lu, \"not_used\": %lu, \"reanchors\": %lu, \"receive_cpu_s\": %.6f, \"read_cpu_s\": %.6f}\n", received, bad,
         reanchors, cpu * 1e-9, cpu_read * 1e-9);
  return packets == received ? 0 : 1;
}
