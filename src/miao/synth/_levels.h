// From levels to amplitudes.
#pragma once

#include "_lanes.h"

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

inline void *give(char *&scratch, int64_t bytes) {
    void *at = scratch;
    scratch += bytes;
    return at;
}

}  // namespace
