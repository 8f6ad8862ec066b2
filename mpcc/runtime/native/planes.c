/* Values into messages and out of them: planes of 1 to 32 bits, or whole words, as mpcc/program/layout.py lays them out. Little-endian.
 *
 *   of each of `count` words the `bits` bits from `offset` on stand in the message from byte `start` on, one after the other
 *
 * Words are taken a block at a time through all planes, so that a block is read from memory once. Compilers make vectors of the loops.
 */
#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

#define BLOCK 1024 /* words: 8 kB, and a multiple of the eight that share a byte of a plane of single bits */

#define WRITE(type, from, n, offset, to) for (long i = 0; i < (n); i++) ((type *)(to))[i] = (type)((from)[i] >> (offset))
#define READ(type, from, n, offset, to) for (long i = 0; i < (n); i++) (to)[i] |= (u64)((const type *)(from))[i] << (offset)

/* `each` pieces of `bits` bits to a byte; zeros fill the last byte. */
static void write_parts(const u64 *from, long n, int bits, int offset, u8 *to) {
    const int each = 8 / bits;
    const u64 mask = (1u << bits) - 1;
    long whole = n / each;
    for (long i = 0; i < whole; i++) {
        u64 made = 0;
        for (int k = 0; k < each; k++) made |= (from[i * each + k] >> offset & mask) << (k * bits);
        to[i] = (u8)made;
    }
    if (whole * each < n) {
        u64 made = 0;
        for (long k = whole * each; k < n; k++) made |= (from[k] >> offset & mask) << ((k - whole * each) * bits);
        to[whole] = (u8)made;
    }
}

static void read_parts(const u8 *from, long n, int bits, int offset, u64 *to) {
    const int each = 8 / bits;
    const u64 mask = (1u << bits) - 1;
    for (long i = 0; i < n; i++) to[i] |= ((u64)from[i / each] >> (i % each * bits) & mask) << offset;
}

/* A plane is three numbers: bits, offset, start. */
void planes_write(const u64 *values, long count, long planes, const int64_t *plane, u8 *message) {
    for (long at = 0; at < count; at += BLOCK) {
        const u64 *from = values + at;
        long n = count - at < BLOCK ? count - at : BLOCK;
        for (const int64_t *p = plane; p < plane + 3 * planes; p += 3) {
            int bits = (int)p[0], offset = (int)p[1];
            u8 *to = message + p[2] + at / 8 * bits;
            if (bits == 64) WRITE(u64, from, n, offset, to);
            else if (bits == 32) WRITE(u32, from, n, offset, to);
            else if (bits == 16) WRITE(u16, from, n, offset, to);
            else if (bits == 8) WRITE(u8, from, n, offset, to);
            else if (bits == 4) write_parts(from, n, 4, offset, to);
            else if (bits == 2) write_parts(from, n, 2, offset, to);
            else write_parts(from, n, 1, offset, to);
        }
    }
}

void planes_read(const u8 *message, long count, long planes, const int64_t *plane, u64 *values) {
    for (long at = 0; at < count; at += BLOCK) {
        u64 *to = values + at;
        long n = count - at < BLOCK ? count - at : BLOCK;
        for (long i = 0; i < n; i++) to[i] = 0;
        for (const int64_t *p = plane; p < plane + 3 * planes; p += 3) {
            int bits = (int)p[0], offset = (int)p[1];
            const u8 *from = message + p[2] + at / 8 * bits;
            if (bits == 64) READ(u64, from, n, offset, to);
            else if (bits == 32) READ(u32, from, n, offset, to);
            else if (bits == 16) READ(u16, from, n, offset, to);
            else if (bits == 8) READ(u8, from, n, offset, to);
            else if (bits == 4) read_parts(from, n, 4, offset, to);
            else if (bits == 2) read_parts(from, n, 2, offset, to);
            else read_parts(from, n, 1, offset, to);
        }
    }
}
