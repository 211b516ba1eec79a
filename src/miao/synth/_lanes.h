// Lanes: W numbers side by side, and what is done with them. Compiled once per processor kind.
//
// Only C headers and functions of internal linkage here: anything shared with the other variants might be taken by
// the linker from the one compiled for the newest processor.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "_oscillators.h"

namespace {

using miao::Block;
using miao::Loops;
using miao::NotePart;
using miao::Partials;
using miao::Scale;

constexpr int W = LANES;

#if defined(__GNUC__)
#define MIAO_UNROLL _Pragma("GCC unroll 16")  // so that x, y and a live in registers
typedef float Floats __attribute__((vector_size(4 * W), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * W), may_alias));
typedef uint32_t Words __attribute__((vector_size(4 * W), may_alias));
inline Floats to_floats(Words w) { return __builtin_convertvector((Ints)w, Floats); }
inline Words half_of(Words w) { return (Words)((Ints)w >> 1); }
#else
#define MIAO_UNROLL
template <class T>
struct alignas(4 * W) Lanes {
    T lane[W];
    T &operator[](int i) { return lane[i]; }
};
#define MIAO_OPERATOR(OP)                                                                        \
    template <class T>                                                                           \
    inline Lanes<T> operator OP(Lanes<T> a, Lanes<T> b) {                                        \
        for (int i = 0; i < W; ++i) a.lane[i] = a.lane[i] OP b.lane[i];                          \
        return a;                                                                                \
    }                                                                                            \
    template <class T>                                                                           \
    inline Lanes<T> operator OP(Lanes<T> a, T b) {                                               \
        for (int i = 0; i < W; ++i) a.lane[i] = a.lane[i] OP b;                                  \
        return a;                                                                                \
    }                                                                                            \
    template <class T>                                                                           \
    inline Lanes<T> operator OP(T a, Lanes<T> b) {                                               \
        for (int i = 0; i < W; ++i) b.lane[i] = a OP b.lane[i];                                  \
        return b;                                                                                \
    }
MIAO_OPERATOR(+)
MIAO_OPERATOR(-)
MIAO_OPERATOR(*)
typedef Lanes<float> Floats;
typedef Lanes<uint32_t> Words;
inline Floats to_floats(Words w) {
    Floats f;
    for (int l = 0; l < W; ++l) f.lane[l] = (float)(int32_t)w.lane[l];
    return f;
}
inline Words half_of(Words w) {
    for (int l = 0; l < W; ++l) w.lane[l] = (uint32_t)((int32_t)w.lane[l] >> 1);
    return w;
}
#endif

// Phases are whole numbers, 2^32 to the cycle: they wrap by themselves. As frequencies they are taken as signed.
constexpr double CYCLE = 4294967296.0;
constexpr uint32_t QUARTER = 1u << 30;

// sin(pi t) for -1 <= t <= 1, error 2e-7: the zeros at 0 and +-1 are factored out, the rest is a polynomial in t^2.
inline Floats sine(Words phase) {
    Floats t = to_floats(phase) * 4.656612873e-10f;  // 2^-31
    Floats u = t * t;
    Floats q = u * -0.000385937746f + 0.00686018741f;
    q = q * u - 0.0751872634f;
    q = q * u + 0.524036151f;
    q = q * u - 2.02611946f;
    q = q * u + 3.14159264f;
    return q * (t - t * u);
}

// 2 sin(pi f) for |f| <= 1/4, in double: the rounding of this number is what limits STRETCH.
inline float rotation(double f) {
    double z = 3.14159265358979324 * f, u = z * z;
    double series = 1 - u * (1 / 6.) * (1 - u * (1 / 20.) * (1 - u * (1 / 42.) * (1 - u * (1 / 72.))));
    return (float)(2 * z * series);
}

inline int32_t to_phase(double cycles) {
    double part = cycles - (double)(int32_t)cycles;  // (-1, 1)
    part -= (double)(int32_t)(2 * part);             // [-1/2, 1/2]
    part *= CYCLE;
    return (int32_t)(part < 2147483647.0 ? part : 2147483647.0);
}

// Samples start <= s < end that lie in the block.
struct Range {
    int64_t first, last;
};
inline int64_t clamp_sample(double position, int64_t n_samples) {
    double sample = ceil(position);
    return sample > 0 ? (sample < (double)n_samples ? (int64_t)sample : n_samples) : 0;
}
inline Range samples_between(double start, double end, int64_t n_samples) {
    return {clamp_sample(start, n_samples), clamp_sample(end, n_samples)};
}

inline Floats load(const float *from) {
    Floats values;
    memcpy(&values, from, sizeof values);
    return values;
}

#if defined(__GNUC__)
// Sums of neighbours, of the first then of the second.
inline Floats add_neighbours(Floats a, Floats b) {
#if LANES == 4
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
#elif LANES == 8
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#endif
}

// N rows as one: of each of them W / N sums.
template <int N>
inline Floats sums_of(const Floats *rows) {
    if constexpr (N == 1)
        return rows[0];
    else
        return add_neighbours(sums_of<N / 2>(rows), sums_of<N / 2>(rows + N / 2));
}

inline void sum_lanes(const Floats *rows, int n, float *__restrict sums) {
    for (int s = 0; s < n; s += W) {
        const Floats some = sums_of<W>(rows + s);
        memcpy(sums + s, &some, sizeof some);
    }
}
#else
inline void sum_lanes(const Floats *rows, int n, float *__restrict sums) {
    for (int s = 0; s < n; ++s) {
        sums[s] = 0;
        for (int i = 0; i < W; ++i) sums[s] += rows[s].lane[i];
    }
}
#endif

}  // namespace
