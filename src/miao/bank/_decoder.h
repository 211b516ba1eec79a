// The audio decoder of a bank, as compiled once for each kind of processor (see CMakeLists.txt): what the graphs of its
// folder say, for their usual sizes. Names as in nets/model.py and nets/layers.py.
#pragma once

#include <cstdint>
#include <vector>

namespace miao_decoder {

constexpr int64_t STEPS = 32, CELLS = 80, PATCH = 4;  // of a chunk; the image is that much coarser
constexpr int64_t ROWS = STEPS / PATCH, COLUMNS = CELLS / PATCH, PLACES = ROWS * COLUMNS;
constexpr int64_t CHANNELS = 24, HEADS = 3, OF_HEAD = CHANNELS / HEADS, N_HEAD = 2 * PATCH * PATCH;
constexpr int64_t IMAGE = CHANNELS * PLACES, SCALARS = 12;

// A linear layer, its weights packed: for each `panel` outputs all inputs, for each input these outputs side by side.
struct Dense {
    int64_t n_in, n_out;
    std::vector<float> weights;
    std::vector<int8_t> bytes;         // instead of these, in units of `scale`
    std::vector<float> scale, bias;    // [n_out]
};

struct Norm {
    float weight[CHANNELS], bias[CHANNELS];
};
struct Depthwise {
    float weight[CHANNELS][9], bias[CHANNELS];
};

struct Decoder {
    int64_t voice_width, context_width, n_known, hidden, n_indices;
    bool is_attack;
    std::vector<float> chunks;  // [n_indices, hidden]
    Dense condition, condition_second, expand;
    Depthwise before, parallel, after;
    Norm before_norm, attention_norm, after_norm;
    float temperature[HEADS];
    float project[3 * CHANNELS][CHANNELS], project_bias[3 * CHANNELS];
    float merge[CHANNELS][CHANNELS], merge_bias[CHANNELS];
    float head[N_HEAD][CHANNELS], head_bias[N_HEAD];
    float keep[STEPS][CELLS];  // of what a chunk sets out from
    float ramps[STEPS];        // of the profile
};

struct Inputs {
    int64_t n;
    const float *embedding, *profile, *pitch, *velocity, *age, *previous, *context;  // previous: null for attacks
    const int64_t *index;
};

inline int64_t scratch_floats(const Decoder &net, int64_t n) { return n * (net.n_known + 2 * net.hidden + IMAGE); }

struct Variant {
    const char *name;
    int64_t panel;  // outputs of a layer side by side
    // Levels and spread [n, STEPS, CELLS]; works in `scratch_floats` numbers.
    void (*write)(const Decoder &, const Inputs &, float *scratch, float *levels, float *spread);
};

extern const Variant plain, avx2, avx512;

}  // namespace miao_decoder
