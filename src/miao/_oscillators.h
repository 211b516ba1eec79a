// The two hot loops, as compiled once for each kind of processor (see CMakeLists.txt). Arguments as in oscillators.py.
#pragma once

#include <cstdint>

namespace miao {

struct Block {  // where samples are added
    float *left, *right;
    int64_t n_samples;
};

struct Partials {
    int64_t n_knots, n_partials;
    const double *knots, *phase;   // [n]
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

struct Variant {
    const char *name;
    void (*add_partials)(const Block &, const Partials &);
    void (*add_noise)(const Block &, const Noise &);
};

extern const Variant plain, avx2, avx512;

}  // namespace miao
