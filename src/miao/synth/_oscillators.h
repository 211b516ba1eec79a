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

struct Noise {
    int64_t n_knots, n_bands, n_table;
    const double *knots;                   // [n]
    const float *gains, *balance, *table;  // [n, N], [N, 2], [N, M]
    const int64_t *offsets;                // [N, 2]
    float floor;
};

struct Scale {  // of levels: an amplitude is 2 ^ (silent + octaves * level), and 0 below half a level
    float silent, octaves;
    float floor, masked;  // what is left out: amplitudes below a floor, or below this share of the note's loudest
};

struct NotePart {
    int64_t n_knots, n_pitch_knots, n_cells, n_partials, n_bands, n_table;
    const double *knots;                     // [n]
    const double *pitch_knots, *phase;       // [m]
    const float *const *rows;                // [n] of n_cells levels: partial cells, n_bands, how far it was reached
    const double *ratios;                    // [P]
    const int32_t *cells;                    // [P] the lower of the two neighbouring cells that set a partial's level
    const float *shares, *offsets, *gains;   // [P] of the upper cell, [P], [P, 2]
    const float *balance, *table;            // [N, 2], [N, M]
    const int64_t *noise_offsets;            // [N, 2]
};

constexpr int64_t MOST_LANES = 16;   // of any variant
constexpr int64_t MOST_CELLS = 1024;

// The memory that `add_notes` works in: for all notes together, and for each of them.
constexpr int64_t SHARED_BYTES = 3 * 512 * 4 * MOST_LANES + 4 * MOST_CELLS + 1024;
inline int64_t scratch_bytes(int64_t n_partials, int64_t n_bands) {
    return 512 + (n_partials + MOST_LANES) * 64 + n_bands * 44;
}
inline int64_t scratch_bytes(const Partials &note) {
    const int64_t padded = note.n_partials + MOST_LANES;
    return padded * (20 + 4 * note.n_knots) + 64;
}

struct Variant {
    const char *name;
    void (*add_partials)(const Block &, const Partials &, void *scratch);
    void (*add_noise)(const Block &, const Noise &);
    void (*add_notes)(const Block &, const NotePart *, int64_t n_notes, const Scale &, void *scratch);
};

extern const Variant plain, avx2, avx512;

}  // namespace miao
