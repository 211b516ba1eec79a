// Noise bands: loops of noise that are read with gains which run straight from knot to knot.
#pragma once

#include "_lanes.h"

namespace {

// A band in a stretch in which its gain runs straight: gain + slope s at its sample s.
struct Band {
    const float *loop[2];  // of each channel, at the next sample; both the same for noise from the middle
    float gain, slope, balance[2];
};

constexpr int ROWS = 4;      // of W samples, which stay in registers while all bands are added
constexpr int AT_ONCE = 64;  // bands

// N rows from sample s on, of bands from the middle, from one place of the panorama each, or of two noises each.
enum Spread { MIDDLE, PLACED, WIDE };
template <int N, Spread spread>
inline void add_rows(float *__restrict left, float *__restrict right, const Band *bands, int n_bands, int64_t s,
                     Floats counted) {
    Floats l[N], r[N];
    MIAO_UNROLL
    for (int k = 0; k < N; ++k) {
        l[k] = spread == MIDDLE ? counted * 0.0f : load(left + s + k * W);
        if (spread != MIDDLE) r[k] = load(right + s + k * W);
    }
    for (int b = 0; b < n_bands; ++b) {
        const Band &band = bands[b];
        const float *from = band.loop[0] + s, *other = band.loop[1] + s;
        Floats gain = counted * band.slope + (band.gain + band.slope * (float)s);
        const float step = band.slope * (float)W;
        MIAO_UNROLL
        for (int k = 0; k < N; ++k) {
            const Floats sample = gain * load(from + k * W);
            if (spread == MIDDLE) {
                l[k] = l[k] + sample;
            } else {
                l[k] = l[k] + sample * band.balance[0];
                r[k] = r[k] + (spread == WIDE ? gain * load(other + k * W) : sample) * band.balance[1];
            }
            gain = gain + step;
        }
    }
    MIAO_UNROLL
    for (int k = 0; k < N; ++k) {
        if (spread == MIDDLE) {
            r[k] = load(right + s + k * W) + l[k];
            l[k] = load(left + s + k * W) + l[k];
        }
        memcpy(left + s + k * W, &l[k], sizeof l[k]);
        memcpy(right + s + k * W, &r[k], sizeof r[k]);
    }
}

// Bands of which none comes to its loop's end; those from the middle have their balance in their gain.
template <Spread spread>
inline void add_bands(float *__restrict left, float *__restrict right, const Band *bands, int n_bands, int64_t n) {
    alignas(64) float count[W];
    for (int i = 0; i < W; ++i) count[i] = (float)i;
    const Floats counted = load(count);
    int64_t s = 0;
    for (; s + ROWS * W <= n; s += ROWS * W) add_rows<ROWS, spread>(left, right, bands, n_bands, s, counted);
    for (; s + W <= n; s += W) add_rows<1, spread>(left, right, bands, n_bands, s, counted);
    if (s == n) return;
    alignas(64) float rest_left[W] = {}, rest_right[W] = {};
    for (int b = 0; b < n_bands; ++b) {
        const Band &band = bands[b];
        for (int64_t t = 0; t < n - s; ++t) {
            const float gain = band.gain + band.slope * (float)(s + t), sample = gain * band.loop[0][s + t];
            rest_left[t] += spread == MIDDLE ? sample : sample * band.balance[0];
            if (spread == PLACED) rest_right[t] += sample * band.balance[1];
            if (spread == WIDE) rest_right[t] += gain * band.loop[1][s + t] * band.balance[1];
        }
    }
    for (int64_t t = 0; t < n - s; ++t) {
        left[s + t] += rest_left[t];
        right[s + t] += spread == MIDDLE ? rest_left[t] : rest_right[t];
    }
}

// Some bands of a note.
struct Bands {
    int64_t n;              // at most AT_ONCE
    const int64_t *which;   // rows of the table
    const float *table;
    int64_t n_table;
    const float *balance;   // of all bands
    const int64_t *offsets;
    int64_t origin;         // the note's sample at which they are read from their offsets on
    Spread spread;
};

inline Spread spread_of(const float *balance, const int64_t *offsets, int64_t n_bands) {
    Spread spread = MIDDLE;
    for (int64_t b = 0; b < n_bands; ++b) {
        if (offsets[2 * b] != offsets[2 * b + 1]) return WIDE;
        if (balance[2 * b] != balance[2 * b + 1]) spread = PLACED;
    }
    return spread;
}

// Between two knots, at which the gains are `from` and `to`, in some samples of the block.
inline void add_bands_between(const Block &block, const Bands &note, const float *from, const float *to, float floor,
                              double knot, double per_sample, Range range) {
    Band bands[AT_ONCE];
    int64_t which[AT_ONCE];
    int count = 0;
    for (int64_t i = 0; i < note.n; ++i) {
        if (from[i] < floor && to[i] < floor) continue;
        const int64_t band = note.which[i];
        const double slope = (to[i] - from[i]) * per_sample;
        const float left = note.balance[2 * band], weight = note.spread == MIDDLE ? left : 1.0f;
        bands[count].slope = (float)slope * weight;
        bands[count].gain = (float)(from[i] + slope * ((double)range.first - knot)) * weight;
        bands[count].balance[0] = left, bands[count].balance[1] = note.balance[2 * band + 1];
        which[count++] = band;
    }
    const int64_t mask = note.n_table - 1;
    for (int64_t first = range.first; count && first < range.last;) {  // up to where the next loop ends
        int64_t n = range.last - first;
        for (int i = 0; i < count; ++i)
            for (int channel = 0; channel < (note.spread == WIDE ? 2 : 1); ++channel) {
                const int64_t at = (note.offsets[2 * which[i] + channel] + first - note.origin) & mask;
                bands[i].loop[channel] = note.table + which[i] * note.n_table + at;
                n = note.n_table - at < n ? note.n_table - at : n;
            }
        float *left = block.left + first, *right = block.right + first;
        if (note.spread == MIDDLE)
            add_bands<MIDDLE>(left, right, bands, count, n);
        else if (note.spread == PLACED)
            add_bands<PLACED>(left, right, bands, count, n);
        else
            add_bands<WIDE>(left, right, bands, count, n);
        first += n;
        for (int i = 0; i < count; ++i) bands[i].gain += bands[i].slope * (float)n;
    }
}

inline bool has_origin(int64_t n_knots, const double *knots) { return n_knots >= 2 && fabs(knots[0]) < 9e15; }

void add_noise(const Block &block, const Noise &note) {
    if (!has_origin(note.n_knots, note.knots)) return;
    const Spread spread = spread_of(note.balance, note.offsets, note.n_bands);
    for (int64_t k = 0; k + 1 < note.n_knots; ++k) {
        const double begin = note.knots[k], end = note.knots[k + 1];
        const Range range = samples_between(begin, end, block.n_samples);
        if (range.first >= range.last) continue;
        for (int64_t b = 0; b < note.n_bands; b += AT_ONCE) {
            int64_t which[AT_ONCE], n = 0;
            for (; n < AT_ONCE && b + n < note.n_bands; ++n) which[n] = b + n;
            const float *from = note.gains + k * note.n_bands + b;
            const Bands bands{n, which, note.table, note.n_table, note.balance, note.offsets,
                              (int64_t)ceil(note.knots[0]), spread};
            add_bands_between(block, bands, from, from + note.n_bands, note.floor, begin, 1 / (end - begin), range);
        }
    }
}

}  // namespace
