/* Load generator, sink and reference forwarder of the benchmark. Linux; gcc -O2 -Wall; needs nothing else.
 *
 *   udpbench fwd PORT IP:PORT                 the forwarder that everything is compared with
 *   udpbench sink PORT                        counts what arrives
 *   udpbench gen IP:PORT [options]            F sockets that send (the way up)
 *   udpbench clients IP:PORT --flows F        F sockets that register, then count what arrives
 *   udpbench blast PORT [options]             sends to the F peers that registered (the way down)
 *   udpbench echo PORT                        answers every datagram with itself
 *   udpbench ping IP:PORT [options]           round-trip times of one flow
 *
 * Options: --flows F (1)  --size BYTES (1200)  --rate PER_SECOND (0: as fast as it can)  --seconds T (2)
 *   --burst N   datagrams that one flow sends in one go (64 with one flow, else 1)
 *   --stdin     gen, blast: instead of one run, a run for each input line "RATE SECONDS SIZE [BURST]"
 *   --wait T    clients, blast: seconds to wait for registrations (20)
 *   --from P    ping: the source port, so that it is the flow of an earlier ping
 *
 * A mode that listens prints {"ready":true,"port":P} first (PORT 0: the system chooses). Each mode prints
 * one JSON line at its end, and after each run; sink, clients and fwd also for each input line ("?": the
 * counts; "0": the counts, then start from zero), sink besides answers a datagram "?". fwd, sink, clients
 * and echo end with SIGTERM, or when the input that they were given as a pipe ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define MAX_SIZE 9000
#define MAX_FLOWS (1 << 17)
#define FIRST_PORT 12000
#define FLOWS_PER_ADDRESS 20000 /* further flows come from another loopback address: ports are few */
#define BUFFER (4 << 20)
#define TICK_NS 1000000
#define MAX_SECONDS 600
#define DATA 0x64617461u
#define REGISTER 0x72656769u

struct head { /* starts each datagram; the way to know losses, duplicates and times */
	uint32_t kind, flow;
	uint64_t number, ns;
};
struct seen { /* the newest number of a flow, and which of the 64 before it have come */
	uint64_t newest, window;
};
struct counts {
	uint64_t datagrams, bytes, duplicates, reordered, strange;
};

static volatile sig_atomic_t stopping;
static int has_input; /* somebody steers us through a pipe */
static struct {
	int flows, size, burst, from_stdin, from;
	double rate, seconds, wait;
} opt = {1, 1200, 0, 0, 0, 0, 2, 20};

static uint8_t buffers[BATCH][MAX_SIZE];
static struct iovec vectors[BATCH];
static struct mmsghdr messages[BATCH];
static struct sockaddr_in names[BATCH];
static int *sockets;
static struct seen *seen;
static uint64_t *numbers; /* the next number of each flow */
static struct counts got;
static uint64_t begin_ns, begin_cpu;

static void stop(int number) { (void)number; stopping = 1; }

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t cpu_us(void)
{
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	return (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000ull + use.ru_utime.tv_usec + use.ru_stime.tv_usec;
}

static void start_clock(void) { begin_ns = now_ns(), begin_cpu = cpu_us(); }

static double elapsed(void) { return (now_ns() - begin_ns) / 1e9; }

static void end_line(void)
{
	printf("\"cpu_us\":%lu,\"seconds\":%.6f}\n", cpu_us() - begin_cpu, elapsed());
	fflush(stdout);
}

static void sleep_until(uint64_t ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static struct sockaddr_in address(const char *text)
{
	char host[64];
	struct sockaddr_in a = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	if (!colon || colon - text >= (long)sizeof host) { fprintf(stderr, "not IP:PORT: %s\n", text); exit(2); }
	snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
	a.sin_port = htons(atoi(colon + 1));
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) { fprintf(stderr, "not an IPv4 address: %s\n", host); exit(2); }
	return a;
}

static int new_socket(int large)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0), size = BUFFER;
	if (s < 0) die("socket");
	if (large) {
		setsockopt(s, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
		setsockopt(s, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	}
	return s;
}

static int listening(const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof a;
	int s = new_socket(1);
	if (bind(s, (void *)&a, sizeof a) || getsockname(s, (void *)&a, &length)) die("bind");
	printf("{\"ready\":true,\"port\":%d}\n", ntohs(a.sin_port));
	fflush(stdout);
	return s;
}

static int connected(struct sockaddr_in to, int large)
{
	int s = new_socket(large);
	if (connect(s, (void *)&to, sizeof to)) die("connect");
	return s;
}

/* Ports below the range that the system gives out: that one has to last for the flows of the agent. */
static void bind_flow(int s, int flow)
{
	struct sockaddr_in from = {.sin_family = AF_INET};
	uint32_t own = 0x7f400001u + (getpid() % 4096 << 8);
	from.sin_addr.s_addr = htonl(own + flow / FLOWS_PER_ADDRESS);
	from.sin_port = htons(FIRST_PORT + flow % FLOWS_PER_ADDRESS);
	if (!bind(s, (void *)&from, sizeof from)) return;
	from.sin_port = 0; /* taken by somebody */
	if (bind(s, (void *)&from, sizeof from)) die("bind");
}

static void open_flows(const char *to)
{
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	sockets = calloc(opt.flows, sizeof *sockets);
	struct sockaddr_in peer = address(to);
	for (int i = 0; i < opt.flows; i++) {
		sockets[i] = new_socket(opt.flows <= 64);
		bind_flow(sockets[i], i);
		if (connect(sockets[i], (void *)&peer, sizeof peer)) die("connect");
	}
}

static void prepare(int size, int named)
{
	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){buffers[i], size};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
		if (named) messages[i].msg_hdr.msg_name = &names[i], messages[i].msg_hdr.msg_namelen = sizeof *names;
	}
}

/* ---- counting what arrives ---- */

static void count(const uint8_t *data, int length)
{
	struct head h;
	got.datagrams++, got.bytes += length;
	if (length < (int)sizeof h) { got.strange++; return; }
	memcpy(&h, data, sizeof h);
	if (h.kind != DATA || h.flow >= MAX_FLOWS) { got.strange++; return; }
	struct seen *s = &seen[h.flow];
	uint64_t number = h.number + 1; /* so that 0 means: nothing yet */
	if (number > s->newest) {
		uint64_t step = number - s->newest;
		s->window = step < 64 ? s->window << step | 1 : 1;
		s->newest = number;
	} else {
		uint64_t age = s->newest - number, bit = 1ull << (age & 63);
		if (age < 64 && s->window & bit) got.duplicates++;
		else got.reordered++;
		if (age < 64) s->window |= bit;
	}
}

static int counts_text(char *text, size_t room)
{
	return snprintf(text, room, "{\"received\":%lu,\"bytes\":%lu,\"unique\":%lu,\"duplicates\":%lu,\"reordered\":%lu,\"strange\":%lu,",
		got.datagrams, got.bytes, got.datagrams - got.duplicates - got.strange, got.duplicates, got.reordered, got.strange);
}

static void print_counts(void)
{
	char text[400];
	counts_text(text, sizeof text);
	fputs(text, stdout);
	end_line();
}

static void answer_query(int s, struct sockaddr_in *to)
{
	char text[500];
	int n = counts_text(text, sizeof text);
	n += snprintf(text + n, sizeof text - n, "\"seconds\":%.6f}\n", elapsed());
	sendto(s, text, n, 0, (void *)to, sizeof *to);
}

/* Reads what waits at one socket; returns how many there were. */
static int drain(int s, int queries)
{
	int total = 0, n;
	do {
		for (int i = 0; i < BATCH; i++) messages[i].msg_hdr.msg_namelen = queries ? sizeof *names : 0;
		n = recvmmsg(s, messages, BATCH, MSG_DONTWAIT, NULL);
		for (int i = 0; i < n; i++) {
			if (queries && messages[i].msg_len == 1 && buffers[i][0] == '?') answer_query(s, &names[i]);
			else count(buffers[i], messages[i].msg_len);
		}
		total += n > 0 ? n : 0;
	} while (n == BATCH && total < 16 * BATCH);
	return total;
}

/* One input line; 0 at the end of the input. */
static int obey_line(void (*print)(void))
{
	char line[100];
	ssize_t n = read(0, line, sizeof line);
	if (n <= 0) return 0;
	for (ssize_t i = 0; i < n; i++) {
		if (line[i] != '?' && line[i] != '0') continue;
		print();
		if (line[i] == '0') memset(&got, 0, sizeof got), start_clock();
	}
	return 1;
}

static int poller(void)
{
	int poll = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = 0};
	if (has_input) epoll_ctl(poll, EPOLL_CTL_ADD, 0, &event);
	return poll;
}

static void watch(int poll, int s)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = s};
	if (epoll_ctl(poll, EPOLL_CTL_ADD, s, &event)) die("epoll_ctl");
}

static void count_until_told(int poll, int queries)
{
	struct epoll_event events[256];
	prepare(MAX_SIZE, queries);
	start_clock();
	while (!stopping) {
		int n = epoll_wait(poll, events, 256, 200);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd) drain(events[i].data.fd, queries);
			else if (!obey_line(print_counts)) stopping = 1;
		}
	}
	print_counts();
}

static void sink(const char *port)
{
	int poll = poller();
	watch(poll, listening(port));
	count_until_told(poll, 1);
}

/* Every flow sends a registration until it was answered; a few at a time, so that no buffer overflows. */
static int register_flows(int poll)
{
	char *done = calloc(opt.flows, 1);
	struct epoll_event events[256];
	struct head h = {.kind = REGISTER};
	uint8_t answer[MAX_SIZE];
	int missing = opt.flows;
	for (uint64_t end = now_ns() + opt.wait * 1e9; missing && now_ns() < end && !stopping;) {
		for (int i = 0, wave = 0; i < opt.flows; i++) {
			if (!done[i]) {
				h.flow = i;
				send(sockets[i], &h, sizeof h, MSG_DONTWAIT);
				wave++;
			}
			if (wave < 100 && i < opt.flows - 1) continue;
			uint64_t until = now_ns() + 300000000;
			for (int waiting = wave; waiting && now_ns() < until;) {
				int n = epoll_wait(poll, events, 256, 50);
				for (int k = 0; k < n; k++) {
					if (!events[k].data.fd) { if (!obey_line(print_counts)) return missing; continue; }
					if (recv(events[k].data.fd, answer, sizeof answer, MSG_DONTWAIT) < (ssize_t)sizeof h) continue;
					struct head *back = (void *)answer;
					if (back->kind != REGISTER || back->flow >= (uint32_t)opt.flows || done[back->flow]) continue;
					done[back->flow] = 1, missing--, waiting--;
				}
			}
			wave = 0;
		}
	}
	free(done);
	return missing;
}

static void clients(const char *to)
{
	int poll = poller();
	open_flows(to);
	for (int i = 0; i < opt.flows; i++) watch(poll, sockets[i]);
	int missing = register_flows(poll);
	printf("{\"ready\":%s,\"flows\":%d,\"missing\":%d}\n", missing ? "false" : "true", opt.flows, missing);
	fflush(stdout);
	count_until_told(poll, 0);
}

/* ---- sending ---- */

static void fill(int i, int size, uint32_t flow, uint64_t ns)
{
	struct head h = {DATA, flow, numbers[flow]++, ns};
	memcpy(buffers[i], &h, sizeof h);
	vectors[i].iov_len = size;
}

/* Sends `n` prepared messages on `s`; returns how many the system took. A failure costs one message. */
static int send_all(int s, int n)
{
	int done = 0, sent = 0;
	while (done < n) {
		int took = sendmmsg(s, messages + done, n - done, MSG_DONTWAIT);
		if (took <= 0) { done++; continue; }
		sent += took, done += took;
	}
	return sent;
}

static int gen_some(int want, int size, int burst)
{
	static int flow;
	int sent = 0;
	uint64_t ns = now_ns();
	for (int left = want; left > 0;) {
		int n = left < burst ? left : burst;
		if (n > BATCH) n = BATCH;
		for (int i = 0; i < n; i++) fill(i, size, flow, ns);
		sent += send_all(sockets[flow], n);
		left -= n;
		if (++flow == opt.flows) flow = 0;
	}
	return sent;
}

static struct sockaddr_in *peers;
static int known;
static int *table; /* address -> 1 + peer number, open addressing */
static int blast_socket;

static void learn(struct sockaddr_in *from)
{
	uint64_t key = (uint64_t)from->sin_addr.s_addr << 16 | from->sin_port;
	uint32_t at = key * 0x9e3779b97f4a7c15ull >> 40 & (2 * MAX_FLOWS - 1);
	for (; table[at]; at = (at + 1) & (2 * MAX_FLOWS - 1)) {
		struct sockaddr_in *peer = &peers[table[at] - 1];
		if (peer->sin_addr.s_addr == from->sin_addr.s_addr && peer->sin_port == from->sin_port) return;
	}
	if (known < MAX_FLOWS) peers[known++] = *from, table[at] = known;
}

static int blast_some(int want, int size, int burst)
{
	static int peer, run;
	int sent = 0;
	uint64_t ns = now_ns();
	for (int left = want; left > 0;) {
		int n = left < BATCH ? left : BATCH;
		for (int i = 0; i < n; i++) {
			if (peer >= known) peer = 0;
			fill(i, size, peer, ns);
			names[i] = peers[peer];
			if (++run >= burst) run = 0, peer++;
		}
		sent += send_all(blast_socket, n);
		left -= n;
	}
	return sent;
}

static void take_answers(int poll)
{
	struct epoll_event events[256];
	int n = epoll_wait(poll, events, 256, 0);
	for (int i = 0; i < n; i++) {
		if (!events[i].data.fd) continue;
		if (events[i].data.fd != blast_socket) { drain(events[i].data.fd, 0); continue; }
		struct sockaddr_in from;
		socklen_t length = sizeof from;
		uint8_t data[MAX_SIZE];
		for (ssize_t got; (got = recvfrom(blast_socket, data, sizeof data, MSG_DONTWAIT, (void *)&from, &length)) >= 0;) {
			learn(&from);
			sendto(blast_socket, data, got, MSG_DONTWAIT, (void *)&from, length);
		}
	}
}

/* One run. What is late by more than 5 ms is left out, so that no flood follows a pause of ours. */
static void run(int poll, int (*some)(int, int, int), double rate, double seconds, int size, int burst)
{
	uint64_t sent = 0, wanted = 0, left_out = 0, next, answers = got.datagrams;
	if (size < (int)sizeof(struct head)) size = sizeof(struct head);
	if (size > MAX_SIZE) size = MAX_SIZE;
	if (burst <= 0) burst = opt.flows > 1 ? 1 : BATCH;
	start_clock();
	for (next = begin_ns; elapsed() < seconds && !stopping; next += TICK_NS) {
		uint64_t due = 16 * BATCH;
		if (rate > 0) {
			uint64_t most = rate * 0.005 + 1;
			due = (uint64_t)(elapsed() * rate) + 1 - wanted - left_out;
			if (due > most) left_out += due - most, due = most;
		}
		prepare(size, some == blast_some);
		sent += some(due, size, burst);
		wanted += due;
		prepare(MAX_SIZE, 0);
		take_answers(poll);
		if (rate > 0) sleep_until(next + TICK_NS);
		if (now_ns() > next + 20 * TICK_NS) next = now_ns();
	}
	printf("{\"sent\":%lu,\"failed\":%lu,\"left_out\":%lu,\"answers\":%lu,\"flows\":%d,\"size\":%d,", sent, wanted - sent, left_out,
		got.datagrams - answers, some == blast_some ? known : opt.flows, size);
	end_line();
}

static void run_lines(int poll, int (*some)(int, int, int))
{
	char line[200];
	struct pollfd ready[2] = {{.fd = 0, .events = POLLIN}, {.fd = poll, .events = POLLIN}};
	setvbuf(stdin, NULL, _IONBF, 0);
	while (!stopping) {
		if (ppoll(ready, 2, NULL, NULL) < 0) continue;
		prepare(MAX_SIZE, 0);
		if (ready[1].revents) take_answers(poll);
		if (!ready[0].revents) continue;
		double rate, seconds;
		int size, burst = opt.burst;
		if (!fgets(line, sizeof line, stdin)) return;
		if (sscanf(line, "%lf %lf %d %d", &rate, &seconds, &size, &burst) < 3) { fprintf(stderr, "not RATE SECONDS SIZE [BURST]\n"); continue; }
		run(poll, some, rate, seconds, size, burst);
	}
}

static void gen(const char *to)
{
	int poll = epoll_create1(0);
	open_flows(to);
	for (int i = 0; i < opt.flows; i++) watch(poll, sockets[i]);
	if (!opt.from_stdin) { run(poll, gen_some, opt.rate, opt.seconds, opt.size, opt.burst); return; }
	printf("{\"ready\":true,\"flows\":%d}\n", opt.flows);
	fflush(stdout);
	run_lines(poll, gen_some);
}

static void blast(const char *port)
{
	int poll = epoll_create1(0);
	peers = calloc(MAX_FLOWS, sizeof *peers);
	table = calloc(2 * MAX_FLOWS, sizeof *table);
	watch(poll, blast_socket = listening(port));
	if (opt.from_stdin) { run_lines(poll, blast_some); return; }
	struct pollfd ready = {.fd = poll, .events = POLLIN};
	for (uint64_t end = now_ns() + opt.wait * 1e9; known < opt.flows && now_ns() < end && !stopping;) {
		ppoll(&ready, 1, &(struct timespec){0, 100000000}, NULL);
		take_answers(poll);
	}
	if (known) run(poll, blast_some, opt.rate, opt.seconds, opt.size, opt.burst);
}

/* ---- the forwarder, echo and ping ---- */

static uint64_t forwarded_up, forwarded_down, not_sent;

static void print_forwarded(void)
{
	printf("{\"up\":%lu,\"down\":%lu,\"failed\":%lu,", forwarded_up, forwarded_down, not_sent);
	end_line();
	forwarded_up = forwarded_down = not_sent = 0;
}

/* A wake-up drains both sockets, a batch each in turn: a forwarder that polled for each datagram would be dearer. */
static void fwd(const char *port, const char *target)
{
	static uint8_t data[65536];
	struct sockaddr_in client = {0};
	socklen_t length;
	int up = connected(address(target), 1), local = listening(port);
	struct pollfd ready[3] = {{.fd = local, .events = POLLIN}, {.fd = up, .events = POLLIN}, {.fd = has_input ? 0 : -1, .events = POLLIN}};
	start_clock();
	while (!stopping) {
		if (ppoll(ready, 3, &(struct timespec){0, 200000000}, NULL) <= 0) continue;
		for (int i = 0; i < BATCH && ready[0].revents; i++) {
			length = sizeof client;
			ssize_t n = recvfrom(local, data, sizeof data, MSG_DONTWAIT, (void *)&client, &length);
			if (n < 0) break;
			if (send(up, data, n, MSG_DONTWAIT) < 0) not_sent++;
			else forwarded_up++;
		}
		for (int i = 0; i < BATCH && ready[1].revents; i++) {
			ssize_t n = recv(up, data, sizeof data, MSG_DONTWAIT);
			if (n < 0) break;
			if (!client.sin_port || sendto(local, data, n, MSG_DONTWAIT, (void *)&client, sizeof client) < 0) not_sent++;
			else forwarded_down++;
		}
		if (ready[2].revents && !obey_line(print_forwarded)) break;
	}
	print_forwarded();
}

static uint64_t echoed;

static void print_echoed(void)
{
	printf("{\"echoed\":%lu,", echoed);
	end_line();
	echoed = 0;
}

static void echo(const char *port)
{
	static uint8_t data[65536];
	struct sockaddr_in from;
	int s = listening(port);
	struct pollfd ready[2] = {{.fd = s, .events = POLLIN}, {.fd = has_input ? 0 : -1, .events = POLLIN}};
	start_clock();
	while (!stopping) {
		if (ppoll(ready, 2, &(struct timespec){0, 200000000}, NULL) <= 0) continue;
		for (int i = 0; i < BATCH && ready[0].revents; i++) {
			socklen_t length = sizeof from;
			ssize_t n = recvfrom(s, data, sizeof data, MSG_DONTWAIT, (void *)&from, &length);
			if (n < 0) break;
			echoed += sendto(s, data, n, MSG_DONTWAIT, (void *)&from, length) >= 0;
		}
		if (ready[1].revents && !obey_line(print_echoed)) break;
	}
	print_echoed();
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

/* Round-trip times in ns; sends on an absolute schedule and sleeps in between, with the finest timer slack. */
static void ping(const char *to)
{
	double rate = opt.rate > 0 ? opt.rate : 1000;
	uint64_t most = rate * opt.seconds + 1, sent = 0, count = 0, next, interval = 1e9 / rate;
	uint32_t *times = calloc(most, sizeof *times);
	struct pollfd ready = {.events = POLLIN};
	struct head h = {.kind = DATA};
	static uint32_t worst[MAX_SECONDS];
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	if (opt.size < (int)sizeof h) opt.size = sizeof h;
	if (opt.size > MAX_SIZE) opt.size = MAX_SIZE;
	struct sockaddr_in peer = address(to), from = {.sin_family = AF_INET, .sin_port = htons(opt.from), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	ready.fd = new_socket(1);
	if (bind(ready.fd, (void *)&from, sizeof from)) die("bind");
	if (connect(ready.fd, (void *)&peer, sizeof peer)) die("connect");
	start_clock();
	for (next = begin_ns; !stopping && (sent < most || now_ns() < next + 500000000);) {
		uint64_t now = now_ns();
		if (sent < most && now >= next) {
			h.number = sent++, h.ns = now;
			memcpy(buffers[0], &h, sizeof h);
			send(ready.fd, buffers[0], opt.size, MSG_DONTWAIT);
			next += interval;
			continue;
		}
		if (sent == most && count == most) break;
		uint64_t left = sent < most ? next - now : next + 500000000 - now;
		ppoll(&ready, 1, &(struct timespec){left / 1000000000, left % 1000000000}, NULL);
		while (recv(ready.fd, buffers[1], MAX_SIZE, MSG_DONTWAIT) >= (ssize_t)sizeof h) {
			struct head *back = (void *)buffers[1];
			if (back->kind != DATA || count == most) continue;
			uint32_t took = times[count++] = now_ns() - back->ns, second = (back->ns - begin_ns) / 1000000000;
			if (second < MAX_SECONDS && took > worst[second]) worst[second] = took;
		}
	}
	qsort(times, count, sizeof *times, by_size);
#define AT(share) (count ? times[(uint64_t)((count - 1) * (share))] / 1e3 : 0.0)
	printf("{\"sent\":%lu,\"received\":%lu,\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,", sent, count,
		AT(0.5), AT(0.9), AT(0.99), AT(0.999), AT(1.0));
	printf("\"worst_us\":["); /* of each second */
	for (int i = 0; i < opt.seconds && i < MAX_SECONDS; i++) printf("%s%.1f", i ? "," : "", worst[i] / 1e3);
	printf("],");
	end_line();
}

static void options(int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(name, "--stdin")) { opt.from_stdin = 1; continue; }
		i++;
		if (!strcmp(name, "--flows")) opt.flows = atoi(value);
		else if (!strcmp(name, "--size")) opt.size = atoi(value);
		else if (!strcmp(name, "--burst")) opt.burst = atoi(value);
		else if (!strcmp(name, "--rate")) opt.rate = atof(value);
		else if (!strcmp(name, "--seconds")) opt.seconds = atof(value);
		else if (!strcmp(name, "--from")) opt.from = atoi(value);
		else if (!strcmp(name, "--wait")) opt.wait = atof(value);
		else { fprintf(stderr, "unknown option: %s\n", name); exit(2); }
	}
	if (opt.flows < 1 || opt.flows > MAX_FLOWS) { fprintf(stderr, "--flows: 1 to %d\n", MAX_FLOWS); exit(2); }
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";
	struct sigaction action = {.sa_handler = stop};
	struct stat input;
	int is_fwd = !strcmp(mode, "fwd");
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	has_input = !fstat(0, &input) && S_ISFIFO(input.st_mode);
	seen = calloc(MAX_FLOWS, sizeof *seen);
	numbers = calloc(MAX_FLOWS, sizeof *numbers);
	for (int i = 0; i < MAX_FLOWS; i++) numbers[i] = now_ns(); /* larger than those of a process before us */
	if (argc > 3 + is_fwd) options(argc - 3 - is_fwd, argv + 3 + is_fwd);
	if (is_fwd && argc > 3) fwd(argv[2], argv[3]);
	else if (!strcmp(mode, "sink")) sink(argv[2]);
	else if (!strcmp(mode, "gen")) gen(argv[2]);
	else if (!strcmp(mode, "clients")) clients(argv[2]);
	else if (!strcmp(mode, "blast")) blast(argv[2]);
	else if (!strcmp(mode, "echo")) echo(argv[2]);
	else if (!strcmp(mode, "ping")) ping(argv[2]);
	else { fprintf(stderr, "usage: udpbench fwd|sink|gen|clients|blast|echo|ping ...; the head of udpbench.c says how\n"); return 2; }
	return 0;
}
