/* AES (FIPS 197) by one table of 256 words: an entry is the column (2 s, s, s, 3 s) of s = S-box(x), and the other three are rotations.
 *
 * On a GPU the table lies 32 times in a block's shared memory, entry e of copy c at word 32 e + c. A thread reads the copy of its
 * lane, which is a memory bank of its own: the 32 look-ups of a warp never collide, whatever they look up, so that no time depends
 * on a secret. (One table for all would be read in as many steps as lanes meet in a bank, which is what cache attacks on
 * AES measure.) The copy for a CPU is for tests, where nothing is secret: parties there run gates.c, by the processor's AES.
 */
#pragma once
#include "launch.h"

struct Tables { u32 t[256]; };

constexpr u32 times_two(u32 x) { return (x << 1 ^ (x >> 7) * 0x1b) & 255; }
constexpr Tables make_tables() {
    u32 power[256] = {}, log[256] = {};
    for (u32 i = 0, x = 1; i < 255; i++, x ^= times_two(x)) { power[i] = x; log[x] = i; } /* of the generator 3 */
    Tables made = {};
    for (u32 x = 0; x < 256; x++) {
        u32 inverse = x ? power[(255 - log[x]) % 255] : 0, s = 0x63;
        for (int turn = 0; turn < 5; turn++) s ^= (inverse << turn | inverse >> (8 - turn)) & 255;
        u32 two = times_two(s);
        made.t[x] = two | s << 8 | s << 16 | (two ^ s) << 24;
    }
    return made;
}
static constexpr Tables TABLES = make_tables();

#define COPIES 32
#define MOST_KEYS 88 /* words: two AES-128 schedules of 44, or one AES-256 schedule of 60 */

BODY u32 rotated(u32 x, int bits) { return bits ? x << bits | x >> (32 - bits) : x; }

struct node { u32 x, y, z, w; }; /* 128 bits, little-endian: columns of the state */
BODY node operator^(node a, node b) { return node{a.x ^ b.x, a.y ^ b.y, a.z ^ b.z, a.w ^ b.w}; }
BODY node when(u32 bit, node a) { u32 m = 0 - (bit & 1); return node{a.x & m, a.y & m, a.z & m, a.w & m}; }
BODY u64 word(node a, int odd) { return odd ? a.z | (u64)a.w << 32 : a.x | (u64)a.y << 32; }
BODY node load(const u64 *from) { u64 lo = from[0], hi = from[1]; return node{(u32)lo, (u32)(lo >> 32), (u32)hi, (u32)(hi >> 32)}; }
BODY void store(u64 *to, node a) { to[0] = word(a, 0); to[1] = word(a, 1); }

struct Aes {
    const u32 *table;
    u32 lane;
    const u32 *keys;

    /* The entry of a byte of a column. */
    template <int byte> BODY u32 at(u32 column) const {
#ifdef __CUDA_ARCH__
        return table[((byte ? column >> (8 * byte - 5) : column << 5) & 0x1fe0) | lane];
#else
        return table[column >> (8 * byte) & 255];
#endif
    }
    BODY u32 mixed(u32 a, u32 b, u32 c, u32 d, u32 key) const {
        return at<0>(a) ^ rotated(at<1>(b), 8) ^ rotated(at<2>(c), 16) ^ rotated(at<3>(d), 24) ^ key;
    }
    BODY u32 unmixed(u32 a, u32 b, u32 c, u32 d, u32 key) const { /* the last round: s alone, which entries hold twice */
        return ((at<0>(a) >> 8 & 0xff) | (at<1>(b) & 0xff00) | (at<2>(c) & 0xff0000) | (at<3>(d) << 8 & 0xff000000)) ^ key;
    }
    template <int rounds> BODY node encrypted(node s, const u32 *k) const {
        s = s ^ node{k[0], k[1], k[2], k[3]};
        UNROLL
        for (int r = 1; r < rounds; r++)
            s = node{mixed(s.x, s.y, s.z, s.w, k[4 * r]), mixed(s.y, s.z, s.w, s.x, k[4 * r + 1]),
                     mixed(s.z, s.w, s.x, s.y, k[4 * r + 2]), mixed(s.w, s.x, s.y, s.z, k[4 * r + 3])};
        k += 4 * rounds;
        return node{unmixed(s.x, s.y, s.z, s.w, k[0]), unmixed(s.y, s.z, s.w, s.x, k[1]),
                    unmixed(s.z, s.w, s.x, s.y, k[2]), unmixed(s.w, s.x, s.y, s.z, k[3])};
    }
    /* H of gates.c: of inner nodes (which = 0), or of leaves (1) */
    template <int which> BODY node hash(node s, u32 tweak) const {
        s.x ^= tweak;
        node mixed = {s.z, s.w, s.x ^ s.z, s.y ^ s.w};
        return encrypted<10>(mixed, keys + 44 * which) ^ mixed;
    }
    BODY u32 substituted(u32 x) const {
        return (at<0>(x) >> 8 & 0xff) | (at<1>(x) & 0xff00) | (at<2>(x) & 0xff0000) | (at<3>(x) << 8 & 0xff000000);
    }
    /* The schedule of an AES-128 key of two words (FIPS 197, section 5.2). */
    BODY void expand(const u64 *key, u32 *made) const {
        node first = load(key);
        made[0] = first.x; made[1] = first.y; made[2] = first.z; made[3] = first.w;
        u32 constant = 1;
        for (int i = 4; i < 44; i++) {
            u32 t = made[i - 1];
            if (i % 4 == 0) { t = substituted(rotated(t, 24)) ^ constant; constant = (constant << 1 ^ (constant >> 7) * 0x1b) & 255; }
            made[i] = made[i - 4] ^ t;
        }
    }
};

/* Bodies that encrypt: body.prepare(aes, schedules, worker) fills the schedules, worker by worker of two; then body(aes, i). */
#ifdef __CUDACC__
__device__ constexpr Tables DEVICE_TABLES = make_tables();
#define AES_THREADS 512
template <class Body> __global__ void __launch_bounds__(AES_THREADS, 2) run_aes(Body body, i64 n) {
    __shared__ u32 table[256 * COPIES];
    __shared__ u32 keys[MOST_KEYS];
    for (int i = threadIdx.x; i < 256 * COPIES; i += AES_THREADS) table[i] = DEVICE_TABLES.t[i / COPIES];
    __syncthreads();
    Aes aes = {table, threadIdx.x % COPIES, keys};
    if (threadIdx.x < 2) body.prepare(aes, keys, (int)threadIdx.x);
    __syncthreads();
    i64 i = blockIdx.x * (i64)AES_THREADS + threadIdx.x;
    if (i < n) body(aes, i);
}
template <class Body> int launch_aes(const Body &body, i64 n, void *stream) {
    if (n > 0) run_aes<<<(unsigned)((n + AES_THREADS - 1) / AES_THREADS), AES_THREADS, 0, (cudaStream_t)stream>>>(body, n);
    return (int)cudaGetLastError();
}
#else
template <class Body> int launch_aes(const Body &body, i64 n, void *) {
    u32 keys[MOST_KEYS];
    Aes aes = {TABLES.t, 0, keys};
    for (int worker = 0; worker < 2; worker++) body.prepare(aes, keys, worker);
    for (i64 i = 0; i < n; i++) body(aes, i);
    return 0;
}
#endif
