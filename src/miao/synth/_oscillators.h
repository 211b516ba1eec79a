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
    const float *levels;                     // [n, n_cells]: partial cells, n_bands, and how far the row was reached, 1
    const double *ratios;                    // [P]
    const int32_t *cells;                    // [P] the lower of the two neighbouring cells that set a partial's level
    const float *shares, *offsets, *gains;   // [P] of the upper cell, [P], [P, 2]
    const float *balance, *table;            // [N, 2], [N, M]
    const int64_t *noise_offsets;            // [N, 2]
};

inline int64_t scratch_bytes(const NotePart &note) {
    return 8 * note.n_partials + 4 * (note.n_cells + 5 * note.n_partials) +
           4 * note.n_knots * (note.n_partials + note.n_bands);
}

struct Variant {
    const char *name;
    void (*add_partials)(const Block &, const Partials &);
    void (*add_noise)(const Block &, const Noise &);
    void (*add_note)(const Block &, const NotePart &, const Scale &, void *scratch);
};

extern const Variant plain, avx2, avx512;

}  // namespace miao
