// The noise of all notes of a part: one noise, whose power in each band is the sum of theirs.
#pragma once

#include "_levels.h"
#include "_partials.h"

namespace {

constexpr int64_t GRID = 32;  // samples from one moment to the next; in between gains run straight
constexpr int MOMENTS = SAMPLES / GRID + 2;

constexpr int LINE = 16, AHEAD = 6 * GRID;  // samples of a loop that come to the processor together, and so far ahead

inline void fetch(const float *from) {  // more loops than a processor follows by itself
#if defined(__GNUC__)
    __builtin_prefetch(from);
#else
    (void)from;
#endif
}

// What is heard on the left, on the right of what sounds from the middle, and on the right of what is wide.
enum Way { LEFT, RIGHT, OTHER, N_WAYS };

// The powers of all notes at the moments that a stretch of samples is told by, and the gains that these are.
//
// Up to a moment gains run to what they were at the moment before: they never tell of what is still to come.
struct Together {
    alignas(64) float powers[N_WAYS][MOMENTS][miao::MOST_BANDS], sent[N_WAYS][MOMENTS][miao::MOST_BANDS];
    double places[MOMENTS];  // of the moments, in samples of the block
    int64_t first, padded;   // moment; bands in whole lanes
    int n;
    bool is_extra, is_heard, has_sides, has_wide, has_middle;

    void begin(const Loops &loops, bool extra) {
        is_extra = extra, has_sides = has_wide = has_middle = false;
        padded = in_lanes(loops.n_bands);
    }

    // The moments for the samples from one to another.
    void look(int64_t from, int64_t to, int64_t block_begin) {
        first = (from - ((from % GRID) + GRID) % GRID) / GRID - 1;
        n = 0;
        for (int64_t moment = first; moment * GRID < to; ++moment) places[n++] = (double)(moment * GRID - block_begin);
        is_heard = false;
    }

    void clear() {
        for (int way = 0; way < N_WAYS; ++way) {
            memset(powers[way], 0, sizeof powers[way][0] * (size_t)n);
            if (is_extra) memset(sent[way], 0, sizeof sent[way][0] * (size_t)n);
        }
        is_heard = true;
    }

    // Their sound in a stretch that begins at sample `from`.
    void finish(const Block &out, const Loops &loops, int64_t from, float floor) {
        if (!is_heard) return;
        const auto add = [&](Way way, int channel, float *to, float *also) {
            for (int m = 0; m < n; ++m) {
                float *__restrict gains = powers[way][m], *__restrict more = sent[way][m];
                for (int64_t b = 0; b < padded; b += W)
                    for (int i = 0; i < W; ++i) gains[b + i] = sqrtf(gains[b + i]);
                for (int64_t b = 0; is_extra && b < padded; b += W)
                    for (int i = 0; i < W; ++i) gains[b + i] = sqrtf(more[b + i]) - gains[b + i];
            }
            add_loops(powers[way], channel, to, also, out.n_samples, loops, from, floor);
        };
        add(LEFT, 0, out.left, has_sides ? nullptr : out.right);
        if (has_sides && has_middle) add(RIGHT, 0, out.right, nullptr);
        if (has_wide) add(OTHER, 1, out.right, nullptr);
    }

    // The loops of all bands with their gains at the moments, each of which counts a step later.
    void add_loops(const float (*gains)[miao::MOST_BANDS], int channel, float *to, float *also, int64_t n_samples,
                   const Loops &loops, int64_t from, float floor) const {
        constexpr int R = GRID / W;
        const float *read[miao::MOST_BANDS];  // of the loops that do not come to their end here, from sample `from` on
        int whole[miao::MOST_BANDS], broken[miao::MOST_BANDS], n_whole = 0, n_broken = 0;
        const int64_t mask = loops.n_table - 1;
        for (int b = 0; b < loops.n_bands; ++b) {
            float highest = 0;
            for (int m = 0; m < n; ++m) highest = fabsf(gains[m][b]) > highest ? fabsf(gains[m][b]) : highest;
            if (highest < floor) continue;
            const int64_t at = (loops.places[2 * b + channel] + from) & mask;
            read[b] = loops.table + b * loops.n_table + at;
            (at + n_samples <= loops.n_table ? whole[n_whole++] : broken[n_broken++]) = b;
        }
        alignas(64) float ramp[GRID];
        for (int s = 0; s < GRID; ++s) ramp[s] = (float)s / GRID;
        for (int m = 0; m + 1 < n; ++m) {
            const int64_t begin = (first + 1 + m) * GRID - from;
            const float *low = gains[m], *high = gains[m + 1];
            const bool is_whole = begin >= 0 && begin + GRID <= n_samples;
            if (is_whole) {
                Floats sum[R];
                MIAO_UNROLL
                for (int k = 0; k < R; ++k) sum[k] = load(to + begin + k * W) * 0.0f;
                for (int i = 0; i < n_whole; ++i) {
                    const int b = whole[i];
                    const float *samples = read[b] + begin, base = low[b], rise = high[b] - base;
                    for (int k = 0; k < GRID; k += LINE) fetch(samples + AHEAD + k);
                    MIAO_UNROLL
                    for (int k = 0; k < R; ++k)
                        sum[k] = sum[k] + (load(ramp + k * W) * rise + base) * load(samples + k * W);
                }
                MIAO_UNROLL
                for (int k = 0; k < R; ++k) {
                    Floats both = load(to + begin + k * W) + sum[k];
                    memcpy(to + begin + k * W, &both, sizeof both);
                    if (!also) continue;
                    both = load(also + begin + k * W) + sum[k];
                    memcpy(also + begin + k * W, &both, sizeof both);
                }
            }
            const auto add_one = [&](int b) {
                const float *loop = loops.table + b * loops.n_table;
                for (int s = 0; s < GRID; ++s) {
                    if (begin + s < 0 || begin + s >= n_samples) continue;
                    const float sample = loop[(loops.places[2 * b + channel] + from + begin + s) & mask];
                    const float added = (ramp[s] * (high[b] - low[b]) + low[b]) * sample;
                    to[begin + s] += added;
                    if (also) also[begin + s] += added;
                }
            };
            for (int i = 0; i < n_broken; ++i) add_one(broken[i]);
            for (int i = 0; i < n_whole && !is_whole; ++i) add_one(whole[i]);
        }
    }
};

// A note whose bands go into the powers of all.
struct Hissing {
    const NotePart *note;
    bool is_quiet;  // throughout the window
    int64_t k, first, last;
    float *amplitudes, *left, *right;  // [WINDOW + 1, MOST_BANDS], squares of the balance [MOST_BANDS]
};

inline Hissing begin_noise(Together &together, const NotePart &note, const Loops &loops, char *&scratch) {
    Hissing hissing;
    hissing.note = &note;
    hissing.k = hissing.first = hissing.last = 0;
    hissing.is_quiet = true;
    hissing.amplitudes = (float *)give(scratch, (WINDOW + 1) * miao::MOST_BANDS * 4);
    hissing.left = (float *)give(scratch, miao::MOST_BANDS * 4);
    hissing.right = (float *)give(scratch, miao::MOST_BANDS * 4);
    memset(hissing.left, 0, 2 * miao::MOST_BANDS * 4);
    for (int64_t b = 0; b < loops.n_bands; ++b) {
        hissing.left[b] = note.balance[2 * b] * note.balance[2 * b];
        hissing.right[b] = note.balance[2 * b + 1] * note.balance[2 * b + 1];
    }
    if (note.is_wide)
        together.has_wide = together.has_sides = true;
    else
        together.has_middle = true;
    if (!lies_in_the_middle(note.balance, loops.n_bands)) together.has_sides = true;
    return hissing;
}

// The powers of gains between two rows, so many times as loud.
inline void add_squares(float *__restrict left, float *__restrict right, const float *from, const float *to, float share,
                        float factor, const Hissing &hissing, int64_t padded) {
    for (int64_t at = 0; at < padded; at += W) {
        const Floats low = load(from + at), gain = (low + (load(to + at) - low) * share) * factor, power = gain * gain;
        const Floats l = load(left + at) + power * load(hissing.left + at);
        const Floats r = load(right + at) + power * load(hissing.right + at);
        memcpy(left + at, &l, sizeof l);
        memcpy(right + at, &r, sizeof r);
    }
}

inline void add_powers(Together &together, Hissing &hissing, const Loops &loops, const Scale &scale, float least) {
    const NotePart &note = *hissing.note;
    const int64_t first_band = note.n_cells - 1 - loops.n_bands, last_knot = note.n_knots - 1;
    const double *knots = note.knots;
    int64_t &k = hissing.k;
    while (k > 0 && knots[k] > together.places[0]) --k;  // stretches tell of the same moments as the ones before
    for (int m = 0; m < together.n; ++m) {
        const double place = together.places[m];
        if (place < knots[0]) continue;
        if (place >= knots[last_knot]) return;
        while (knots[k + 1] <= place) ++k;
        if (k < hissing.first || k >= hissing.last) {
            hissing.first = k;
            hissing.last = k + WINDOW < last_knot ? k + WINDOW : last_knot;
            hissing.is_quiet = true;
            for (int64_t row = whole_row(note, k); row <= hissing.last; ++row)
                for (int64_t b = 0; b < loops.n_bands; ++b) hissing.is_quiet &= note.rows[row][first_band + b] < least;
            for (int64_t row = k; !hissing.is_quiet && row <= hissing.last; ++row) {
                float *to = hissing.amplitudes + (row - k) * miao::MOST_BANDS;
                memset(to, 0, miao::MOST_BANDS * 4);
                amplitudes_at(note, scale, row, loops.n_bands, to,
                              [&](const float *levels, int64_t b) { return levels[first_band + b]; });
            }
        }
        if (hissing.is_quiet) continue;
        if (!together.is_heard) together.clear();
        const float share = (float)((place - knots[k]) / (knots[k + 1] - knots[k]));
        const float *from = hissing.amplitudes + (k - hissing.first) * miao::MOST_BANDS, *to = from + miao::MOST_BANDS;
        const Way way = note.is_wide ? OTHER : RIGHT;
        const auto add = [&](float (*powers)[MOMENTS][miao::MOST_BANDS], float factor) {
            add_squares(powers[LEFT][m], powers[way][m], from, to, share, factor, hissing, together.padded);
        };
        add(together.powers, 1);
        if (together.is_extra) add(together.sent, 1 + note.factor);
    }
}

}  // namespace
