/* Spline gates: point functions shared by trees (DPF), made by the dealer and expanded by both parties. Little-endian.
 *
 *   H(x) = AES_K(s(x)) xor s(x),  s(hi, lo) = (hi xor lo, hi)              K: a public key, fresh for each tree (mpcc/runtime/native/trees.py)
 *   a node's children:  left = H(x) xor t C,  right = left xor x           t: the node's lowest bit, C: the level's correction
 *   a leaf's words:     H'(x xor j) + t last[j]                            H': the same with a second key
 *
 * On the way to the point the parties' nodes differ by a secret D whose lowest bit is 1, elsewhere they are equal, so that the words of
 * all leaves but one cancel. Half-tree: Guo, Yang, Wang, Zhang, Xie, Liu, Zhang, EUROCRYPT 2023; docs/security.md has the argument.
 *
 * Layout: nodes [count][2] words; corrections [depth][count][2]; last [width][count]. One source for x86-64 (AES-NI, VAES where there
 * is) and arm64 (crypto extensions); everything besides the block cipher is plain C that compilers turn into vectors.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t u64;
typedef int64_t i64;
typedef int32_t i32;
typedef uint8_t u8;
typedef struct { u64 lo, hi; } node;
typedef struct { u8 round[11][16]; } schedule;

#define MOST_WIDTH 8
#define BATCH 8 /* elements whose trees grow side by side, so that the cipher's pipeline is full near the root */

/* ---- AES-128: the key schedule in plain C (keys are public), the rounds by the processor ---------------------------------------- */

static u8 sbox[256];

static u8 gf_times(u8 a, u8 b) {
    u8 product = 0;
    for (; b; b >>= 1, a = (u8)(a << 1 ^ (a >> 7) * 0x1b)) if (b & 1) product ^= a;
    return product;
}
static void make_sbox(void) { /* FIPS 197, section 5.1.1: the inverse in GF(2^8), then an affine map */
    for (int x = 0; x < 256; x++) {
        u8 inverse = 0;
        for (int y = 1; x && y < 256; y++) if (gf_times((u8)x, (u8)y) == 1) { inverse = (u8)y; break; }
        u8 out = 0x63;
        for (int turn = 0; turn < 5; turn++) out ^= (u8)(inverse << turn | inverse >> (8 - turn));
        sbox[x] = out;
    }
}
static void expand_key(const u8 *key, schedule *made) { /* FIPS 197, section 5.2 */
    u8 *w = made->round[0], constant = 1;
    memcpy(w, key, 16);
    for (int i = 16; i < 176; i += 4) {
        u8 t[4] = {w[i - 4], w[i - 3], w[i - 2], w[i - 1]};
        if (i % 16 == 0) {
            u8 first = t[0];
            t[0] = sbox[t[1]] ^ constant; t[1] = sbox[t[2]]; t[2] = sbox[t[3]]; t[3] = sbox[first];
            constant = (u8)(constant << 1 ^ (constant >> 7) * 0x1b);
        }
        for (int j = 0; j < 4; j++) w[i + j] = w[i - 16 + j] ^ t[j];
    }
}

#if defined(__x86_64__)
#include <immintrin.h>
typedef __m128i block;
static inline block load(const void *from) { return _mm_loadu_si128(from); }
static inline void store(void *to, block x) { _mm_storeu_si128(to, x); }
static inline block both(block x, block y) { return _mm_xor_si128(x, y); }
static inline block sigma(block x) { return _mm_xor_si128(_mm_shuffle_epi32(x, 0x4e), _mm_and_si128(x, _mm_set_epi64x(-1, 0))); }
static inline block tweak_block(u64 j) { return _mm_set_epi64x(0, (i64)j); }
static inline block middle_round(block x, block k) { return _mm_aesenc_si128(x, k); }
static inline block first_key(block x, block k) { return _mm_xor_si128(x, k); }
static inline block last_round(block x, block k) { return _mm_aesenclast_si128(x, k); }
#elif defined(__aarch64__)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#define HAS_AES (1UL << 3) /* of AT_HWCAP: the kernel's asm/hwcap.h */
#endif
typedef uint8x16_t block;
static inline block load(const void *from) { return vld1q_u8(from); }
static inline void store(void *to, block x) { vst1q_u8(to, x); }
static inline block both(block x, block y) { return veorq_u8(x, y); }
static inline block sigma(block x) {
    uint64x2_t v = vreinterpretq_u64_u8(x);
    return vreinterpretq_u8_u64(veorq_u64(vextq_u64(v, v, 1), vsetq_lane_u64(0, v, 0)));
}
static inline block tweak_block(u64 j) { return vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(j), vcreate_u64(0))); }
static inline block middle_round(block x, block k) { /* as aesenc: AESE adds its key first, so a zero one, and k at the end */
    return veorq_u8(vaesmcq_u8(vaeseq_u8(x, vdupq_n_u8(0))), k);
}
static inline block first_key(block x, block k) { return veorq_u8(x, k); }
static inline block last_round(block x, block k) { return veorq_u8(vaeseq_u8(x, vdupq_n_u8(0)), k); }
#else
#error "no AES instructions are known for this processor: mpcc then uses numpy"
#endif

#define LANES 8
static void hash_by_lanes(const node *in, node *out, long count, const schedule *key, u64 tweak) {
    block k[11], shift = tweak_block(tweak);
    for (int r = 0; r < 11; r++) k[r] = load(key->round[r]);
    long i = 0;
    for (; i + LANES <= count; i += LANES) {
        block x[LANES], y[LANES];
        for (int j = 0; j < LANES; j++) { x[j] = sigma(both(load(in + i + j), shift)); y[j] = first_key(x[j], k[0]); }
        for (int r = 1; r < 10; r++) for (int j = 0; j < LANES; j++) y[j] = middle_round(y[j], k[r]);
        for (int j = 0; j < LANES; j++) store(out + i + j, both(last_round(y[j], k[10]), x[j]));
    }
    for (; i < count; i++) {
        block x = sigma(both(load(in + i), shift)), y = first_key(x, k[0]);
        for (int r = 1; r < 10; r++) y = middle_round(y, k[r]);
        store(out + i, both(last_round(y, k[10]), x));
    }
}

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx2,aes,vaes")))
WIDE static void hash_by_pairs(const node *in, node *out, long count, const schedule *key, u64 tweak) {
    __m256i k[11], shift = _mm256_broadcastsi128_si256(tweak_block(tweak)), upper = _mm256_set_epi64x(-1, 0, -1, 0);
    for (int r = 0; r < 11; r++) k[r] = _mm256_broadcastsi128_si256(load(key->round[r]));
    long i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        __m256i x[LANES], y[LANES];
        for (int j = 0; j < LANES; j++) {
            __m256i v = _mm256_xor_si256(_mm256_loadu_si256((const void *)(in + i + 2 * j)), shift);
            x[j] = _mm256_xor_si256(_mm256_shuffle_epi32(v, 0x4e), _mm256_and_si256(v, upper));
            y[j] = _mm256_xor_si256(x[j], k[0]);
        }
        for (int r = 1; r < 10; r++) for (int j = 0; j < LANES; j++) y[j] = _mm256_aesenc_epi128(y[j], k[r]);
        for (int j = 0; j < LANES; j++)
            _mm256_storeu_si256((void *)(out + i + 2 * j), _mm256_xor_si256(_mm256_aesenclast_epi128(y[j], k[10]), x[j]));
    }
    hash_by_lanes(in + i, out + i, count - i, key, tweak);
}
#endif

static void (*hash)(const node *, node *, long, const schedule *, u64) = hash_by_lanes;

/* What this processor has: 0 nothing that this file needs, 1 AES instructions, 2 AES on vectors. Call it first. */
int gates_supported(void) {
    make_sbox();
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("aes")) return 0;
    if (!__builtin_cpu_supports("vaes")) return 1;
    hash = hash_by_pairs;
    return 2;
#elif defined(__linux__)
    return getauxval(AT_HWCAP) & HAS_AES ? 1 : 0; /* optional there: small boards lack them */
#else
    return 1; /* every arm64 Mac has them */
#endif
}

/* ---- trees ---------------------------------------------------------------------------------------------------------------------- */

typedef struct { schedule tree, leaf; } ciphers;
static void expand_keys(const u8 *keys, ciphers *made) { expand_key(keys, &made->tree); expand_key(keys + 16, &made->leaf); }
static inline u64 when(u64 bit, u64 x) { return (0 - (bit & 1)) & x; }
static inline u64 word(const node *x, int odd) { return odd ? x->hi : x->lo; }

/* The dealer's part. keys: 32 bytes; root0, root1 [count] with lowest bits 0 and 1; point [count]; payload [width][count].
 * Gives corrections [depth][count] and last [width][count]. */
void gates_make(long count, int depth, int width, const u8 *keys, const node *root0, const node *root1, const u64 *point,
                const u64 *payload, node *corrections, u64 *last) {
    ciphers key;
    expand_keys(keys, &key);
    for (long e = 0; e < count; e += BATCH) {
        int m = count - e < BATCH ? (int)(count - e) : BATCH;
        node x[2 * BATCH], h[2 * BATCH], apart[BATCH];
        for (int b = 0; b < m; b++) {
            x[b] = root0[e + b]; x[m + b] = root1[e + b];
            apart[b].lo = x[b].lo ^ x[m + b].lo; apart[b].hi = x[b].hi ^ x[m + b].hi;
        }
        for (int level = 0; level < depth; level++) {
            hash(x, h, 2 * m, &key.tree, 0);
            for (int b = 0; b < m; b++) {
                u64 right = point[e + b] >> (depth - 1 - level) & 1;
                node c = {h[b].lo ^ h[m + b].lo ^ when(!right, apart[b].lo), h[b].hi ^ h[m + b].hi ^ when(!right, apart[b].hi)};
                corrections[level * count + e + b] = c;
                for (int p = b; p < 2 * m; p += m) {
                    u64 t = x[p].lo;
                    x[p].lo = h[p].lo ^ when(t, c.lo) ^ when(right, x[p].lo);
                    x[p].hi = h[p].hi ^ when(t, c.hi) ^ when(right, x[p].hi);
                }
            }
        }
        for (int j = 0; 2 * j < width; j++) {
            hash(x, h, 2 * m, &key.leaf, (u64)j << 1); /* bit 0 tells the parties apart, so tweaks are even */
            for (int b = 0; b < m; b++) for (int w = 2 * j; w < width && w < 2 * j + 2; w++) {
                u64 v = payload[w * count + e + b] - word(h + b, w & 1) + word(h + m + b, w & 1);
                last[w * count + e + b] = x[m + b].lo & 1 ? 0 - v : v;
            }
        }
    }
}

/* How many trees grow side by side: their nodes should stay in the first caches. */
static long batch(long leaves) { return leaves >= 512 ? 1 : leaves >= 64 ? 512 / leaves : BATCH; }

/* From the roots of m elements from e on down to two neighbouring subtrees of 2^span leaves each, the first of which is the block'th:
 * [m][2] nodes of the level depth - span. */
static void descend(long count, long e, int m, int depth, int span, const ciphers *key, const node *root, const node *corrections,
                    const u64 *block, node *x) {
    node h[2 * BATCH];
    int levels = depth - span;
    for (int b = 0; b < m; b++) x[2 * b] = x[2 * b + 1] = root[e + b];
    for (int level = 0; level < levels; level++) {
        hash(x, h, 2 * m, &key->tree, 0);
        for (int p = 0; p < 2 * m; p++) {
            node c = corrections[level * count + e + p / 2];
            u64 t = x[p].lo, right = (block[p / 2] + (p & 1)) >> (levels - 1 - level) & 1;
            x[p].lo = h[p].lo ^ when(t, c.lo) ^ when(right, x[p].lo);
            x[p].hi = h[p].hi ^ when(t, c.hi) ^ when(right, x[p].hi);
        }
    }
}

/* All leaves of m elements from e on below the `wide` nodes of each that buffer one has, of that level, in one of the two buffers (the
 * third holds hashes). */
static node *grow(long count, long e, int m, int depth, int level, long wide, const ciphers *key, const node *corrections,
                  node *one, node *two, node *h) {
    for (; level < depth; level++, wide *= 2) {
        hash(one, h, m * wide, &key->tree, 0);
        for (int b = 0; b < m; b++) {
            node c = corrections[level * count + e + b];
            for (long i = b * wide; i < (b + 1) * wide; i++) {
                u64 t = 0 - (one[i].lo & 1), lo = h[i].lo ^ (t & c.lo), hi = h[i].hi ^ (t & c.hi);
                two[2 * i].lo = lo; two[2 * i].hi = hi;
                two[2 * i + 1].lo = lo ^ one[i].lo; two[2 * i + 1].hi = hi ^ one[i].hi;
            }
        }
        node *swap = one; one = two; two = swap;
    }
    return one;
}

/* Shares of every leaf's words, written out: [count][width][2^depth]. For tests. 0, or -1 where memory is short. */
int gates_leaves(int party, long count, int depth, int width, const u8 *keys, const node *root, const node *corrections,
                 const u64 *last, u64 *out) {
    long leaves = 1L << depth;
    ciphers key;
    expand_keys(keys, &key);
    long most = batch(leaves);
    node *buffer = malloc(3 * most * leaves * sizeof(node));
    if (!buffer) return -1;
    node *h = buffer + 2 * most * leaves;
    for (long e = 0; e < count; e += most) {
        int m = (int)(count - e < most ? count - e : most);
        memcpy(buffer, root + e, m * sizeof(node));
        node *x = grow(count, e, m, depth, 0, 1, &key, corrections, buffer, buffer + most * leaves, h);
        for (int j = 0; 2 * j < width; j++) {
            hash(x, h, m * leaves, &key.leaf, (u64)j << 1);
            for (int b = 0; b < m; b++) for (int w = 2 * j; w < width && w < 2 * j + 2; w++)
                for (long y = 0; y < leaves; y++) {
                    u64 v = word(h + b * leaves + y, w & 1) + when(x[b * leaves + y].lo, last[w * count + e + b]);
                    out[((e + b) * width + w) * leaves + y] = party ? 0 - v : v;
                }
        }
    }
    free(buffer);
    return 0;
}

/* ---- the gate ------------------------------------------------------------------------------------------------------------------- */

/* The public coefficients of one element for the powers of the mask's low part: integers only, the same at both parties.
 *   A_m = (-1)^m sum_l choose(l, m) a_l g^(l - m),  shifted right by `fine` bits and rounded for m > 0
 * table [degree + 1][2 leaves]: a_l of piece (-j) mod leaves at j, twice, so that a row from `at` on fits leaves 0, 1, ...
 * Every value stays below 2^31 (mpcc.ir.curve says how that is held). out [width][leaves] */
static const i32 CHOOSE[MOST_WIDTH][MOST_WIDTH] = {
    {1}, {1, 1}, {1, 2, 1}, {1, 3, 3, 1}, {1, 4, 6, 4, 1}, {1, 5, 10, 10, 5, 1}, {1, 6, 15, 20, 15, 6, 1}, {1, 7, 21, 35, 35, 21, 7, 1}};
static void coefficients(long leaves, int degree, const i32 *table, long at, i32 g, int low, int fine, i32 *out) {
    for (int m = 0; m <= degree; m++) {
        i32 *v = out + m * leaves;
        const i32 *a = table + degree * 2 * leaves + at;
        for (long y = 0; y < leaves; y++) v[y] = a[y] * CHOOSE[degree][m];
        for (int l = degree - 1; l >= m; l--) {
            const i32 *b = table + l * 2 * leaves + at, times = CHOOSE[l][m];
            for (long y = 0; y < leaves; y++) v[y] = (i32)((i64)v[y] * g >> low) + b[y] * times;
        }
        if (m == 0) continue;
        i32 half = fine ? 1 << (fine - 1) : 0;
        if (m & 1) for (long y = 0; y < leaves; y++) v[y] = (half - v[y]) >> fine;
        else for (long y = 0; y < leaves; y++) v[y] = (half + v[y]) >> fine;
    }
}

/* The sum over the leaves of (hash + flag last) A 2^unit for two of the words. */
static inline u64 joined(long leaves, const node *h, const node *x, u64 last_even, u64 last_odd, const i32 *even, const i32 *odd,
                         const u8 *unit) {
    u64 one = 0, two = 0;
    if (unit) for (long y = 0; y < leaves; y++) {
        u64 t = 0 - (x[y].lo & 1);
        one += (h[y].lo + (t & last_even)) * ((u64)(i64)even[y] << unit[y]);
        two += (h[y].hi + (t & last_odd)) * ((u64)(i64)odd[y] << unit[y]);
    }
    else for (long y = 0; y < leaves; y++) {
        u64 t = 0 - (x[y].lo & 1);
        one += (h[y].lo + (t & last_even)) * (u64)(i64)even[y];
        two += (h[y].hi + (t & last_odd)) * (u64)(i64)odd[y];
    }
    return one + two;
}

/* One party's share of a piecewise polynomial, [count]. opened [count]: bits 0 .. low - 1 of each are the place within a piece, the
 * `depth` bits above them the piece; the rest is ignored. The table is of 2^grown pieces. Where that is less than 2^depth its upper half
 * is zeros, as are all pieces that it lacks: leaf y meets piece T - y, so that all which meet another lie in two neighbouring subtrees
 * of half as many leaves, the second of which has leaf T. units [2 leaves]: a piece's coefficients are in units of 2^units, laid out as
 * the table is; NULL where all are 0. 0, or -1 where memory is short. */
int gates_polynomial(int party, long count, int depth, int grown, int degree, int low, int fine, const u8 *keys, const node *root,
                     const node *corrections, const u64 *last, const u64 *opened, const i32 *table, const u8 *units, u64 *out) {
    long leaves = 1L << grown, most = batch(leaves);
    int width = degree + 1, pairs = (width + 1) / 2, whole = grown == depth, span = whole ? depth : grown - 1;
    ciphers key;
    expand_keys(keys, &key);
    node *buffer = malloc((2 + pairs) * most * leaves * sizeof(node));
    i32 *found = calloc(2 * pairs * leaves, sizeof(i32)); /* of an odd width the last row stays 0 */
    if (!buffer || !found) { free(buffer); free(found); return -1; }
    node *h = buffer + 2 * most * leaves;
    for (long e = 0; e < count; e += most) {
        int m = (int)(count - e < most ? count - e : most);
        u64 block[BATCH] = {0};
        if (whole) memcpy(buffer, root + e, m * sizeof(node));
        else {
            for (int b = 0; b < m; b++) block[b] = (opened[e + b] >> low >> span) - 1;
            descend(count, e, m, depth, span, &key, root, corrections, block, buffer);
        }
        node *x = grow(count, e, m, depth, depth - span, whole ? 1 : 2, &key, corrections, buffer, buffer + most * leaves, h);
        for (int j = 0; j < pairs; j++) hash(x, h + j * most * leaves, m * leaves, &key.leaf, (u64)j << 1);
        for (int b = 0; b < m; b++) {
            u64 c = opened[e + b], sum = 0;
            u64 top = (c >> low) - (block[b] << span); /* T, counted from the first leaf that is grown */
            long at = (leaves - (long)(top & (u64)(leaves - 1))) & (leaves - 1);
            i32 place = (i32)(c & ((1UL << low) - 1)) - (low ? 1 << (low - 1) : 0);
            coefficients(leaves, degree, table, at, place, low, fine, found);
            for (int j = 0; j < pairs; j++) {
                const u64 *mine = last + 2 * j * count + e + b;
                sum += joined(leaves, h + (j * most + b) * leaves, x + b * leaves, mine[0], 2 * j + 1 < width ? mine[count] : 0,
                              found + 2 * j * leaves, found + (2 * j + 1) * leaves, units ? units + at : NULL);
            }
            out[e + b] = party ? 0 - sum : sum;
        }
    }
    free(buffer);
    free(found);
    return 0;
}
