// Oscillators and noise, in lanes: LANES partials side by side. Compiled once per processor kind, as VARIANT.
//
// Only C headers and functions of internal linkage here: anything shared with the other variants might be taken by
// the linker from the one compiled for the newest processor.
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "_oscillators.h"

namespace {

using miao::Block;
using miao::Noise;
using miao::NotePart;
using miao::Partials;
using miao::Scale;

constexpr int W = LANES;
constexpr int STREAMS = 4;  // stretches of time computed side by side, to hide the latency of the recurrence
constexpr int STRETCH = 64;  // samples between exact phases: at 64 the rounded rotation is off by < 6e-6
constexpr int SEGMENT = STREAMS * STRETCH;
constexpr int BATCH = 128;  // partials at a time, a multiple of W

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

// Up to BATCH partials that sound between two knots. A magic circle (x -= e y, y += e x: two operations a sample) is
// only well-conditioned up to a quarter of the sample rate, so a group of higher partials is kept turned down by half
// the sample rate, and every other of its samples is negated at the end.
struct alignas(64) Group {
    double ratio[BATCH], offset[BATCH], frequency[BATCH];
    float amplitude[BATCH], slope[BATCH], left[BATCH], right[BATCH], level[BATCH];
    float rotation[BATCH], stretch[BATCH];  // 2 sin(w/2), 1 / cos(w/2) for a partial of w radians per sample
    int32_t step[BATCH], phase[BATCH];
    int64_t size, padded;
    bool is_folded;
};

inline void append(Group &group, double ratio, double offset, double frequency, float amplitude, float slope) {
    int64_t i = group.size++;
    group.ratio[i] = ratio;
    group.offset[i] = offset;
    group.frequency[i] = frequency;
    group.amplitude[i] = amplitude;
    group.slope[i] = slope;
}

inline void complete(Group &group) {
    group.padded = (group.size + W - 1) / W * W;
    for (int64_t i = group.size; i < group.padded; ++i) {
        group.ratio[i] = group.offset[i] = group.frequency[i] = 0;
        group.amplitude[i] = group.slope[i] = group.left[i] = group.right[i] = 0;
    }
    for (int64_t i = 0; i < group.padded; ++i) {
        group.rotation[i] = rotation(group.frequency[i]);
        group.stretch[i] = 1 / sqrtf(1 - 0.25f * group.rotation[i] * group.rotation[i]);
        group.step[i] = (int32_t)(group.frequency[i] * CYCLE);
    }
}

// Phases and amplitudes of the group at a sample.
inline void start(Group &group, double base_phase, double since_knot, int64_t sample) {
    double half = group.is_folded && sample % 2 ? 0.5 : 0.0;
    for (int64_t i = 0; i < group.padded; ++i) {
        group.phase[i] = to_phase(group.ratio[i] * base_phase + (group.offset[i] + half));
        group.level[i] = group.amplitude[i] + group.slope[i] * (float)since_knot;
    }
}

// LANES partials for STREAMS * n samples: rows[c][s] is the sum so far of each lane.
template <bool is_stereo, bool is_first>
inline void run(const Group &group, int64_t at, int n, Floats *__restrict left, Floats *__restrict right) {
    const Words phase = *(const Words *)(group.phase + at), step = *(const Words *)(group.step + at);
    const Floats e = *(const Floats *)(group.rotation + at), slope = *(const Floats *)(group.slope + at);
    const Floats level = *(const Floats *)(group.level + at);
    const Floats to_left = *(const Floats *)(group.left + at), to_right = *(const Floats *)(group.right + at);
    Floats x[STREAMS], y[STREAMS], a[STREAMS];
    y[0] = sine(phase);
    x[0] = sine(phase - half_of(step) + QUARTER);  // half a sample behind, as the recurrence wants it
    a[0] = level;
    const Words turn = step * (uint32_t)n;
    const Floats across = sine(turn) * *(const Floats *)(group.stretch + at), along = sine(turn + QUARTER);
    const Floats skew = across * (e * 0.5f), to_x = along + skew, to_y = along - skew;  // n rotations at once
    MIAO_UNROLL
    for (int v = 1; v < STREAMS; ++v) {
        x[v] = x[v - 1] * to_x - y[v - 1] * across;
        y[v] = y[v - 1] * to_y + x[v - 1] * across;
        a[v] = level + slope * (float)(v * n);
    }
    for (int s = 0; s < n; ++s) {
        MIAO_UNROLL
        for (int v = 0; v < STREAMS; ++v) {
            Floats z = a[v] * y[v];
            Floats &l = left[v * n + s], &r = right[v * n + s];
            if (is_stereo) {
                l = is_first ? to_left * z : l + to_left * z;
                r = is_first ? to_right * z : r + to_right * z;
            } else {
                l = is_first ? z : l + z;
            }
            a[v] = a[v] + slope;
            x[v] = x[v] - e * y[v];
            y[v] = y[v] + e * x[v];
        }
    }
}

inline void run_all(const Group &group, bool is_stereo, bool is_first, int n, Floats *left, Floats *right) {
    int64_t at = 0;
    if (is_first) {
        is_stereo ? run<true, true>(group, 0, n, left, right) : run<false, true>(group, 0, n, left, right);
        at = W;
    }
    for (; at < group.padded; at += W)
        is_stereo ? run<true, false>(group, at, n, left, right) : run<false, false>(group, at, n, left, right);
}

#if defined(__GNUC__)
typedef float Four __attribute__((vector_size(16), may_alias));

inline Four fold(Floats a) {
#if LANES == 4
    return a;
#elif LANES == 8
    return __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
#else
    return __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7) +
           (__builtin_shufflevector(a, a, 8, 9, 10, 11) + __builtin_shufflevector(a, a, 12, 13, 14, 15));
#endif
}

inline Four add_neighbours(Four a, Four b) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
}

inline void sum_lanes(const Floats *rows, int n, float *__restrict sums) {
    for (int s = 0; s < n; s += 4)
        *(Four *)(sums + s) = add_neighbours(add_neighbours(fold(rows[s]), fold(rows[s + 1])),
                                             add_neighbours(fold(rows[s + 2]), fold(rows[s + 3])));
}
#else
inline void sum_lanes(const Floats *rows, int n, float *__restrict sums) {
    for (int s = 0; s < n; ++s) {
        sums[s] = 0;
        for (int i = 0; i < W; ++i) sums[s] += rows[s].lane[i];
    }
}
#endif

inline void add(float *__restrict out, const float *__restrict sums, int n, float gain) {
    for (int s = 0; s < n; ++s) out[s] += gain * sums[s];
}

// Gains of the form weight[p] * (left, right), as they are unless a note is spread over the panorama.
struct Panorama {
    bool is_spread;
    float left, right;            // of all partials
    float from_left, from_right;  // weight[p] = from_left * gains[p, 0] + from_right * gains[p, 1]
};
inline Panorama panorama(const Partials &note) {
    float left = 0, right = 0;
    for (int64_t p = 0; p < note.n_partials; ++p) {
        float l = note.gains[2 * p], r = note.gains[2 * p + 1];
        if (fabsf(l) + fabsf(r) > fabsf(left) + fabsf(right)) left = l, right = r;
    }
    float tolerance = 1e-6f * (left * left + right * right);
    for (int64_t p = 0; p < note.n_partials; ++p)
        if (!(fabsf(note.gains[2 * p] * right - note.gains[2 * p + 1] * left) <= tolerance)) return {true, 1, 1, 0, 0};
    if (fabsf(left) < fabsf(right)) return {false, left, right, 0, 1 / right};
    return {false, left, right, left != 0 ? 1 / left : 0, 0};
}

// The partials of both groups in a range that is short enough.
void add_segment(const Block &block, Group &low, Group &folded, const Panorama &pan, int64_t first, int n,
                 double base_phase, double since_knot) {
    alignas(64) Floats left[SEGMENT], right[SEGMENT];
    alignas(64) float sums[SEGMENT];
    const int stretch = (n + STREAMS - 1) / STREAMS, n_rows = stretch * STREAMS;
    if (folded.size) {
        start(folded, base_phase, since_knot, first);
        run_all(folded, pan.is_spread, true, stretch, left, right);
        for (int s = 1 - (int)(first % 2); s < n_rows; s += 2) {
            left[s] = left[s] * -1.0f;
            if (pan.is_spread) right[s] = right[s] * -1.0f;
        }
    }
    if (low.size) {
        start(low, base_phase, since_knot, first);
        run_all(low, pan.is_spread, folded.size == 0, stretch, left, right);
    }
    sum_lanes(left, n_rows, sums);
    add(block.left + first, sums, n, pan.left);
    if (pan.is_spread) sum_lanes(right, n_rows, sums);
    add(block.right + first, sums, n, pan.right);
}

// The partials between two knots of their amplitudes and of the pitch, whose base phase is that of sample 0 and turns on.
void add_stretch(const Block &block, const Partials &note, const Panorama &pan, Group &low, Group &folded, int64_t k,
                 Range range, double turn, double base_phase) {
    const float per_sample = (float)(1 / (note.knots[k + 1] - note.knots[k]));
    const float *from = note.amplitudes + k * note.n_partials, *to = from + note.n_partials;
    for (int64_t p = 0; p < note.n_partials;) {
        low.size = folded.size = 0;
        for (int64_t stop = p + BATCH < note.n_partials ? p + BATCH : note.n_partials; p < stop; ++p) {
            double frequency = note.ratios[p] * turn;
            if ((from[p] < note.floor && to[p] < note.floor) || !(fabs(frequency) < 0.5)) continue;
            bool is_high = fabs(frequency) > 0.25;
            Group &group = is_high ? folded : low;
            float l = note.gains[2 * p], r = note.gains[2 * p + 1];
            float gain = pan.is_spread ? 1 : pan.from_left * l + pan.from_right * r;
            group.left[group.size] = l;
            group.right[group.size] = r;
            append(group, note.ratios[p], note.offsets[p],
                   is_high ? frequency - copysign(0.5, frequency) : frequency, gain * from[p],
                   gain * (to[p] - from[p]) * per_sample);
        }
        if (low.size + folded.size == 0) continue;
        complete(low);
        complete(folded);
        const int64_t n_segments = (range.last - range.first + SEGMENT - 1) / SEGMENT;
        for (int64_t first = range.first, left = n_segments; left > 0; --left) {
            const int n = (int)((range.last - first + left - 1) / left);
            add_segment(block, low, folded, pan, first, n, base_phase + turn * (double)first,
                        (double)first - note.knots[k]);
            first += n;
        }
    }
}

void add_partials(const Block &block, const Partials &note) {
    Panorama pan = panorama(note);
    Group low, folded;
    low.is_folded = false;
    folded.is_folded = true;
    int64_t j = 0;  // the stretch of pitch that a stretch of amplitudes begins in; both have knots of their own
    for (int64_t k = 0; k + 1 < note.n_knots; ++k) {
        const double begin = note.knots[k], end = note.knots[k + 1];
        Range range = samples_between(begin, end, block.n_samples);
        if (range.first >= range.last) continue;
        while (j + 2 < note.n_pitch_knots && note.pitch_knots[j + 1] <= begin) ++j;
        for (int64_t i = j; i + 1 < note.n_pitch_knots && note.pitch_knots[i] < end; ++i) {
            const double from = note.pitch_knots[i], to = note.pitch_knots[i + 1];
            range = samples_between(from > begin ? from : begin, to < end ? to : end, block.n_samples);
            if (range.first >= range.last) continue;
            const double turn = (note.phase[i + 1] - note.phase[i]) / (to - from > 1e-9 ? to - from : 1e-9);
            add_stretch(block, note, pan, low, folded, k, range, turn, note.phase[i] - turn * from);
        }
    }
}

// A noise band in a stretch in which its gain runs straight: gain + slope s at its sample s.
struct Band {
    const float *loop[2];  // of each channel, at the next sample; both the same for noise from the middle
    float gain, slope, balance[2];
};

constexpr int ROWS = 4;  // of W samples, which stay in registers while all bands are added

inline Floats load(const float *from) {
    Floats values;
    memcpy(&values, from, sizeof values);
    return values;
}

// Bands of which none comes to its loop's end.
inline void add_bands(float *__restrict left, float *__restrict right, const Band *bands, int n_bands, int64_t n) {
    alignas(64) float count[W];
    for (int i = 0; i < W; ++i) count[i] = (float)i;
    const Floats counted = load(count);
    int64_t s = 0;
    for (; s + ROWS * W <= n; s += ROWS * W) {
        Floats l[ROWS], r[ROWS];
        for (int k = 0; k < ROWS; ++k) l[k] = load(left + s + k * W), r[k] = load(right + s + k * W);
        for (int b = 0; b < n_bands; ++b) {
            const Band &band = bands[b];
            const float *from = band.loop[0] + s, *other = band.loop[1] + s;
            Floats gain = counted * band.slope + (band.gain + band.slope * (float)s);
            const float step = band.slope * (float)W;
            if (from == other)
                for (int k = 0; k < ROWS; ++k) {
                    const Floats sample = gain * load(from + k * W);
                    l[k] = l[k] + sample * band.balance[0];
                    r[k] = r[k] + sample * band.balance[1];
                    gain = gain + step;
                }
            else
                for (int k = 0; k < ROWS; ++k) {
                    l[k] = l[k] + gain * load(from + k * W) * band.balance[0];
                    r[k] = r[k] + gain * load(other + k * W) * band.balance[1];
                    gain = gain + step;
                }
        }
        for (int k = 0; k < ROWS; ++k) {
            memcpy(left + s + k * W, &l[k], sizeof l[k]);
            memcpy(right + s + k * W, &r[k], sizeof r[k]);
        }
    }
    for (int b = 0; b < n_bands; ++b)
        for (int64_t t = s; t < n; ++t) {
            const float gain = bands[b].gain + bands[b].slope * (float)t;
            left[t] += bands[b].balance[0] * gain * bands[b].loop[0][t];
            right[t] += bands[b].balance[1] * gain * bands[b].loop[1][t];
        }
}

constexpr int AT_ONCE = 64;  // bands

void add_noise(const Block &block, const Noise &note) {
    if (note.n_knots < 2 || !(fabs(note.knots[0]) < 9e15)) return;
    const int64_t origin = (int64_t)ceil(note.knots[0]), mask = note.n_table - 1;
    Band bands[AT_ONCE];
    for (int64_t k = 0; k + 1 < note.n_knots; ++k) {
        Range range = samples_between(note.knots[k], note.knots[k + 1], block.n_samples);
        if (range.first >= range.last) continue;
        const float *from = note.gains + k * note.n_bands, *to = from + note.n_bands;
        const double length = note.knots[k + 1] - note.knots[k];
        for (int64_t b = 0; b < note.n_bands;) {
            int64_t which[AT_ONCE];
            int count = 0;
            for (; b < note.n_bands && count < AT_ONCE; ++b)
                if (!(from[b] < note.floor && to[b] < note.floor)) which[count++] = b;
            for (int64_t first = range.first; count && first < range.last;) {  // up to where the next loop ends
                int64_t n = range.last - first;
                for (int i = 0; i < count; ++i) {
                    const float *loop = note.table + which[i] * note.n_table;
                    const double slope = (to[which[i]] - from[which[i]]) / length;
                    bands[i].slope = (float)slope;
                    bands[i].gain = (float)(from[which[i]] + slope * ((double)first - note.knots[k]));
                    for (int channel = 0; channel < 2; ++channel) {
                        const int64_t at = (note.offsets[2 * which[i] + channel] + first - origin) & mask;
                        bands[i].loop[channel] = loop + at;
                        bands[i].balance[channel] = note.balance[2 * which[i] + channel];
                        n = note.n_table - at < n ? note.n_table - at : n;
                    }
                }
                add_bands(block.left + first, block.right + first, bands, count, n);
                first += n;
            }
        }
    }
}

// 2^x for -60 <= x <= 60, relative error 3e-7.
inline float power_of_two(float x) {
    const int32_t whole = (int32_t)(x + 64.5f) - 64;  // rounded: the sum is positive
    const float u = x - (float)whole;                 // [-1/2, 1/2]
    float q = u * 1.540353e-4f + 1.3333558e-3f;
    q = q * u + 9.6181291e-3f;
    q = q * u + 5.5504109e-2f;
    q = q * u + 0.240226507f;
    q = q * u + 0.693147181f;
    q = q * u + 1.0f;
    union {
        int32_t bits;
        float value;
    } power = {(whole + 127) << 23};
    return q * power.value;
}

inline void to_amplitudes(float *__restrict values, int64_t n, const Scale &scale) {
    for (int64_t i = 0; i < n; ++i) {
        const float amplitude = power_of_two(scale.silent + scale.octaves * values[i]);
        values[i] = values[i] < 0.5f ? 0.0f : amplitude;
    }
}

// Where a row was left on the way from the one before, amplitudes are on the line between the two.
inline void turn(const NotePart &note, float *amplitudes, int64_t n) {
    for (int64_t k = 1; k < note.n_knots; ++k) {
        const float reached = note.levels[(k + 1) * note.n_cells - 1];
        if (reached == 1) continue;
        float *to = amplitudes + k * n;
        const float *from = to - n;
        for (int64_t i = 0; i < n; ++i) to[i] = reached * to[i] + (1 - reached) * from[i];
    }
}

// The loudest level of each cell.
inline void find_highest(const NotePart &note, float *__restrict highest) {
    for (int64_t c = 0; c < note.n_cells; ++c) highest[c] = 0;
    for (int64_t k = 0; k < note.n_knots; ++k) {
        const float *row = note.levels + k * note.n_cells;
        for (int64_t c = 0; c < note.n_cells; ++c) highest[c] = row[c] > highest[c] ? row[c] : highest[c];
    }
}

// A part of a note from its levels: what is heard of it becomes amplitudes, and these become sound.
void add_note(const Block &block, const NotePart &note, const Scale &scale, void *scratch) {
    if (note.n_knots < 2) return;
    double *ratios = (double *)scratch;
    float *highest = (float *)(ratios + note.n_partials), *shares = highest + note.n_cells;
    float *offsets = shares + note.n_partials, *gains = offsets + note.n_partials;
    int32_t *cells = (int32_t *)(gains + 2 * note.n_partials);
    float *amplitudes = (float *)(cells + note.n_partials);
    const int64_t first_band = note.n_cells - 1 - note.n_bands;

    find_highest(note, highest);
    float loudest = 0, loudest_band = 0;
    for (int64_t c = 0; c < note.n_cells - 1; ++c) {
        loudest = highest[c] > loudest ? highest[c] : loudest;
        if (c >= first_band) loudest_band = highest[c] > loudest_band ? highest[c] : loudest_band;
    }
    const float masked = loudest < 0.5f ? 0 : scale.masked * power_of_two(scale.silent + scale.octaves * loudest);
    const float floor = masked > scale.floor ? masked : scale.floor;
    const float least = (log2f(floor) - scale.silent) / scale.octaves;  // as a level

    int64_t heard = 0;
    for (int64_t p = 0; p < note.n_partials; ++p) {
        const int32_t cell = note.cells[p];
        const float share = note.shares[p];
        if (!((share < 1 && highest[cell] >= least) || (share > 0 && highest[cell + 1] >= least))) continue;
        ratios[heard] = note.ratios[p];
        cells[heard] = cell;
        shares[heard] = share;
        offsets[heard] = note.offsets[p];
        gains[2 * heard] = note.gains[2 * p];
        gains[2 * heard + 1] = note.gains[2 * p + 1];
        ++heard;
    }
    if (heard) {
        for (int64_t k = 0; k < note.n_knots; ++k) {
            const float *row = note.levels + k * note.n_cells;
            float *to = amplitudes + k * heard;
            for (int64_t p = 0; p < heard; ++p) to[p] = row[cells[p]] + shares[p] * (row[cells[p] + 1] - row[cells[p]]);
        }
        to_amplitudes(amplitudes, note.n_knots * heard, scale);
        turn(note, amplitudes, heard);
        add_partials(block, {note.n_knots, note.n_pitch_knots, heard, note.knots, note.pitch_knots, note.phase, amplitudes,
                             ratios, offsets, gains, floor});
    }
    if (loudest_band >= least) {
        for (int64_t k = 0; k < note.n_knots; ++k)
            for (int64_t b = 0; b < note.n_bands; ++b)
                amplitudes[k * note.n_bands + b] = note.levels[k * note.n_cells + first_band + b];
        to_amplitudes(amplitudes, note.n_knots * note.n_bands, scale);
        turn(note, amplitudes, note.n_bands);
        add_noise(block, {note.n_knots, note.n_bands, note.n_table, note.knots, amplitudes, note.balance, note.table,
                          note.noise_offsets, floor});
    }
}

}  // namespace

#define MIAO_TEXT_(name) #name
#define MIAO_TEXT(name) MIAO_TEXT_(name)
const miao::Variant miao::VARIANT = {MIAO_TEXT(VARIANT), add_partials, add_noise, add_note};
