// Notes from their levels: which partials and noise bands are heard of each, their amplitudes, and the sound of them all.
// Compiled once per processor kind, as VARIANT.
#include "_partials.h"
#include "_together.h"

namespace {

// A note on its way through a block: what is heard of it in a window of knots, and how loud.
struct Sounding {
    const NotePart *note;
    Side side;
    float least;  // level below which nothing is heard
    Place place;
    int64_t first, last;  // knots of the window
    int64_t heard, padded;
    double *ratios;
    float *offsets, *left, *right, *ahead, *shares, *amplitudes;  // [WINDOW + 1, padded]
    int32_t *cells;
};

// Its window is still empty.
inline Sounding begin_partials(const NotePart &note, float least, char *&scratch) {
    Sounding sounding;
    sounding.note = &note;
    sounding.side = side_of(note.gains, note.n_partials);
    sounding.least = least;
    sounding.first = sounding.last = sounding.heard = sounding.padded = 0;
    const int64_t most = note.n_partials + miao::MOST_LANES;
    sounding.ratios = (double *)give(scratch, most * 8);
    sounding.offsets = (float *)give(scratch, most * 4);
    sounding.left = (float *)give(scratch, most * 4);
    sounding.right = (float *)give(scratch, most * 4);
    sounding.ahead = (float *)give(scratch, most * 4);
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
        sounding.left[heard] = note.factor * note.gains[3 * p];
        sounding.right[heard] = note.factor * note.gains[3 * p + 1];
        sounding.ahead[heard] = note.factor * note.gains[3 * p + 2];
        ++heard;
    }
    sounding.heard = heard, sounding.padded = in_lanes(heard);
    for (int64_t p = heard; p < sounding.padded; ++p)
        sounding.ratios[p] = sounding.offsets[p] = sounding.left[p] = sounding.right[p] = sounding.ahead[p] = 0;
    for (int64_t row = k; heard && row <= sounding.last; ++row) {
        float *to = sounding.amplitudes + (row - k) * sounding.padded;
        amplitudes_at(note, scale, row, heard, to, [&](const float *levels, int64_t p) {
            const float low = levels[sounding.cells[p]], high = levels[sounding.cells[p] + 1];
            return low + sounding.shares[p] * (high - low);
        });
        for (int64_t p = heard; p < sounding.padded; ++p) to[p] = -1;  // below any floor
    }
}

static_assert(sizeof(Rows) + sizeof(Together) + miao::MOST_CELLS * 4 + 512 <= miao::SHARED_BYTES, "too little memory");

// Notes from their levels, all together.
void add_notes(const Block &block, const NotePart *notes, int64_t n_notes, const Loops &loops, int64_t begin, bool is_extra,
               const Scale &scale, void *memory) {
    char *scratch = (char *)memory;
    scratch += (64 - (intptr_t)scratch % 64) % 64;
    Rows &rows = *(Rows *)give(scratch, sizeof(Rows));
    Together &together = *(Together *)give(scratch, (sizeof(Together) + 63) / 64 * 64);
    float *highest = (float *)give(scratch, miao::MOST_CELLS * 4);
    Sounding *sounding = (Sounding *)give(scratch, (n_notes * (int64_t)sizeof(Sounding) + 63) / 64 * 64);
    Hissing *hissing = (Hissing *)give(scratch, (n_notes * (int64_t)sizeof(Hissing) + 63) / 64 * 64);
    const float least = (log2f(scale.floor) - scale.silent) / scale.octaves;  // level below which nothing is heard
    int64_t n_sounding = 0, n_hissing = 0;
    together.begin(loops, is_extra);
    for (int64_t i = 0; i < n_notes; ++i) {
        if (notes[i].n_knots < 2) continue;
        hissing[n_hissing++] = begin_noise(together, notes[i], loops, scratch);
        if (notes[i].factor != 0) sounding[n_sounding++] = begin_partials(notes[i], least, scratch);
    }
    for (int64_t first = 0, last; first < block.n_samples; first = last) {
        last = first + SAMPLES - ((begin + first) % SAMPLES + SAMPLES) % SAMPLES;  // at whole places, in any block
        if (last > block.n_samples) last = block.n_samples;
        rows.begin((int)(last - first));
        for (int64_t i = 0; i < n_sounding; ++i) {
            Sounding &one = sounding[i];
            const NotePart &note = *one.note;
            each_straight(note.n_knots, note.knots, note.n_pitch_knots, note.pitch_knots, note.phase, one.place, first,
                          last, [&](int64_t k, const Straight &way, Range range) {
                if (k >= one.last) look(one, scale, k, highest);
                if (!one.heard) return;
                const float *from = one.amplitudes + (k - one.first) * one.padded;
                const Heard heard{one.padded, one.ratios, one.offsets, one.left, one.right, one.ahead, one.side};
                add_straight(rows, heard, from, from + one.padded, scale.floor, way, range, first);
            });
        }
        rows.finish(block.left + first, block.right + first);
        together.look(begin + first, begin + last, begin);
        for (int64_t i = 0; i < n_hissing; ++i) add_powers(together, hissing[i], loops, scale, least);
        together.finish({block.left + first, block.right + first, last - first}, loops, begin + first, scale.floor);
    }
}

}  // namespace

#define MIAO_TEXT_(name) #name
#define MIAO_TEXT(name) MIAO_TEXT_(name)
const miao::Variant miao::VARIANT = {MIAO_TEXT(VARIANT), add_partials, add_notes};
