// Notes from their levels: which partials and noise bands are heard of each, their amplitudes, and the sound of them all.
// Compiled once per processor kind, as VARIANT.
#include "_noise.h"
#include "_partials.h"

namespace {

constexpr int WINDOW = 8;  // stretches between knots for which it is found out at once what is heard

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

// The last row at or before k that was reached.
inline int64_t whole_row(const NotePart &note, int64_t k) {
    while (k > 0 && note.rows[k][note.n_cells - 1] != 1) --k;
    return k;
}

// The amplitudes of some levels of row k, where `level(row, i)` gives them: on the line from the row before, where it was
// left on the way.
template <class Level>
inline void amplitudes_at(const NotePart &note, const Scale &scale, int64_t k, int64_t n, float *__restrict to,
                          const Level &level) {
    for (int64_t first = whole_row(note, k); first <= k; ++first) {
        const float *row = note.rows[first];
        const float share = first ? row[note.n_cells - 1] : 1;
        if (share == 1) {
            for (int64_t i = 0; i < n; ++i) to[i] = level(row, i);
            for (int64_t i = 0; i < n; ++i) {
                const float amplitude = power_of_two(scale.silent + scale.octaves * to[i]);
                to[i] = to[i] < 0.5f ? 0.0f : amplitude;
            }
        } else {
            for (int64_t i = 0; i < n; ++i) {
                const float own = level(row, i), amplitude = power_of_two(scale.silent + scale.octaves * own);
                to[i] = share * (own < 0.5f ? 0.0f : amplitude) + (1 - share) * to[i];
            }
        }
    }
}

// The loudest level of each cell from one row to another.
inline void find_highest(const NotePart &note, int64_t first, int64_t last, float *__restrict highest) {
    memcpy(highest, note.rows[first], (size_t)note.n_cells * sizeof(float));
    for (int64_t k = first + 1; k <= last; ++k) {
        const float *row = note.rows[k];
        for (int64_t c = 0; c < note.n_cells; ++c) highest[c] = row[c] > highest[c] ? row[c] : highest[c];
    }
}

// A note on its way through a block: what is heard of it in a window of knots, and how loud.
struct Sounding {
    const NotePart *note;
    bool is_middle;
    float floor, least;  // amplitude and level below which nothing is heard
    Place place;
    int64_t first, last;  // knots of the window
    int64_t heard, padded;
    double *ratios;
    float *offsets, *left, *right, *shares, *amplitudes;  // [WINDOW + 1, padded]
    int32_t *cells;
};

inline int64_t window_bytes(const NotePart &note) {
    const int64_t partials = note.n_partials + miao::MOST_LANES;
    return 64 + partials * (8 + 5 * 4) + (WINDOW + 1) * partials * 4;
}

inline void *give(char *&scratch, int64_t bytes) {
    void *at = scratch;
    scratch += bytes;
    return at;
}

// What of a note may be heard, its window still empty.
inline Sounding begin(const NotePart &note, const Scale &scale, float *highest, char *&scratch) {
    Sounding sounding;
    sounding.note = &note;
    sounding.is_middle = lies_in_the_middle(note.gains, note.n_partials);
    sounding.first = sounding.last = sounding.heard = sounding.padded = 0;
    float masked = 0;
    if (scale.masked > 0) {
        float loudest = 0;
        find_highest(note, 0, note.n_knots - 1, highest);
        for (int64_t c = 0; c < note.n_cells - 1; ++c) loudest = highest[c] > loudest ? highest[c] : loudest;
        masked = loudest < 0.5f ? 0 : scale.masked * power_of_two(scale.silent + scale.octaves * loudest);
    }
    sounding.floor = masked > scale.floor ? masked : scale.floor;
    sounding.least = (log2f(sounding.floor) - scale.silent) / scale.octaves;
    const int64_t most = note.n_partials + miao::MOST_LANES;
    sounding.ratios = (double *)give(scratch, most * 8);
    sounding.offsets = (float *)give(scratch, most * 4);
    sounding.left = (float *)give(scratch, most * 4);
    sounding.right = (float *)give(scratch, most * 4);
    sounding.shares = (float *)give(scratch, most * 4);
    sounding.cells = (int32_t *)give(scratch, most * 4);
    sounding.amplitudes = (float *)give(scratch, (WINDOW + 1) * most * 4);
    scratch += (64 - (intptr_t)scratch % 64) % 64;
    return sounding;
}

// The window begins with stretch k.
inline void look(Sounding &sounding, const Scale &scale, int64_t k, float *highest) {
    const NotePart &note = *sounding.note;
    sounding.first = k;
    sounding.last = k + WINDOW < note.n_knots - 1 ? k + WINDOW : note.n_knots - 1;
    find_highest(note, whole_row(note, k), sounding.last, highest);
    int64_t heard = 0;
    for (int64_t p = 0; p < note.n_partials; ++p) {
        const int32_t cell = note.cells[p];
        const float share = note.shares[p];
        if (!((share < 1 && highest[cell] >= sounding.least) || (share > 0 && highest[cell + 1] >= sounding.least)))
            continue;
        sounding.ratios[heard] = note.ratios[p];
        sounding.cells[heard] = cell;
        sounding.shares[heard] = share;
        sounding.offsets[heard] = note.offsets[p];
        sounding.left[heard] = note.gains[2 * p];
        sounding.right[heard] = note.gains[2 * p + 1];
        ++heard;
    }
    sounding.heard = heard, sounding.padded = in_lanes(heard);
    for (int64_t p = heard; p < sounding.padded; ++p)
        sounding.ratios[p] = sounding.offsets[p] = sounding.left[p] = sounding.right[p] = 0;
    for (int64_t row = k; heard && row <= sounding.last; ++row) {
        float *to = sounding.amplitudes + (row - k) * sounding.padded;
        amplitudes_at(note, scale, row, heard, to, [&](const float *levels, int64_t p) {
            const float low = levels[sounding.cells[p]], high = levels[sounding.cells[p] + 1];
            return low + sounding.shares[p] * (high - low);
        });
        for (int64_t p = heard; p < sounding.padded; ++p) to[p] = -1;  // below any floor
    }
}

// A note's noise bands in the whole block.
void add_note_noise(const Block &block, const NotePart &note, const Scale &scale, const Sounding &sounding, float *highest,
                    char *scratch) {
    if (!has_origin(note.n_knots, note.knots)) return;
    const int64_t first_band = note.n_cells - 1 - note.n_bands;
    const Spread spread = spread_of(note.balance, note.noise_offsets, note.n_bands);
    int64_t *which = (int64_t *)give(scratch, note.n_bands * 8);
    float *gains = (float *)scratch;  // [WINDOW + 1, AT_ONCE at most]
    for (int64_t k = 0; k + 1 < note.n_knots; k += WINDOW) {
        const int64_t last = k + WINDOW < note.n_knots - 1 ? k + WINDOW : note.n_knots - 1;
        if (note.knots[last] <= 0) continue;
        if (note.knots[k] >= (double)block.n_samples) break;
        find_highest(note, whole_row(note, k), last, highest);
        int64_t n_heard = 0;
        for (int64_t b = 0; b < note.n_bands; ++b)
            if (highest[first_band + b] >= sounding.least) which[n_heard++] = b;
        for (int64_t done = 0; done < n_heard; done += AT_ONCE) {
            const int64_t n = n_heard - done < AT_ONCE ? n_heard - done : AT_ONCE;
            const Bands bands{n, which + done, note.table, note.n_table, note.balance, note.noise_offsets,
                              (int64_t)ceil(note.knots[0]), spread};
            for (int64_t row = k; row <= last; ++row)
                amplitudes_at(note, scale, row, n, gains + (row - k) * n, [&](const float *levels, int64_t b) {
                    return levels[first_band + bands.which[b]];
                });
            for (int64_t row = k; row < last; ++row) {
                const double begin = note.knots[row], end = note.knots[row + 1];
                const Range range = samples_between(begin, end, block.n_samples);
                const float *from = gains + (row - k) * n;
                if (range.first < range.last)
                    add_bands_between(block, bands, from, from + n, sounding.floor, begin, 1 / (end - begin), range);
            }
        }
    }
}

// Notes from their levels, all together.
void add_notes(const Block &block, const NotePart *notes, int64_t n_notes, const Scale &scale, void *memory) {
    char *scratch = (char *)memory;
    scratch += (64 - (intptr_t)scratch % 64) % 64;
    Rows &rows = *(Rows *)give(scratch, sizeof(Rows));
    float *highest = (float *)give(scratch, miao::MOST_CELLS * 4);
    Sounding *sounding = (Sounding *)give(scratch, (n_notes * (int64_t)sizeof(Sounding) + 63) / 64 * 64);
    int64_t n_sounding = 0;
    char *rest = scratch;
    for (int64_t i = 0; i < n_notes; ++i) {
        if (notes[i].n_knots < 2) continue;
        sounding[n_sounding] = begin(notes[i], scale, highest, rest);
        add_note_noise(block, notes[i], scale, sounding[n_sounding++], highest, rest);
    }
    for (int64_t first = 0; first < block.n_samples; first += SAMPLES) {
        const int64_t last = first + SAMPLES < block.n_samples ? first + SAMPLES : block.n_samples;
        rows.begin((int)(last - first));
        for (int64_t i = 0; i < n_sounding; ++i) {
            Sounding &one = sounding[i];
            const NotePart &note = *one.note;
            each_straight(note.n_knots, note.knots, note.n_pitch_knots, note.pitch_knots, note.phase, one.place, first,
                          last, [&](int64_t k, const Straight &way, Range range) {
                if (k >= one.last) look(one, scale, k, highest);
                if (!one.heard) return;
                const float *from = one.amplitudes + (k - one.first) * one.padded;
                const Heard heard{one.padded, one.ratios, one.offsets, one.left, one.right, one.is_middle};
                add_straight(rows, heard, from, from + one.padded, one.floor, way, range, first);
            });
        }
        rows.finish(block.left + first, block.right + first);
    }
}

}  // namespace

#define MIAO_TEXT_(name) #name
#define MIAO_TEXT(name) MIAO_TEXT_(name)
const miao::Variant miao::VARIANT = {MIAO_TEXT(VARIANT), add_partials, add_noise, add_notes};
