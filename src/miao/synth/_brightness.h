// A row of levels as bright as it is to be: `brightened` of brightness.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace miao {

// `brightness.LAW`: what darkness is of brightness; share of the loudness that is left; what is near and far, levels; the
// natural logarithm of a level's power.
struct BrightnessLaw {
    float dark, louder, near_levels, far_levels, per_level;
};

// From a row to another of `n_cells`, of which the last is no level. `lifts`: levels at 1; `weights`: power at level 0.
inline void brighten(const float *from, float *to, int64_t n_cells, float setting, const float *lifts, const float *weights,
                     const BrightnessLaw &law) {
    const int64_t n = n_cells - 1;
    std::copy(from, from + n_cells, to);
    if (setting == 0) return;
    const float top = *std::max_element(from, from + n);
    float before = 0, after = 0;
    for (int64_t c = 0; c < n; ++c) {
        if (from[c] < 0.5f) continue;
        const float below = from[c] - top;
        const float share = std::min(std::max((below + law.far_levels) / (law.far_levels - law.near_levels), 0.0f), 1.0f);
        const float tilt = setting * lifts[c] * (setting < 0 ? law.dark : share);
        const float power = weights[c] * std::exp(law.per_level * below);
        before += power, after += power * std::exp(law.per_level * tilt);
        to[c] += tilt;
    }
    const float kept = before > 0 ? (1 - law.louder) * std::log(after / before) / law.per_level : 0;
    for (int64_t c = 0; c < n; ++c)
        if (from[c] >= 0.5f) to[c] = std::max(to[c] - kept, 0.0f);
}

}  // namespace miao
