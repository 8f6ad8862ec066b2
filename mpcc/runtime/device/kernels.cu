/* The kernels of a party and of the dealer on a GPU: spline gates, masks, messages, products modulo 2^64. Little-endian.
 *
 * Each computes, bit for bit, what the CPU computes: gates.c (which says what a gate is), planes.c, randomness.py, ring.py. All arrays
 * are on the GPU but for those that an entry point names. Layouts are those of gates.c.
 */
#include "aes.h"

/* ---- the dealer's trees --------------------------------------------------------------------------------------------------------- */

struct Make {
    i64 count; int depth, width;
    const u64 *keys, *root0, *root1, *point, *payload;
    u64 *corrections, *last;

    BODY void prepare(const Aes &aes, u32 *made, int worker) const { aes.expand(keys + 2 * worker, made + 44 * worker); }
    BODY void operator()(const Aes &aes, i64 e) const {
        node a = load(root0 + 2 * e), b = load(root1 + 2 * e), apart = a ^ b;
        u64 at = point[e];
        for (int level = 0; level < depth; level++) {
            u32 right = (u32)(at >> (depth - 1 - level)) & 1;
            node ha = aes.hash<0>(a, 0), hb = aes.hash<0>(b, 0), c = ha ^ hb ^ when(right ^ 1, apart);
            store(corrections + 2 * (level * count + e), c);
            a = ha ^ when(a.x, c) ^ when(right, a);
            b = hb ^ when(b.x, c) ^ when(right, b);
        }
        for (int j = 0; 2 * j < width; j++) {
            node ha = aes.hash<1>(a, (u32)j << 1), hb = aes.hash<1>(b, (u32)j << 1);
            for (int w = 2 * j; w < width && w < 2 * j + 2; w++) {
                u64 v = payload[w * count + e] - word(ha, w & 1) + word(hb, w & 1);
                last[w * count + e] = b.x & 1 ? 0 - v : v;
            }
        }
    }
};

/* ---- a party's gates ------------------------------------------------------------------------------------------------------------ */

BODY i32 choose(int n, int k) { /* of constants: computed by the compiler */
    i32 found = 1;
    for (int i = 0; i < k; i++) found = found * (n - i) / (i + 1);
    return found;
}

/* `coefficients` of gates.c for one leaf; `from`: a_l at from[l * stride]. */
template <int degree> BODY void coefficients(const i32 *from, i64 stride, i32 place, int low, int fine, i32 *found) {
    i32 a[degree + 1], half = fine ? 1 << (fine - 1) : 0;
    UNROLL
    for (int l = 0; l <= degree; l++) a[l] = from[l * stride];
    UNROLL
    for (int m = 0; m <= degree; m++) {
        i32 v = a[degree] * choose(degree, m);
        UNROLL
        for (int l = degree - 1; l >= m; l--) v = (i32)((i64)v * place >> low) + a[l] * choose(l, m);
        found[m] = m == 0 ? v : (m & 1 ? half - v : half + v) >> fine;
    }
}

#define MOST_GROWN 13 /* levels: mpcc.ir.curve.MOST_PIECES is 2^12, and two subtrees of as many leaves are grown */

/* 2^split threads an element share out its leaves, as there are fewer elements than the GPU has threads; each walks the trees below
 * its own node depth first, so that a path of nodes is all it keeps. Where split > 0, `out` is zero before. Of the two subtrees of
 * gates.c (grown < depth), threads take halves, so that split > 0 there. */
template <int degree> struct Gate {
    int party, depth, grown, split, low, fine; i64 count;
    const u64 *keys, *root, *corrections, *last, *opened;
    const i32 *table; const u8 *units; u64 *out;

    BODY void prepare(const Aes &aes, u32 *made, int worker) const { aes.expand(keys + 2 * worker, made + 44 * worker); }
    BODY node child(const Aes &aes, node x, int level, i64 e) const { /* the left one; the right one is that xor x */
        return aes.hash<0>(x, 0) ^ when(x.x, load(corrections + 2 * (level * count + e)));
    }
    BODY void operator()(const Aes &aes, i64 i) const {
        i64 e = i >> split, leaves = (i64)1 << grown;
        u32 part = (u32)i & ((1u << split) - 1);
        u64 c = opened[e], path = part, top = c >> low;
        int start = depth - grown + split;
        if (grown < depth) {
            u64 block = (top >> (grown - 1)) - 1;
            path += block << (split - 1);
            top -= block << (grown - 1);
        }
        node x = load(root + 2 * e), right[MOST_GROWN];
        for (int level = 0; level < start; level++) {
            node left = child(aes, x, level, e);
            x = left ^ when((u32)(path >> (start - 1 - level)), x);
        }
        const i32 *row = table + ((leaves - (i64)(top & (u64)(leaves - 1))) & (leaves - 1));
        const u8 *unit = units ? units + (row - table) : units;
        i32 place = (i32)(c & (((u64)1 << low) - 1)) - (low ? 1 << (low - 1) : 0);
        u64 sum = 0, flagged[degree + 1];
        UNROLL
        for (int w = 0; w <= degree; w++) flagged[w] = 0;
        u32 y = part << (grown - split), end = y + (1u << (grown - split));
        for (int level = start;;) {
            for (; level < depth; level++) { node left = child(aes, x, level, e); right[level - start] = left ^ x; x = left; }
            i32 a[degree + 1];
            coefficients<degree>(row + y, 2 * leaves, place, low, fine, a);
            int shift = unit ? unit[y] : 0;
            u64 flag = 0 - (u64)(x.x & 1);
            UNROLL
            for (int j = 0; 2 * j <= degree; j++) {
                node h = aes.hash<1>(x, (u32)j << 1);
                UNROLL
                for (int w = 2 * j; w <= degree && w < 2 * j + 2; w++) {
                    u64 times = (u64)(i64)a[w] << shift;
                    sum += word(h, w & 1) * times;
                    flagged[w] += times & flag;
                }
            }
            if (++y == end) break;
            level = depth - 1 - trailing_zeros(y);
            x = right[level - start];
            level++;
        }
        UNROLL
        for (int w = 0; w <= degree; w++) sum += last[w * count + e] * flagged[w];
        if (party) sum = 0 - sum;
        if (split) add_to(out + e, sum); else out[e] = sum;
    }
};

/* ---- masks: AES-256 in counter mode from zero, as randomness.py draws them --------------------------------------------------------- */

BODY u32 reversed(u32 x) { return x >> 24 | (x >> 8 & 0xff00) | (x << 8 & 0xff0000) | x << 24; }
#define BLOCKS_A_THREAD 8

struct Stream {
    u32 schedule[60]; i64 words, threads; u64 *out;

    BODY void prepare(const Aes &, u32 *made, int worker) const { for (int i = worker; i < 60; i += 2) made[i] = schedule[i]; }
    BODY void operator()(const Aes &aes, i64 i) const {
        for (i64 block = i; 2 * block < words; block += threads) {
            node made = aes.encrypted<14>(node{0, 0, reversed((u32)(block >> 32)), reversed((u32)block)}, aes.keys);
            out[2 * block] = word(made, 0);
            if (2 * block + 1 < words) out[2 * block + 1] = word(made, 1);
        }
    }
};

/* The schedule of an AES-256 key (FIPS 197, section 5.2), on the CPU. */
static u32 host_substituted(u32 x) {
    u32 made = 0;
    for (int byte = 0; byte < 4; byte++) made |= (TABLES.t[x >> (8 * byte) & 255] >> 8 & 255) << (8 * byte);
    return made;
}
static void expand_long_key(const u8 *key, u32 *made) {
    u32 constant = 1;
    for (int i = 0; i < 60; i++) {
        if (i < 8) { made[i] = key[4 * i] | key[4 * i + 1] << 8 | key[4 * i + 2] << 16 | (u32)key[4 * i + 3] << 24; continue; }
        u32 t = made[i - 1];
        if (i % 8 == 0) { t = host_substituted(t >> 8 | t << 24) ^ constant; constant <<= 1; }
        else if (i % 8 == 4) t = host_substituted(t);
        made[i] = made[i - 8] ^ t;
    }
}

/* ---- messages: a thread takes eight values through all planes, so that no two threads share a byte ------------------------------------ */

#define MOST_PLANES 7 /* 64, 32, 16, 8, 4, 2 and 1 bits */
struct Planes { int count; i32 bits[MOST_PLANES], offset[MOST_PLANES]; i64 start[MOST_PLANES]; };

struct Write {
    Planes planes; i64 count; const u64 *values; u8 *message;

    BODY void operator()(i64 i) const {
        i64 first = 8 * i; int n = count - first < 8 ? (int)(count - first) : 8;
        u64 v[8];
        UNROLL
        for (int k = 0; k < 8; k++) v[k] = k < n ? values[first + k] : 0;
        for (int p = 0; p < planes.count; p++) {
            int bits = planes.bits[p], offset = planes.offset[p];
            u8 *to = message + planes.start[p] + i * bits; /* eight values of `bits` bits */
            if (bits < 8) {
                u64 joined = 0, mask = ((u64)1 << bits) - 1;
                UNROLL
                for (int k = 0; k < 8; k++) joined |= (v[k] >> offset & mask) << (k * bits);
                for (int b = 0; 8 * b < n * bits; b++) to[b] = (u8)(joined >> (8 * b));
            }
            else UNROLL for (int k = 0; k < 8; k++) if (k < n) {
                if (bits == 64) ((u64 *)to)[k] = v[k] >> offset;
                else if (bits == 32) ((u32 *)to)[k] = (u32)(v[k] >> offset);
                else if (bits == 16) ((uint16_t *)to)[k] = (uint16_t)(v[k] >> offset);
                else to[k] = (u8)(v[k] >> offset);
            }
        }
    }
};

struct Read {
    Planes planes; i64 count; const u8 *message; u64 *values;

    BODY void operator()(i64 i) const {
        i64 first = 8 * i; int n = count - first < 8 ? (int)(count - first) : 8;
        u64 v[8];
        UNROLL
        for (int k = 0; k < 8; k++) v[k] = 0;
        for (int p = 0; p < planes.count; p++) {
            int bits = planes.bits[p], offset = planes.offset[p];
            const u8 *from = message + planes.start[p] + i * bits;
            if (bits < 8) {
                u64 joined = 0, mask = ((u64)1 << bits) - 1;
                for (int b = 0; 8 * b < n * bits; b++) joined |= (u64)from[b] << (8 * b);
                UNROLL
                for (int k = 0; k < 8; k++) v[k] |= (joined >> (k * bits) & mask) << offset;
            }
            else UNROLL for (int k = 0; k < 8; k++) if (k < n) {
                if (bits == 64) v[k] |= ((const u64 *)from)[k] << offset;
                else if (bits == 32) v[k] |= (u64)((const u32 *)from)[k] << offset;
                else if (bits == 16) v[k] |= (u64)((const uint16_t *)from)[k] << offset;
                else v[k] |= (u64)from[k] << offset;
            }
        }
        UNROLL
        for (int k = 0; k < 8; k++) if (k < n) values[first + k] = v[k];
    }
};

/* ---- products ------------------------------------------------------------------------------------------------------------------- */

/* C = A B modulo 2^64 of [batch][m][k] and [batch][k][n]. A thread has ROWS rows and `columns` columns, 32 apart, so that a warp reads
 * 32 neighbours of B at once and the same word of A: what it loads is used four times, and multiplications are what it waits for. */
#define ROWS 4
template <int columns> struct Product {
    i64 batch, m, k, n, row_groups, column_groups; const u64 *a, *b; u64 *c;

    BODY void operator()(i64 i) const {
        i64 lane = i % 32, group = i / 32, column = group % column_groups * (32 * columns) + lane;
        i64 row = group / column_groups % row_groups * ROWS, which = group / column_groups / row_groups;
        const u64 *left = a + (which * m + row) * k, *right = b + which * k * n;
        u64 sum[ROWS][columns];
        UNROLL
        for (int r = 0; r < ROWS; r++) { UNROLL for (int j = 0; j < columns; j++) sum[r][j] = 0; }
        for (i64 at = 0; at < k; at++) {
            u64 u[ROWS], v[columns];
            UNROLL
            for (int r = 0; r < ROWS; r++) u[r] = row + r < m ? left[r * k + at] : 0;
            UNROLL
            for (int j = 0; j < columns; j++) v[j] = column + 32 * j < n ? right[at * n + column + 32 * j] : 0;
            UNROLL
            for (int r = 0; r < ROWS; r++) { UNROLL for (int j = 0; j < columns; j++) sum[r][j] += u[r] * v[j]; }
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            UNROLL
            for (int j = 0; j < columns; j++)
                if (row + r < m && column + 32 * j < n) c[(which * m + row + r) * n + column + 32 * j] = sum[r][j];
        }
    }
};

/* Digits of base 256 in -128 .. 127 of x [m][k], laid out for one product of bytes: row s m + i of the result holds, one after the
 * other, the digits s, s - 1, ... s - others + 1 of row i, each `padded` long. Four k a thread. */
#define SIGNS 0x8080808080808080ull
struct Split {
    i64 m, k, padded; int others; const u64 *x; u32 *out;

    BODY void operator()(i64 i) const {
        i64 quarter = padded / 4, row = i / quarter, at = i % quarter;
        u64 digits[4];
        UNROLL
        for (int z = 0; z < 4; z++) digits[z] = 4 * at + z < k ? (x[row * k + 4 * at + z] + SIGNS) ^ SIGNS : 0;
        for (int s = 0; s < 8; s++) for (int j = 0; j < others; j++) {
            u32 four = 0;
            UNROLL
            for (int z = 0; z < 4; z++) four |= (s < j ? 0 : (u32)(digits[z] >> (8 * (s - j)) & 255)) << (8 * z);
            out[((s * m + row) * others + j) * quarter + at] = four;
        }
    }
};

/* out [m][n] = sum over s of in[s m + i][n] 2^(8 s); rows of `in` are `padded` long. */
struct Join {
    i64 m, n, padded; const i32 *in; u64 *out;

    BODY void operator()(i64 i) const {
        i64 row = i / n, at = i % n;
        u64 sum = 0;
        UNROLL
        for (int s = 0; s < 8; s++) sum += (u64)(i64)in[(s * m + row) * padded + at] << (8 * s);
        out[i] = sum;
    }
};

/* ---- entry points: 0, a CUDA error, or -1 for what no kernel was made for ------------------------------------------------------------- */

extern "C" {

int kernels_version(void) { return 1; }
#ifdef __CUDACC__
int use_device(int index) { return (int)cudaSetDevice(index); }
const char *error_text(int error) { return error < 0 ? "no kernel for these sizes" : cudaGetErrorString((cudaError_t)error); }
#else
int use_device(int) { return 0; }
const char *error_text(int) { return "no kernel for these sizes"; }
#endif

int make_trees(i64 count, int depth, int width, const u64 *keys, const u64 *root0, const u64 *root1, const u64 *point,
               const u64 *payload, u64 *corrections, u64 *last, void *stream) {
    return launch_aes(Make{count, depth, width, keys, root0, root1, point, payload, corrections, last}, count, stream);
}

int evaluate_gates(int party, i64 count, int depth, int grown, int split, int degree, int low, int fine, const u64 *keys, const u64 *root,
                   const u64 *corrections, const u64 *last, const u64 *opened, const i32 *table, const u8 *units, u64 *out,
                   void *stream) {
    if (split > grown || grown > MOST_GROWN || (grown < depth && split < 1)) return -1;
#define OF(d) case d: return launch_aes(Gate<d>{party, depth, grown, split, low, fine, count, keys, root, corrections, last, opened, \
                                                table, units, out}, count << split, stream);
    switch (degree) { OF(0) OF(1) OF(2) OF(3) OF(4) OF(5) OF(6) OF(7) default: return -1; }
#undef OF
}

int draw_words(const u8 *key, i64 words, u64 *out, void *stream) { /* key: 32 bytes, on the CPU */
    i64 blocks = (words + 1) / 2, threads = (blocks + BLOCKS_A_THREAD - 1) / BLOCKS_A_THREAD;
    Stream made = {{0}, words, threads, out};
    expand_long_key(key, made.schedule);
    return launch_aes(made, threads, stream);
}

static int planes_of(int count, const i64 *numbers, Planes *made) { /* numbers: bits, offset, start of each, on the CPU */
    if (count > MOST_PLANES) return -1;
    made->count = count;
    for (int p = 0; p < count; p++) {
        made->bits[p] = (i32)numbers[3 * p]; made->offset[p] = (i32)numbers[3 * p + 1]; made->start[p] = numbers[3 * p + 2];
    }
    return 0;
}
int write_planes(const u64 *values, i64 count, int planes, const i64 *numbers, u8 *message, void *stream) {
    Write body = {{}, count, values, message};
    int wrong = planes_of(planes, numbers, &body.planes);
    return wrong ? wrong : launch(body, (count + 7) / 8, stream);
}
int read_planes(const u8 *message, i64 count, int planes, const i64 *numbers, u64 *values, void *stream) {
    Read body = {{}, count, message, values};
    int wrong = planes_of(planes, numbers, &body.planes);
    return wrong ? wrong : launch(body, (count + 7) / 8, stream);
}

int multiply(i64 batch, i64 m, i64 k, i64 n, const u64 *a, const u64 *b, u64 *c, void *stream) {
    i64 rows = (m + ROWS - 1) / ROWS;
#define BY(columns) do { i64 groups = (n + 32 * columns - 1) / (32 * columns); \
        return launch(Product<columns>{batch, m, k, n, rows, groups, a, b, c}, 32 * batch * rows * groups, stream); } while (0)
    if (n <= 32) BY(1);
    if (n <= 64) BY(2);
    BY(4);
#undef BY
}
int split_digits(i64 m, i64 k, i64 padded, int others, const u64 *x, void *out, void *stream) {
    return launch(Split{m, k, padded, others, x, (u32 *)out}, m * (padded / 4), stream);
}
int join_digits(i64 m, i64 n, i64 padded, const i32 *in, u64 *out, void *stream) {
    return launch(Join{m, n, padded, in, out}, m * n, stream);
}
}
