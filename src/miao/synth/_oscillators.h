// The hot loops, as compiled once for each kind of processor (see CMakeLists.txt). Arguments as in oscillators.py.
#pragma once

#include <cstdint>

namespace miao {

struct Block {  // where samples are added
    float *left, *right;
    int64_t n_samples;
};

struct Partials {
    int64_t n_knots, n_pitch_knots, n_partials;
    const double *knots;                // [n]
    const double *pitch_knots, *phase;  // [m]
    const float *amplitudes;       // [n, P]
    const double *ratios;          // [P]
    const float *offsets, *gains;  // [P], [P, 2]
    float floor;
};

struct Scale {  // of levels: an amplitude is 2 ^ (silent + octaves * level), and 0 below half a level
    float silent, octaves;
    float floor;  // amplitudes below are left out
};

struct NotePart {
    int64_t n_knots, n_pitch_knots, n_cells, n_partials;
    const double *knots;                     // [n]
    const double *pitch_knots, *phase;       // [m]
    const float *const *rows;                // [n] of n_cells levels: partial cells, n_bands, how far it was reached
    const double *ratios;                    // [P]
    const int32_t *cells;                    // [P] the lower of the two neighbouring cells that set a partial's level
    const float *shares, *offsets, *gains;   // [P] of the upper cell, [P], [P, 3]
    const float *balance;                    // [N, 2] of the noise bands
    bool is_wide;                            // each side has a noise of its own
    float factor;                            // of all its gains
};

struct Loops {  // of noise, which all notes of a part read together
    int64_t n_bands, n_table;
    const float *table;     // [N, M]
    const int64_t *places;  // [N, 2] read at sample 0; the second ones by the right side of what is wide
};

constexpr int64_t MOST_LANES = 16;   // of any variant
constexpr int64_t MOST_CELLS = 1024;
constexpr int64_t MOST_BANDS = 64;
constexpr int64_t PAST = 64;  // samples before a block of which its noise tells: knots are kept so long

// The memory that `add_notes` works in: for all notes together, and for each of them.
constexpr int64_t SHARED_BYTES = 3 * 512 * 4 * MOST_LANES + 4 * MOST_CELLS + 40960;
inline int64_t scratch_bytes(int64_t n_partials) { return 1024 + (n_partials + MOST_LANES) * 68 + MOST_BANDS * 44; }
inline int64_t scratch_bytes(const Partials &note) {
    const int64_t padded = note.n_partials + MOST_LANES;
    return padded * (20 + 4 * note.n_knots) + 64;
}

struct Variant {
    const char *name;
    void (*add_partials)(const Block &, const Partials &, void *scratch);
    // `begin` is the block's first sample. Instead of what notes add, `is_extra` adds what the room gets beyond that, where
    // their factors are by how much more of each is sent there.
    void (*add_notes)(const Block &, const NotePart *, int64_t n_notes, const Loops &, int64_t begin, bool is_extra,
                      const Scale &, void *scratch);
};

extern const Variant plain, avx2, avx512;

}  // namespace miao
