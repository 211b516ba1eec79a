// Transforms, peaks and quantisers, side by side as far as the processor's vectors go. Compiled once per kind of
// processor, as VARIANT.
//
// Only C headers and functions of internal linkage here: anything shared with the other variants might be taken by
// the linker from the one compiled for the newest processor.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "_signal.h"

namespace {

using miao_sound::KERNELS;
using miao_sound::ROW;
using miao_sound::TAPS;
using miao_sound::Transform;

constexpr int L = miao_sound::LAST;

// Before a loop whose turns have nothing to do with each other: compilers forget what __restrict said when they inline.
#if defined(__clang__)
#define MIAO_APART _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define MIAO_APART _Pragma("GCC ivdep")
#elif defined(_MSC_VER)
#define MIAO_APART __pragma(loop(ivdep))
#else
#define MIAO_APART
#endif

// Four points to four: s0 +- s2 and s1 +- s3 are theirs; `sign` is -1 forward and 1 backward.
#define MIAO_FOUR(sign)                                                     \
    const float s0r = ar + cr, s0i = ai + ci, s1r = ar - cr, s1i = ai - ci; \
    const float s2r = br + dr, s2i = bi + di;                               \
    const float s3r = (sign) * (di - bi), s3i = (sign) * (br - dr)

// One block of 4 `quarter` points forward, by decimation in frequency: the quarters are then transforms by themselves.
inline void block_forward(float *__restrict re, float *__restrict im, int64_t quarter, const float *__restrict w) {
    const float *__restrict w1r = w, *__restrict w1i = w + quarter, *__restrict w2r = w + 2 * quarter;
    const float *__restrict w2i = w + 3 * quarter, *__restrict w3r = w + 4 * quarter, *__restrict w3i = w + 5 * quarter;
    float *__restrict r0 = re, *__restrict r1 = re + quarter, *__restrict r2 = r1 + quarter, *__restrict r3 = r2 + quarter;
    float *__restrict i0 = im, *__restrict i1 = im + quarter, *__restrict i2 = i1 + quarter, *__restrict i3 = i2 + quarter;
    MIAO_APART
    for (int64_t j = 0; j < quarter; ++j) {
        const float ar = r0[j], ai = i0[j], br = r1[j], bi = i1[j], cr = r2[j], ci = i2[j], dr = r3[j], di = i3[j];
        MIAO_FOUR(-1.0f);
        const float y1r = s1r + s3r, y1i = s1i + s3i, y2r = s0r - s2r, y2i = s0i - s2i;
        const float y3r = s1r - s3r, y3i = s1i - s3i;
        r0[j] = s0r + s2r;
        i0[j] = s0i + s2i;
        r1[j] = y1r * w1r[j] - y1i * w1i[j];
        i1[j] = y1r * w1i[j] + y1i * w1r[j];
        r2[j] = y2r * w2r[j] - y2i * w2i[j];
        i2[j] = y2r * w2i[j] + y2i * w2r[j];
        r3[j] = y3r * w3r[j] - y3i * w3i[j];
        i3[j] = y3r * w3i[j] + y3i * w3r[j];
    }
}

// The way back.
inline void block_backward(float *__restrict re, float *__restrict im, int64_t quarter, const float *__restrict w) {
    const float *__restrict w1r = w, *__restrict w1i = w + quarter, *__restrict w2r = w + 2 * quarter;
    const float *__restrict w2i = w + 3 * quarter, *__restrict w3r = w + 4 * quarter, *__restrict w3i = w + 5 * quarter;
    float *__restrict r0 = re, *__restrict r1 = re + quarter, *__restrict r2 = r1 + quarter, *__restrict r3 = r2 + quarter;
    float *__restrict i0 = im, *__restrict i1 = im + quarter, *__restrict i2 = i1 + quarter, *__restrict i3 = i2 + quarter;
    MIAO_APART
    for (int64_t j = 0; j < quarter; ++j) {
        const float ar = r0[j], ai = i0[j];
        const float br = r1[j] * w1r[j] + i1[j] * w1i[j], bi = i1[j] * w1r[j] - r1[j] * w1i[j];
        const float cr = r2[j] * w2r[j] + i2[j] * w2i[j], ci = i2[j] * w2r[j] - r2[j] * w2i[j];
        const float dr = r3[j] * w3r[j] + i3[j] * w3i[j], di = i3[j] * w3r[j] - r3[j] * w3i[j];
        MIAO_FOUR(1.0f);
        r0[j] = s0r + s2r;
        i0[j] = s0i + s2i;
        r1[j] = s1r + s3r;
        i1[j] = s1i + s3i;
        r2[j] = s0r - s2r;
        i2[j] = s0i - s2i;
        r3[j] = s1r - s3r;
        i3[j] = s1i - s3i;
    }
}

inline void halves_forward(float *__restrict re, float *__restrict im, int64_t half, const float *__restrict w) {
    float *__restrict r1 = re + half, *__restrict i1 = im + half;
    const float *__restrict wr = w, *__restrict wi = w + half;
    MIAO_APART
    for (int64_t j = 0; j < half; ++j) {
        const float ar = re[j], ai = im[j], br = r1[j], bi = i1[j], dr = ar - br, di = ai - bi;
        re[j] = ar + br;
        im[j] = ai + bi;
        r1[j] = dr * wr[j] - di * wi[j];
        i1[j] = dr * wi[j] + di * wr[j];
    }
}

inline void halves_backward(float *__restrict re, float *__restrict im, int64_t half, const float *__restrict w) {
    float *__restrict r1 = re + half, *__restrict i1 = im + half;
    const float *__restrict wr = w, *__restrict wi = w + half;
    MIAO_APART
    for (int64_t j = 0; j < half; ++j) {
        const float ar = re[j], ai = im[j], cr = r1[j], ci = i1[j];
        const float br = cr * wr[j] + ci * wi[j], bi = ci * wr[j] - cr * wi[j];
        re[j] = ar + br;
        im[j] = ai + bi;
        r1[j] = ar - br;
        i1[j] = ai - bi;
    }
}

// L of the last transforms, turned over so that each has a lane.
struct alignas(64) Square {
    float at[L][L];
};
inline void turn(float *__restrict to, const float *__restrict from) {
    for (int i = 0; i < L; ++i)
        for (int j = 0; j < L; ++j) to[i * L + j] = from[j * L + i];
}
// Rows 0 to 3, 4 to 7 ... of the square, without twiddles.
inline void fours_of_rows(Square &re, Square &im, float sign) {
    for (int row = 0; row < L; row += 4)
        for (int j = 0; j < L; ++j) {
            const float ar = re.at[row][j], ai = im.at[row][j], br = re.at[row + 1][j], bi = im.at[row + 1][j];
            const float cr = re.at[row + 2][j], ci = im.at[row + 2][j], dr = re.at[row + 3][j], di = im.at[row + 3][j];
            MIAO_FOUR(sign);
            re.at[row][j] = s0r + s2r;
            im.at[row][j] = s0i + s2i;
            re.at[row + 1][j] = s1r + s3r;
            im.at[row + 1][j] = s1i + s3i;
            re.at[row + 2][j] = s0r - s2r;
            im.at[row + 2][j] = s0i - s2i;
            re.at[row + 3][j] = s1r - s3r;
            im.at[row + 3][j] = s1i - s3i;
        }
}

void forward(const Transform &transform, float *re, float *im) {
    const float *w = transform.twiddles;
    int64_t block = transform.n;
    // a pass of two first, if fours alone do not come down to the last transforms
    int64_t fours = transform.n;
    while (fours > L) fours /= 4;
    if (fours != L) {
        halves_forward(re, im, block / 2, w);
        w += block;
        block /= 2;
    }
    for (; block > L; block /= 4) {
        for (int64_t at = 0; at < transform.n; at += block) block_forward(re + at, im + at, block / 4, w);
        w += 6 * (block / 4);
    }
    Square sr, si;
    for (int64_t at = 0; at < transform.n; at += L * L) {
        turn(sr.at[0], re + at);
        turn(si.at[0], im + at);
        block_forward(sr.at[0], si.at[0], L * L / 4, w);
        fours_of_rows(sr, si, -1.0f);
        memcpy(re + at, sr.at, sizeof sr.at);
        memcpy(im + at, si.at, sizeof si.at);
    }
}

void backward(const Transform &transform, float *re, float *im) {
    const int64_t n = transform.n;
    const float *w = transform.twiddles + miao_sound::n_twiddles(n) - 6 * (L * L / 4);
    Square sr, si;
    for (int64_t at = 0; at < n; at += L * L) {
        memcpy(sr.at, re + at, sizeof sr.at);
        memcpy(si.at, im + at, sizeof si.at);
        fours_of_rows(sr, si, 1.0f);
        block_backward(sr.at[0], si.at[0], L * L / 4, w);
        turn(re + at, sr.at[0]);
        turn(im + at, si.at[0]);
    }
    int64_t block = 4 * L;
    for (; block <= n; block *= 4) {
        w -= 6 * (block / 4);
        for (int64_t at = 0; at < n; at += block) block_backward(re + at, im + at, block / 4, w);
    }
    if (block != 4 * n) halves_backward(re, im, n / 2, transform.twiddles);
}

void add_products(int64_t n, int64_t first, int64_t count, const float *__restrict a, const float *__restrict b,
                  const float *__restrict z, const float *__restrict m, float *__restrict sum) {
    const float *__restrict ai = a + n, *__restrict bi = b + n, *__restrict zi = z + n, *__restrict mi = m + n;
    float *__restrict si = sum + n;
    MIAO_APART
    for (int64_t k = first; k < first + count; ++k) {
        sum[k] += a[k] * z[k] - ai[k] * zi[k] + b[k] * m[k] - bi[k] * mi[k];
        si[k] += a[k] * zi[k] + ai[k] * z[k] + b[k] * mi[k] + bi[k] * m[k];
    }
}

// All kernels go along the line side by side, a vector of the row at a time: the sums stay in registers, and each stretch
// of the line is read once for all of them.
#if defined(__AVX512F__)
constexpr int STRETCH = 16;
#elif defined(__AVX2__)
constexpr int STRETCH = 8;
#else
constexpr int STRETCH = 4;
#endif

#if defined(__GNUC__)
typedef float Stretch __attribute__((vector_size(4 * STRETCH), aligned(4), may_alias));

void look_between(const float *__restrict line, const float *__restrict kernels, float *__restrict highest) {
    static_assert(KERNELS == 7, "seven sums are written out");
    for (int first = 0; first < ROW; first += STRETCH) {
        Stretch a = {}, b = {}, c = {}, d = {}, e = {}, f = {}, g = {};
        for (int t = 0; t < TAPS; ++t) {
            const Stretch at = *(const Stretch *)(line + first + t);
            const float *tap = kernels + t;
            a += at * tap[0];
            b += at * tap[TAPS];
            c += at * tap[2 * TAPS];
            d += at * tap[3 * TAPS];
            e += at * tap[4 * TAPS];
            f += at * tap[5 * TAPS];
            g += at * tap[6 * TAPS];
        }
        float sums[KERNELS][STRETCH];
        *(Stretch *)sums[0] = a, *(Stretch *)sums[1] = b, *(Stretch *)sums[2] = c, *(Stretch *)sums[3] = d;
        *(Stretch *)sums[4] = e, *(Stretch *)sums[5] = f, *(Stretch *)sums[6] = g;
        for (int k = 0; k < KERNELS; ++k)
            for (int s = 0; s < STRETCH; ++s) {
                const float size = fabsf(sums[k][s]);
                highest[first + s] = size > highest[first + s] ? size : highest[first + s];
            }
    }
}
#else
void look_between(const float *__restrict line, const float *__restrict kernels, float *__restrict highest) {
    for (int k = 0; k < KERNELS; ++k) {
        float sums[ROW];
        for (int s = 0; s < ROW; ++s) sums[s] = 0;
        for (int t = 0; t < TAPS; ++t) {
            const float tap = kernels[k * TAPS + t];
            for (int s = 0; s < ROW; ++s) sums[s] += tap * line[t + s];
        }
        for (int s = 0; s < ROW; ++s) {
            const float size = fabsf(sums[s]);
            highest[s] = size > highest[s] ? size : highest[s];
        }
    }
}
#endif

float peak(const float *__restrict samples, int64_t n) {
    constexpr int SIDE_BY_SIDE = 32;  // a limiter asks for as many
    float highest[SIDE_BY_SIDE] = {0};
    int64_t at = 0;
    for (; at + SIDE_BY_SIDE <= n; at += SIDE_BY_SIDE)
        for (int i = 0; i < SIDE_BY_SIDE; ++i) {
            const float size = fabsf(samples[at + i]);
            highest[i] = size > highest[i] ? size : highest[i];
        }
    for (; at < n; ++at) highest[0] = fabsf(samples[at]) > highest[0] ? fabsf(samples[at]) : highest[0];
    for (int i = 1; i < SIDE_BY_SIDE; ++i) highest[0] = highest[i] > highest[0] ? highest[i] : highest[0];
    return highest[0];
}

// Eight lines of samples, two channels of four stretches, through the two filters side by side: see _loops.cpp.
void weigh(const float *const lines[8], int64_t n, const double filters[10], double state[4][8], double *const to[4]) {
    double f[10], a[8], b[8], c[8], d[8];
    for (int i = 0; i < 10; ++i) f[i] = filters[i];
    for (int i = 0; i < 8; ++i) a[i] = state[0][i], b[i] = state[1][i], c[i] = state[2][i], d[i] = state[3][i];
    for (int64_t t = 0; t < n; ++t) {
        double x[8], square[8];
        for (int i = 0; i < 8; ++i) x[i] = lines[i][t];
        for (int i = 0; i < 8; ++i) {
            const double y = f[0] * x[i] + a[i];
            a[i] = (f[1] * x[i] + b[i]) - f[3] * y;
            b[i] = f[2] * x[i] - f[4] * y;
            const double z = f[5] * y + c[i];
            c[i] = (f[6] * y + d[i]) - f[8] * z;
            d[i] = f[7] * y - f[9] * z;
            square[i] = z * z;
        }
        for (int k = 0; k < 4; ++k) to[k][t] = square[k] + square[k + 4];
    }
    for (int i = 0; i < 8; ++i) state[0][i] = a[i], state[1][i] = b[i], state[2][i] = c[i], state[3][i] = d[i];
}

void quantise(const float *__restrict samples, int64_t n, uint32_t position, uint32_t step, float scale,
              bool is_dithered, int32_t *__restrict out, int64_t counts[2]) {
    const float most = scale - 1, dithered = is_dithered ? 1.0f / 65536 : 0;
    int32_t n_beyond = 0, n_finite = 0;
    for (int64_t s = 0; s < n; ++s) {
        uint32_t h = (position + (uint32_t)s * step) * 0x9E3779B1u;
        h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
        h = (h ^ (h >> 13)) * 0xC2B2AE35u;
        h ^= h >> 16;
        const float noise = dithered * (float)((int32_t)(h & 0xFFFF) - (int32_t)(h >> 16));
        const float size = fabsf(samples[s]);
        n_beyond += size > 1.0f;
        n_finite += size <= 3.4028235e38f;
        float value = scale * samples[s] + (samples[s] == 0 ? 0 : noise);
        value = value < most ? value : most;
        value = value > -scale ? value : -scale;
        out[s] = (int32_t)rintf(value);
    }
    counts[0] += n_beyond;
    counts[1] += n - n_finite;
}

void turn_up(const float *__restrict from, const float *__restrict gain, int64_t step, int64_t n, float *__restrict to) {
    const float same = gain[0];
    if (step)
        for (int64_t s = 0; s < n; ++s) to[s] = from[s] * gain[s];
    else
        for (int64_t s = 0; s < n; ++s) to[s] = from[s] * same;
}

void add_turned_up(const float *__restrict from, const float *__restrict gain, int64_t step, int64_t n,
                   float *__restrict to) {
    const float same = gain[0];
    if (step)
        for (int64_t s = 0; s < n; ++s) to[s] += from[s] * gain[s];
    else
        for (int64_t s = 0; s < n; ++s) to[s] += from[s] * same;
}

}  // namespace

#define MIAO_TEXT_(name) #name
#define MIAO_TEXT(name) MIAO_TEXT_(name)
const miao_sound::Variant miao_sound::VARIANT = {
    MIAO_TEXT(VARIANT), forward, backward, add_products, look_between, peak, quantise, turn_up, add_turned_up, weigh,
};
