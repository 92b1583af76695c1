/*
 * The floor of the bridge's benchmark: a worker that does as little as the wire allows (docs/wire.md).
 *
 * It takes part as the interpreter does: READY with one class, a flight recorder, and for each DELIVER a DONE with a
 * reply and a changed state, byte for byte those of bench/agents/counter.py called with n = 1. It reads no
 * MessagePack, checks no arguments, runs no user's code, and gives each read one write. To the handler `echo` it replies
 * with the value of the only argument, and changes nothing. What the same Elixir path achieves against it is the most that
 * any interpreter could achieve.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HELLO = 1, DELIVER = 3, DROP = 5, STOP = 9, READY = 64, DONE = 65, DROPPED = 67 };
/* Fields of DELIVER, from 0. */
enum { HANDLER = 5, ARGUMENTS = 6 };
enum { IN_BYTES = 1 << 26, OUT_BYTES = 1 << 26, AGENTS = 1 << 20 };

static uint8_t *in, *out;
static size_t have, made, body_at;
static uint64_t *recorder;
static uint32_t totals[AGENTS];
static long envelopes;

static void die(const char *why) {
    fprintf(stderr, "echo: %s\n", why);
    exit(76);
}

/* ---- writing ---- */

static void put(const void *bytes, size_t count) {
    if (made + count > OUT_BYTES) die("the batch is too large");
    memcpy(out + made, bytes, count);
    made += count;
}

static void put8(uint8_t byte) { put(&byte, 1); }

static void put32(uint32_t word) {
    uint8_t bytes[4] = {word >> 24, word >> 16, word >> 8, word};
    put(bytes, 4);
}

static void put_int(uint64_t value) {
    if (value < 256) {
        put8(97);
        put8(value);
    } else if (value < 0x7fffffff) {
        put8(98);
        put32(value);
    } else {
        put8(110);
        put8(8);
        put8(0);
        for (int i = 0; i < 8; i++) put8(value >> (8 * i));
    }
}

static void put_binary(const void *bytes, size_t count) {
    put8(109);
    put32(count);
    put(bytes, count);
}

static void put_tuple(uint8_t size) {
    put8(104);
    put8(size);
}

/* ---- MessagePack for READY ---- */

static uint8_t info[1024];
static size_t info_size;

static void pack(const char *text) {
    size_t size = strlen(text);
    info[info_size++] = 0xa0 | size;
    memcpy(info + info_size, text, size);
    info_size += size;
}

static void pack_head(uint8_t head) { info[info_size++] = head; }
static void pack_map(int size) { pack_head(0x80 | size); }
static void pack_list(int size) { pack_head(0x90 | size); }
static void pack_false(const char *key) { pack(key), pack_head(0xc2); }

static void pack_info(void) {
    pack_map(4);
    pack("classes"), pack_list(1), pack_map(6);
    pack("name"), pack("Counter");
    pack("autostart"), pack_list(0);
    pack_false("on_start"), pack_false("on_stop");
    pack("state"), pack_map(0);
    pack("handlers"), pack_map(2);
    pack("add"), pack_map(2);
    pack_false("interleave"), pack_false("idempotent");
    pack("echo"), pack_map(2);
    pack_false("interleave"), pack_false("idempotent");
    pack("problems"), pack_list(0);
    pack("packages"), pack_map(0);
    pack("loop"), pack("c");
}

/* ---- reading ---- */

typedef struct {
    const uint8_t *at, *end;
} Cursor;

static uint32_t word(Cursor *c) {
    if (c->end - c->at < 4) die("a cut term");
    uint32_t value = (uint32_t)c->at[0] << 24 | c->at[1] << 16 | c->at[2] << 8 | c->at[3];
    c->at += 4;
    return value;
}

static uint8_t byte(Cursor *c) {
    if (c->at >= c->end) die("a cut term");
    return *c->at++;
}

/* The binary that was read last. */
static const uint8_t *binary;
static uint32_t binary_size;

/* Reads an integer, or passes over any other term and gives 0. */
static uint64_t term(Cursor *c) {
    uint64_t value = 0;
    uint32_t size;
    switch (byte(c)) {
    case 97: return byte(c);
    case 98: return word(c);
    case 106: return 0;
    case 109:
        size = word(c);
        if ((size_t)(c->end - c->at) < size) die("a cut binary");
        binary = c->at;
        binary_size = size;
        c->at += size;
        return 0;
    case 110:
        size = byte(c);
        byte(c);
        for (uint32_t i = 0; i < size; i++) value |= (uint64_t)byte(c) << (8 * i);
        return value;
    case 104:
        size = byte(c);
        while (size--) term(c);
        return 0;
    case 108:
        size = word(c);
        while (size--) term(c);
        term(c);
        return 0;
    default: die("a tag that the wire does not allow");
    }
    return 0;
}

/* As msgpack writes a small integer: in as few bytes as it takes. */
static size_t pack_int(uint8_t *to, uint32_t value) {
    if (value < 128) {
        to[0] = value;
        return 1;
    }
    int size = value < 256 ? 1 : value < 65536 ? 2 : 4;
    to[0] = size == 1 ? 0xcc : size == 2 ? 0xcd : 0xce;
    for (int i = 0; i < size; i++) to[1 + i] = value >> (8 * (size - 1 - i));
    return 1 + size;
}

/* {"total": total, "name": "counter-of-the-benchmarks"} */
static size_t pack_state(uint8_t *to, const uint8_t *total, size_t size) {
    static const char head[] = "\x82\xa5total", tail[] = "\xa4name\xb9" "counter-of-the-benchmarks";
    memcpy(to, head, sizeof head - 1);
    memcpy(to + sizeof head - 1, total, size);
    memcpy(to + sizeof head - 1 + size, tail, sizeof tail - 1);
    return sizeof head - 1 + size + sizeof tail - 1;
}

static void put_done(uint64_t number, const void *reply, size_t size, const void *state, size_t state_size) {
    put_tuple(6);
    put_int(DONE);
    put_int(number);
    put_int(0);
    put_binary(reply, size);
    put_binary(state, state_size);
    put8(106);
    envelopes++;
}

/* {"data": value}: what stands behind the map's head and its key is the reply. */
static void echo(uint64_t number, const uint8_t *arguments, size_t arguments_size) {
    static const char head[] = "\x81\xa4" "data";
    size_t size = sizeof head - 1;
    if (arguments_size <= size || memcmp(arguments, head, size)) die("arguments that are not those of echo");
    recorder[1] = number;
    put_done(number, arguments + size, arguments_size - size, "", 0);
}

static void done(uint64_t number, uint64_t handle) {
    if (handle >= AGENTS) die("more agents than there is room for");
    recorder[1] = number;
    uint8_t reply[5], state[64];
    size_t size = pack_int(reply, ++totals[handle]), state_size = pack_state(state, reply, size);
    put_done(number, reply, size, state, state_size);
}

static void envelope(Cursor *c) {
    if (byte(c) != 104) die("an envelope that is no tuple");
    uint8_t size = byte(c);
    uint64_t op = term(c), first = size > 1 ? term(c) : 0, second = size > 2 ? term(c) : 0;
    int is_echo = 0;
    const uint8_t *arguments = NULL;
    size_t arguments_size = 0;
    for (int i = 3; i < size; i++) {
        term(c);
        if (i == HANDLER) is_echo = binary_size == 4 && !memcmp(binary, "echo", 4);
        if (i == ARGUMENTS) arguments = binary, arguments_size = binary_size;
    }
    switch (op) {
    case HELLO:
        pack_info();
        put_tuple(5);
        put_int(READY);
        put_int(1);
        put_binary("C", 1);
        put_int(getpid());
        put_binary(info, info_size);
        envelopes++;
        break;
    case DELIVER:
        if (is_echo)
            echo(first, arguments, arguments_size);
        else
            done(first, second);
        break;
    case DROP:
        put_tuple(3);
        put_int(DROPPED);
        put_int(first);
        put_int(second);
        envelopes++;
        break;
    case STOP: exit(0);
    }
}

static void frame(const uint8_t *bytes, size_t size) {
    Cursor c = {bytes, bytes + size};
    if (byte(&c) != 131 || byte(&c) != 108) die("a frame that is no list");
    uint32_t count = word(&c);
    while (count--) envelope(&c);
}

static void write_batch(void) {
    if (!envelopes) return;
    put8(106);
    size_t size = made - 4;
    for (int i = 0; i < 4; i++) out[i] = size >> (24 - 8 * i);
    for (int i = 0; i < 4; i++) out[body_at - 4 + i] = envelopes >> (24 - 8 * i);
    for (size_t at = 0; at < made;) {
        ssize_t written = write(1, out + at, made - at);
        if (written <= 0) exit(0);
        at += written;
    }
}

static void begin_batch(void) {
    made = 4;
    envelopes = 0;
    put8(131);
    put8(108);
    put32(0);
    body_at = made;
}

int main(void) {
    const char *path = getenv("PYRE_RECORDER");
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0) die("PYRE_RECORDER is missing");
    recorder = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    recorder[0] = 0x0000000145525950;
    in = malloc(IN_BYTES);
    out = malloc(OUT_BYTES);
    fcntl(0, F_SETPIPE_SZ, 1 << 20);
    fcntl(1, F_SETPIPE_SZ, 1 << 20);

    for (;;) {
        ssize_t count = read(0, in + have, IN_BYTES - have);
        if (count <= 0) return 0;
        have += count;
        size_t at = 0;
        begin_batch();
        while (have - at >= 4) {
            Cursor c = {in + at, in + have};
            size_t size = word(&c);
            if (size + 4 > IN_BYTES) die("the frame is too large");
            if (have - at - 4 < size) break;
            frame(in + at + 4, size);
            at += 4 + size;
        }
        write_batch();
        memmove(in, in + at, have - at);
        have -= at;
    }
}
