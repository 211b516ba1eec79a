// The partials of many notes: sums of sines in lanes, which are added up once for all notes of a stretch of samples.
#pragma once

#include "_lanes.h"

namespace {

constexpr int STREAMS = 4;   // stretches of time computed side by side, to hide the latency of the recurrence
constexpr int STRETCH = 64;  // samples between exact phases: at 64 the rounded rotation is off by < 6e-6
constexpr int PIECE = STREAMS * STRETCH;
constexpr int SAMPLES = 512;  // a stretch of the block: its rows stay near the processor while all notes are added

// The sums so far of a stretch of the block, W lanes a sample: of what sounds in the middle, and of each side.
struct Rows {
    alignas(64) Floats middle[SAMPLES], left[SAMPLES], right[SAMPLES];
    int n;  // samples
    bool has_middle, has_sides;

    void begin(int n_samples) {
        n = n_samples;
        has_middle = has_sides = false;
    }

    void clear(Floats *rows) const { memset((void *)rows, 0, (size_t)(n + W - 1) / W * W * sizeof(Floats)); }
    void use(bool is_middle) {
        if (is_middle && !has_middle) clear(middle), has_middle = true;
        if (!is_middle && !has_sides) clear(left), clear(right), has_sides = true;
    }

    void add(float *__restrict out, const float *__restrict sums) const {
        for (int s = 0; s < n; ++s) out[s] += sums[s];
    }
    void finish(float *to_left, float *to_right) {
        alignas(64) float sums[SAMPLES];
        const int n_rows = (n + W - 1) / W * W;
        if (has_middle) {
            sum_lanes(middle, n_rows, sums);
            add(to_left, sums);
            add(to_right, sums);
        }
        if (has_sides) {
            sum_lanes(left, n_rows, sums);
            add(to_left, sums);
            sum_lanes(right, n_rows, sums);
            add(to_right, sums);
        }
    }
};

// Where a note is heard: the same on both sides, louder on one, or with partials that are ahead on one, too.
enum class Side { MIDDLE, SIDES, TURNED };

// Partials of a note that may be heard, in whole lanes: those behind the last one are silent.
struct Heard {
    int64_t padded;
    const double *ratios;
    const float *offsets, *left, *right;  // gains; of a note in the middle both are the same
    const float *ahead;                   // of the right, a quarter of a cycle ahead, if the sides are turned
    Side side;
};

inline int64_t in_lanes(int64_t n) { return (n + W - 1) / W * W; }

inline bool lies_in_the_middle(const float *gains, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
        if (gains[2 * i] != gains[2 * i + 1]) return false;
    return true;
}

inline Side side_of(const float *gains, int64_t n) {  // [n, 3]
    bool is_middle = true;
    for (int64_t i = 0; i < n; ++i) {
        if (gains[3 * i + 2] != 0) return Side::TURNED;
        is_middle &= gains[3 * i] == gains[3 * i + 1];
    }
    return is_middle ? Side::MIDDLE : Side::SIDES;
}

// Where amplitudes and pitch both run straight: amplitudes since a knot, the phase of the block's sample 0, and how far it
// turns with each sample.
struct Straight {
    double knot, per_sample, turn, base_phase;
};

// W partials. A magic circle (x -= e y, y += e x: two operations a sample) is only well-conditioned up to a quarter of the
// sample rate, so higher partials are turned down by half the sample rate, and every other of their samples is negated.
struct alignas(64) Group {
    float from[W], slope[W], level[W], rotation[W];  // 2 sin(w/2) for a partial of w radians per sample
    float stretch[W], sign[W];                       // 1 / cos(w/2)
    int32_t step[W], phase[W];
    double frequency[W];
    bool is_folded;
};

// Gives whether any of them is heard.
inline bool set_up(Group &group, const double *__restrict ratios, const float *__restrict from,
                   const float *__restrict to, float floor, const Straight &way) {
    const float per_sample = (float)way.per_sample;
    int heard = 0, folded = 0;
    for (int i = 0; i < W; ++i) {
        const double frequency = ratios[i] * way.turn, size = fabs(frequency);
        const int is_heard = (int)!((from[i] < floor) & (to[i] < floor)) & (int)(size < 0.5);
        const int is_high = (int)(size > 0.25);
        group.from[i] = is_heard ? from[i] : 0;
        group.slope[i] = is_heard ? (to[i] - from[i]) * per_sample : 0;
        group.sign[i] = is_high ? -1.0f : 1.0f;
        const double turned = frequency - (is_high ? copysign(0.5, frequency) : 0.0);
        group.frequency[i] = is_heard ? turned : 0.0;
        heard |= is_heard, folded |= is_heard & is_high;
    }
    group.is_folded = folded;
    if (!heard) return false;
    for (int i = 0; i < W; ++i) group.rotation[i] = rotation(group.frequency[i]);
    for (int i = 0; i < W; ++i) group.stretch[i] = 1 / sqrtf(1 - 0.25f * group.rotation[i] * group.rotation[i]);
    for (int i = 0; i < W; ++i) group.step[i] = (int32_t)(group.frequency[i] * CYCLE);
    return true;
}

// Phases and amplitudes at a sample of the block.
inline void start(Group &group, const double *__restrict ratios, const float *__restrict offsets, const Straight &way,
                  int64_t sample) {
    const double phase = way.base_phase + way.turn * (double)sample;
    const float since = (float)((double)sample - way.knot);
    for (int i = 0; i < W; ++i) group.phase[i] = to_phase(ratios[i] * phase + (double)offsets[i]);
    for (int i = 0; i < W; ++i) group.level[i] = group.from[i] + group.slope[i] * since;
}

// W partials for n samples, at most PIECE of them.
template <Side side, bool is_folded>
inline void run(const Group &group, const Heard &heard, int64_t at, int n, Floats *__restrict left, Floats *__restrict right) {
    constexpr bool is_middle = side == Side::MIDDLE;
    const Words phase = *(const Words *)group.phase, step = *(const Words *)group.step;
    const Floats e = *(const Floats *)group.rotation, sign = *(const Floats *)group.sign;
    const Floats to_left = load(heard.left + at), to_right = load(heard.right + at);
    const Floats weight = is_middle ? to_left : sign * sign;  // in the middle it goes into the amplitude
    const Floats level = *(const Floats *)group.level * weight, grade = *(const Floats *)group.slope * weight;
    const int stretch = n / STREAMS;
    Floats x[STREAMS], y[STREAMS], a[STREAMS], slope[STREAMS];
    y[0] = sine(phase);
    x[0] = sine(phase - half_of(step) + QUARTER);  // half a sample behind, as the recurrence wants it
    a[0] = level;
    slope[0] = grade;
    const Words turn = step * (uint32_t)stretch;
    const Floats across = sine(turn) * *(const Floats *)group.stretch, along = sine(turn + QUARTER);
    const Floats skew = across * (e * 0.5f), to_x = along + skew, to_y = along - skew;  // that many rotations at once
    // the cosine is (x - y sin(w/2)) / cos(w/2)
    Floats from_x = to_right, from_y = to_right;
    if (side == Side::TURNED) {
        from_x = load(heard.ahead + at) * *(const Floats *)group.stretch;
        from_y = to_right - from_x * (e * 0.5f);
    }
    const Floats turned = is_folded && stretch % 2 ? sign : sign * sign;
    MIAO_UNROLL
    for (int v = 1; v < STREAMS; ++v) {
        x[v] = x[v - 1] * to_x - y[v - 1] * across;
        y[v] = y[v - 1] * to_y + x[v - 1] * across;
        a[v] = level + grade * (float)(v * stretch);
        slope[v] = grade;
        if (is_folded && v % 2) a[v] = a[v] * turned, slope[v] = slope[v] * turned;
    }
    const auto add = [&](int v, int s) {
        if (is_middle) {
            left[s] = left[s] + a[v] * y[v];
        } else if (side == Side::SIDES) {
            const Floats z = a[v] * y[v];
            left[s] = left[s] + to_left * z;
            right[s] = right[s] + to_right * z;
        } else {
            left[s] = left[s] + to_left * (a[v] * y[v]);
            right[s] = right[s] + a[v] * (from_y * y[v] + from_x * x[v]);
        }
        if (is_folded) {
            slope[v] = slope[v] * sign;
            a[v] = a[v] * sign + slope[v];
        } else {
            a[v] = a[v] + grade;
        }
        x[v] = x[v] - e * y[v];
        y[v] = y[v] + e * x[v];
    };
    for (int s = 0; s < stretch; ++s) {
        MIAO_UNROLL
        for (int v = 0; v < STREAMS; ++v) add(v, v * stretch + s);
    }
    for (int s = STREAMS * stretch; s < n; ++s) add(STREAMS - 1, s);  // the last one goes on
}

template <Side side>
inline void run(const Group &group, const Heard &heard, int64_t at, int n, Floats *left, Floats *right) {
    group.is_folded ? run<side, true>(group, heard, at, n, left, right) : run<side, false>(group, heard, at, n, left, right);
}

// A note's partials in some samples of the block, which begins at sample `origin` in the rows.
inline void add_straight(Rows &rows, const Heard &heard, const float *from, const float *to, float floor,
                         const Straight &way, Range range, int64_t origin) {
    const bool is_middle = heard.side == Side::MIDDLE;
    rows.use(is_middle);
    Group group;
    for (int64_t at = 0; at < heard.padded; at += W) {
        const double *ratios = heard.ratios + at;
        if (!set_up(group, ratios, from + at, to + at, floor, way)) continue;
        const int64_t n_pieces = (range.last - range.first + PIECE - 1) / PIECE;
        for (int64_t first = range.first, left = n_pieces; left > 0; --left) {
            const int n = (int)((range.last - first + left - 1) / left);
            start(group, ratios, heard.offsets + at, way, first);
            Floats *l = (is_middle ? rows.middle : rows.left) + (first - origin), *r = rows.right + (first - origin);
            if (heard.side == Side::MIDDLE)
                run<Side::MIDDLE>(group, heard, at, n, l, r);
            else if (heard.side == Side::SIDES)
                run<Side::SIDES>(group, heard, at, n, l, r);
            else
                run<Side::TURNED>(group, heard, at, n, l, r);
            first += n;
        }
    }
}

// Where a note stands on its way through a block: the first stretch of its amplitudes, and of its pitch, not yet passed.
struct Place {
    int64_t k = 0, j = 0;
};

// Calls `each` (stretch of amplitudes, way, samples) for all that runs straight within some samples of the block.
template <class Each>
inline void each_straight(int64_t n_knots, const double *knots, int64_t n_pitch_knots, const double *pitch_knots,
                          const double *phase, Place &place, int64_t first, int64_t last, const Each &each) {
    const auto within = [&](double begin, double end) {
        const Range range = samples_between(begin, end, last);
        return Range{range.first > first ? range.first : first, range.last};
    };
    int64_t &k = place.k, &j = place.j;
    for (; k + 1 < n_knots; ++k) {
        const double begin = knots[k], end = knots[k + 1];
        if (begin >= (double)last) return;
        if (end > (double)first) {
            while (j + 2 < n_pitch_knots && pitch_knots[j + 1] <= begin) ++j;
            for (int64_t i = j; i + 1 < n_pitch_knots && pitch_knots[i] < end; ++i) {
                const double from = pitch_knots[i], to = pitch_knots[i + 1];
                const Range range = within(from > begin ? from : begin, to < end ? to : end);
                if (range.first >= range.last) continue;
                const double turn = (phase[i + 1] - phase[i]) / (to - from > 1e-9 ? to - from : 1e-9);
                each(k, Straight{begin, 1 / (end - begin), turn, phase[i] - turn * from}, range);
            }
        }
        if (end > (double)last) return;
    }
}

void add_partials(const Block &block, const Partials &note, void *scratch) {
    const int64_t n = note.n_partials, padded = in_lanes(n);
    double *ratios = (double *)scratch;
    float *offsets = (float *)(ratios + padded), *left = offsets + padded, *right = left + padded;
    float *amplitudes = right + padded;
    memset(scratch, 0, (size_t)padded * 20);
    for (int64_t p = 0; p < n; ++p) {
        ratios[p] = note.ratios[p], offsets[p] = note.offsets[p];
        left[p] = note.gains[2 * p], right[p] = note.gains[2 * p + 1];
    }
    for (int64_t k = 0; k < note.n_knots; ++k)
        for (int64_t p = 0; p < padded; ++p) amplitudes[k * padded + p] = p < n ? note.amplitudes[k * n + p] : 0;
    const bool is_middle = lies_in_the_middle(note.gains, n);
    const Heard heard{padded, ratios, offsets, left, right, nullptr, is_middle ? Side::MIDDLE : Side::SIDES};
    const float floor = note.floor > 0 ? note.floor : 1e-30f;  // so that what pads the lanes is never heard
    Rows rows;
    Place place;
    for (int64_t first = 0; first < block.n_samples; first += SAMPLES) {
        const int64_t last = first + SAMPLES < block.n_samples ? first + SAMPLES : block.n_samples;
        rows.begin((int)(last - first));
        each_straight(note.n_knots, note.knots, note.n_pitch_knots, note.pitch_knots, note.phase, place, first, last,
                      [&](int64_t k, const Straight &way, Range range) {
                          const float *from = amplitudes + k * padded;
                          add_straight(rows, heard, from, from + padded, floor, way, range, first);
                      });
        rows.finish(block.left + first, block.right + first);
    }
}

}  // namespace
