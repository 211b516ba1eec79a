// The loops of the sound chain, as compiled once for each kind of processor (see CMakeLists.txt).
#pragma once

#include <cstdint>

namespace miao_sound {

// A transform of n complex numbers, real and imaginary parts apart; n is a power of two, 1024 or more. Frequencies come
// out in an order of their own; at the place `mirror[i]` is the negative of the frequency at place i.
struct Transform {
    int64_t n;
    const float *twiddles;  // of all passes, see fill
    const int32_t *mirror;  // [n]
};
int64_t n_twiddles(int64_t n);
void fill(int64_t n, float *twiddles, int32_t *frequency, int32_t *mirror);

constexpr int LAST = 16;    // points of the last transforms, which lie together
constexpr int ROW = 32;     // samples that a limiter looks between at once
constexpr int KERNELS = 7;  // points from a sample to the next that it looks at
constexpr int TAPS = 96;

struct Variant {
    const char *name;
    void (*forward)(const Transform &, float *re, float *im);
    void (*backward)(const Transform &, float *re, float *im);  // n times the inverse
    // sum += a z + b mirrored for some of n complex numbers, each array first all real parts, then all imaginary ones
    void (*add_products)(int64_t n, int64_t first, int64_t count, const float *a, const float *b, const float *z, const float *mirrored, float *sum);
    // highest[s] = max(highest[s], |kernel * line| at s) for ROW samples s; line has ROW + TAPS - 1 samples
    void (*look_between)(const float *line, const float *kernels, float *highest);
    float (*peak)(const float *samples, int64_t n);
    // see quantiser.quantise_numpy; the dither is that of position, position + step ...; counts what is beyond full scale
    // and what is not finite
    void (*quantise)(const float *samples, int64_t n, uint32_t position, uint32_t step, float scale, bool is_dithered,
                     int32_t *out, int64_t counts[2]);
    // to = from gain, and to += from gain; the gain of a sample is `step` behind the last one's, 1 or 0
    void (*turn_up)(const float *from, const float *gain, int64_t step, int64_t n, float *to);
    void (*add_turned_up)(const float *from, const float *gain, int64_t step, int64_t n, float *to);
    // squares behind two biquads, of two channels (the first four lines and the last) of four stretches at once
    void (*weigh)(const float *const lines[8], int64_t n, const double filters[10], double state[4][8], double *const to[4]);
};

extern const Variant plain, avx2, avx512;

}  // namespace miao_sound
