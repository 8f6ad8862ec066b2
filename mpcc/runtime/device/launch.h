/* One source for a GPU and for the CPU that it is held against: a kernel's body is a struct, called with a thread's number.
 *
 *   nvcc              makes a CUDA kernel of it, a thread a number
 *   a C++ compiler    makes a loop of it: the same arithmetic, which tests compare bit by bit with gates.c and planes.c
 *
 * Bodies that encrypt also get an `Aes` (aes.h). Launches are on the caller's stream and return 0 or a CUDA error.
 */
#pragma once
#include <stdint.h>

typedef uint64_t u64;
typedef int64_t i64;
typedef uint32_t u32;
typedef int32_t i32;
typedef uint8_t u8;

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define BODY __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define PLAIN_THREADS 256

template <class Body> __global__ void __launch_bounds__(PLAIN_THREADS) run(Body body, i64 n) {
    i64 i = blockIdx.x * (i64)PLAIN_THREADS + threadIdx.x;
    if (i < n) body(i);
}
template <class Body> int launch(const Body &body, i64 n, void *stream) {
    if (n > 0) run<<<(unsigned)((n + PLAIN_THREADS - 1) / PLAIN_THREADS), PLAIN_THREADS, 0, (cudaStream_t)stream>>>(body, n);
    return (int)cudaGetLastError();
}
BODY void add_to(u64 *total, u64 x) { atomicAdd((unsigned long long *)total, (unsigned long long)x); }
BODY int trailing_zeros(u32 x) { return __ffs(x) - 1; }
#else
#define BODY inline
#define UNROLL
template <class Body> int launch(const Body &body, i64 n, void *) {
    for (i64 i = 0; i < n; i++) body(i);
    return 0;
}
inline void add_to(u64 *total, u64 x) { *total += x; }
inline int trailing_zeros(u32 x) { return __builtin_ctz(x); }
#endif
