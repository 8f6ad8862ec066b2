/* Spline gates on another processor: reads cases from stdin, answers on stdout; tests/runtime/test_gates_arm64.py compares them.
 *
 * All words are little-endian and 64 bits wide. A case: count depth width low fine party with_units grown, then keys[4], root0[count][2],
 * root1[count][2], point[count], payload[width][count], opened[count], table[width][2 many] and units[2 many] (one a word
 * each), where many = 2^grown.
 * Its answer: corrections[depth][count][2], last[width][count], leaves[count][width][leaves] and the share [count] of `party`.
 */
#include <stdio.h>
#include <stdlib.h>
#include "gates.c"

static u64 *taken(size_t words) {
    u64 *made = malloc((words ? words : 1) * sizeof(u64));
    if (!made || fread(made, sizeof(u64), words, stdin) != words) exit(3);
    return made;
}
static void given(const u64 *from, size_t words) { if (fwrite(from, sizeof(u64), words, stdout) != words) exit(4); }

int main(void) {
    u64 head[8];
    if (!gates_supported()) return 2;
    while (fread(head, sizeof(u64), 8, stdin) == 8) {
        long count = (long)head[0], leaves = 1L << head[1], many = 1L << head[7];
        int depth = (int)head[1], width = (int)head[2], low = (int)head[3], fine = (int)head[4], party = (int)head[5];
        u64 *keys = taken(4), *root0 = taken(2 * count), *root1 = taken(2 * count), *point = taken(count), *payload = taken(width * count);
        u64 *opened = taken(count), *wide_table = taken(width * 2 * many), *wide_units = taken(2 * many);
        i32 *table = malloc(width * 2 * many * sizeof(i32));
        u8 *units = malloc(2 * many);
        u64 *corrections = malloc(2 * depth * count * sizeof(u64)), *last = malloc(width * count * sizeof(u64));
        u64 *shares = malloc(width * count * leaves * sizeof(u64)), *share = malloc(count * sizeof(u64));
        if (!table || !units || !corrections || !last || !shares || !share) return 3;
        for (long i = 0; i < width * 2 * many; i++) table[i] = (i32)(i64)wide_table[i];
        for (long i = 0; i < 2 * many; i++) units[i] = (u8)wide_units[i];
        const node *root = (const node *)(party ? root1 : root0), *down = (const node *)corrections;
        gates_make(count, depth, width, (const u8 *)keys, (const node *)root0, (const node *)root1, point, payload, (node *)corrections, last);
        if (gates_leaves(party, count, depth, width, (const u8 *)keys, root, down, last, shares)) return 3;
        if (gates_polynomial(party, count, depth, (int)head[7], width - 1, low, fine, (const u8 *)keys, root, down, last, opened, table,
                             head[6] ? units : NULL, share)) return 3;
        given(corrections, 2 * depth * count); given(last, width * count); given(shares, width * count * leaves); given(share, count);
        free(keys); free(root0); free(root1); free(point); free(payload); free(opened); free(wide_table); free(wide_units);
        free(table); free(units); free(corrections); free(last); free(shares); free(share);
    }
    return 0;
}
