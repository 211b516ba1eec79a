// Chunks from what is known when they start: the decoder's forward pass, compiled once per processor kind, as VARIANT.
//
// Images are kept channel by channel, PLACES numbers each, so that all that is done at each place alone runs side by side.
#include "_decoder.h"

#include "../synth/_levels.h"

namespace {

using namespace miao_decoder;

constexpr int64_t PANEL = 2 * W;
constexpr int MOST_ROWS = W == 16 ? 8 : W == 8 ? 5 : 4;  // of a batch at once: as many sums as there are registers for
static_assert(PLACES % PANEL == 0, "images lie in whole lanes");

inline Floats nothing() {
    alignas(64) static const float zeros[W] = {};
    return load(zeros);
}
inline void store(float *to, Floats values) { memcpy(to, &values, sizeof values); }

// PANEL outputs of a layer for R rows of a batch.
template <int R>
inline void add_up(const Dense &layer, const float *weights, int64_t first, const float *x, float *y) {
    Floats sums[R][2];
    MIAO_UNROLL
    for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = nothing();
    for (int64_t k = 0; k < layer.n_in; ++k) {
        const Floats low = load(weights + k * PANEL), high = load(weights + k * PANEL + W);
        MIAO_UNROLL
        for (int r = 0; r < R; ++r) {
            const float value = x[r * layer.n_in + k];
            sums[r][0] = sums[r][0] + low * value;
            sums[r][1] = sums[r][1] + high * value;
        }
    }
    for (int half = 0; half < 2; ++half) {
        const int64_t at = first + half * W;
        const Floats scale = load(layer.scale.data() + at), bias = load(layer.bias.data() + at);
        MIAO_UNROLL
        for (int r = 0; r < R; ++r) store(y + r * layer.n_out + at, sums[r][half] * scale + bias);
    }
}

template <int R>
inline void add_up_rows(const Dense &layer, const float *weights, int64_t first, const float *x, float *y, int64_t n) {
    for (; n >= R; n -= R, x += R * layer.n_in, y += R * layer.n_out) add_up<R>(layer, weights, first, x, y);
    if constexpr (R > 1) {
        if (n) add_up_rows<R - 1>(layer, weights, first, x, y, n);
    }
}

// A layer for n rows: y [n, n_out] of x [n, n_in].
void run(const Dense &layer, const float *x, float *y, int64_t n) {
    const int64_t size = layer.n_in * PANEL;
    std::vector<float> panel(layer.bytes.empty() ? 0 : (size_t)size);
    for (int64_t first = 0; first < layer.n_out; first += PANEL) {
        const float *weights = panel.data();
        if (layer.bytes.empty()) {
            weights = layer.weights.data() + first * layer.n_in;
        } else {
            const int8_t *bytes = layer.bytes.data() + first * layer.n_in;
            float *to = panel.data();
            for (int64_t i = 0; i < size; ++i) to[i] = (float)bytes[i];
        }
        add_up_rows<MOST_ROWS>(layer, weights, first, x, y, n);
    }
}

inline float exponential(float x) {  // from -41 to 41
    x *= 1.44269504f;
    return power_of_two(x > -60 ? (x < 60 ? x : 60.0f) : -60.0f);
}

// x (1 + erf(x / sqrt(2))) / 2, off by less than 2e-7 |x|: Abramowitz and Stegun 7.1.26.
inline float gelu(float x) {
    const float size = fabsf(x) * 0.707106781f, t = 1 / (1 + 0.3275911f * size);
    const float series = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    const float tail = series * exponential(-size * size);  // 1 - erf
    return x * (x < 0 ? 0.5f * tail : 1 - 0.5f * tail);
}
inline void gelu(float *x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] = gelu(x[i]);
}

using Image = float[CHANNELS][PLACES];

void gelu(Image &image) {
    for (int64_t c = 0; c < CHANNELS; ++c) gelu(image[c], PLACES);
}

// 3 x 3, each channel on its own: over the whole image with its borders, of which only the inside counts.
void convolve(const Depthwise &by, const Image &from, Image &to) {
    constexpr int64_t WIDTH = COLUMNS + 4, INSIDE = ROWS * WIDTH;
    static_assert(INSIDE % W == 0, "images lie in whole lanes");
    alignas(64) float padded[INSIDE + 2 * WIDTH + 2] = {}, sums[INSIDE];
    for (int64_t c = 0; c < CHANNELS; ++c) {
        for (int64_t r = 0; r < ROWS; ++r) memcpy(padded + (r + 1) * WIDTH + 1, from[c] + r * COLUMNS, COLUMNS * sizeof(float));
        for (int64_t at = 0; at < INSIDE; at += W) {
            Floats sum = nothing() + by.bias[c];
            MIAO_UNROLL
            for (int64_t tap = 0; tap < 9; ++tap) sum = sum + load(padded + at + tap / 3 * WIDTH + tap % 3) * by.weight[c][tap];
            store(sums + at, sum);
        }
        for (int64_t r = 0; r < ROWS; ++r) memcpy(to[c] + r * COLUMNS, sums + r * WIDTH, COLUMNS * sizeof(float));
    }
}

// Layer norm over the channels of each place.
void normalise(const Norm &by, Image &image) {
    float mean[PLACES] = {}, spread[PLACES] = {};
    for (int64_t c = 0; c < CHANNELS; ++c)
        for (int64_t p = 0; p < PLACES; ++p) mean[p] += image[c][p];
    for (int64_t p = 0; p < PLACES; ++p) mean[p] *= 1.0f / CHANNELS;
    for (int64_t c = 0; c < CHANNELS; ++c)
        for (int64_t p = 0; p < PLACES; ++p) {
            const float off = image[c][p] - mean[p];
            spread[p] += off * off;
        }
    for (int64_t p = 0; p < PLACES; ++p) spread[p] = 1 / sqrtf(spread[p] * (1.0f / CHANNELS) + 1e-5f);
    for (int64_t c = 0; c < CHANNELS; ++c)
        for (int64_t p = 0; p < PLACES; ++p)
            image[c][p] = (image[c][p] - mean[p]) * spread[p] * by.weight[c] + by.bias[c];
}

// Sums of channels at each place: to [n, PLACES] = weights [n, n_from] from + bias; n is a multiple of 4.
template <int64_t N_FROM>
void combine(const float (*weights)[N_FROM], const float *bias, int64_t n, const float (*from)[PLACES], float (*to)[PLACES]) {
    for (int64_t first = 0; first < n; first += 4)
        for (int64_t p = 0; p < PLACES; p += PANEL) {
            Floats sums[4][2];
            MIAO_UNROLL
            for (int i = 0; i < 4; ++i) sums[i][0] = sums[i][1] = nothing() + (bias ? bias[first + i] : 0.0f);
            for (int64_t k = 0; k < N_FROM; ++k) {
                const Floats low = load(from[k] + p), high = load(from[k] + p + W);
                MIAO_UNROLL
                for (int i = 0; i < 4; ++i) {
                    sums[i][0] = sums[i][0] + low * weights[first + i][k];
                    sums[i][1] = sums[i][1] + high * weights[first + i][k];
                }
            }
            MIAO_UNROLL
            for (int i = 0; i < 4; ++i) {
                store(to[first + i] + p, sums[i][0]);
                store(to[first + i] + p + W, sums[i][1]);
            }
        }
}

inline float product(const float *a, const float *b) {
    Floats sum = nothing();
    for (int64_t p = 0; p < PLACES; p += W) sum = sum + load(a + p) * load(b + p);
    float total = 0;
    for (int i = 0; i < W; ++i) total += sum[i];
    return total;
}

// Channels look at each other, head by head: `all` are queries, keys and values.
void attend(const Decoder &net, const float (*all)[PLACES], Image &to) {
    float size[2 * CHANNELS];
    for (int64_t c = 0; c < 2 * CHANNELS; ++c) {
        const float length = sqrtf(product(all[c], all[c]));
        size[c] = 1 / (length > 1e-12f ? length : 1e-12f);
    }
    for (int64_t h = 0; h < HEADS; ++h) {
        const float(*queries)[PLACES] = all + h * OF_HEAD, (*keys)[PLACES] = queries + CHANNELS;
        const float *own = size + h * OF_HEAD, *other = own + CHANNELS;
        float weights[OF_HEAD][OF_HEAD];
        for (int64_t i = 0; i < OF_HEAD; ++i) {
            float highest = -1e30f, total = 0;
            for (int64_t j = 0; j < OF_HEAD; ++j) {
                weights[i][j] = net.temperature[h] * own[i] * other[j] * product(queries[i], keys[j]);
                highest = weights[i][j] > highest ? weights[i][j] : highest;
            }
            for (int64_t j = 0; j < OF_HEAD; ++j) total += weights[i][j] = exponential(weights[i][j] - highest);
            for (int64_t j = 0; j < OF_HEAD; ++j) weights[i][j] /= total;
        }
        combine<OF_HEAD>(weights, nullptr, OF_HEAD, queries + 2 * CHANNELS, to + h * OF_HEAD);
    }
}

// Eq. 5 and 6, with the image carried past them, and what the head makes of it.
void finish(const Decoder &net, const Image &image, float (*out)[PLACES]) {
    alignas(64) Image one, other;
    alignas(64) float all[3 * CHANNELS][PLACES];
    convolve(net.before, image, one);
    normalise(net.before_norm, one);
    gelu(one);
    combine<CHANNELS>(net.project, net.project_bias, 3 * CHANNELS, one, all);
    attend(net, all, other);
    combine<CHANNELS>(net.merge, net.merge_bias, CHANNELS, other, one);
    normalise(net.attention_norm, one);
    gelu(one);
    convolve(net.parallel, one, other);
    convolve(net.after, other, one);
    normalise(net.after_norm, one);
    for (int64_t c = 0; c < CHANNELS; ++c)
        for (int64_t p = 0; p < PLACES; ++p) one[c][p] += image[c][p];
    combine<CHANNELS>(net.head, net.head_bias, N_HEAD, one, out);
}

// What a chunk sets out from, [CELLS].
inline void anchor_of(const Decoder &net, const Inputs &inputs, int64_t row, float *anchor) {
    if (!net.is_attack) {
        memcpy(anchor, inputs.previous + row * CELLS, CELLS * sizeof(float));
        return;
    }
    const float velocity = inputs.velocity[row] > 1.0f / 127 ? inputs.velocity[row] : 1.0f / 127;
    for (int64_t c = 0; c < CELLS - 1; ++c) anchor[c] = 48 + 40 * log10f(velocity) / 1.75f;
    anchor[CELLS - 1] = 32;
}

inline void tell(const Decoder &net, const Inputs &inputs, int64_t row, float *known) {
    const float pitch = (inputs.pitch[row] - 64) / 32, velocity = inputs.velocity[row];
    const float age = log1pf(inputs.age[row] / 0.05f) / 4;
    memcpy(known, inputs.embedding + row * net.voice_width, (size_t)net.voice_width * sizeof(float));
    const float scalars[SCALARS] = {
        pitch, pitch * pitch, sinf(3 * pitch), cosf(3 * pitch), velocity, velocity * velocity, sinf(6 * velocity),
        cosf(6 * velocity), sinf(12 * velocity), age, age * age, sinf(4 * age)};
    memcpy(known += net.voice_width, scalars, sizeof scalars);
    float anchor[CELLS];
    anchor_of(net, inputs, row, anchor);
    known += SCALARS;
    for (int64_t c = 0; c < CELLS; ++c) known[c] = (anchor[c] - 32) / 16;
    memcpy(known + CELLS, inputs.context + row * net.context_width, (size_t)net.context_width * sizeof(float));
}

// PATCH cells of each place, side by side.
inline void spread_out(const float (*from)[PLACES], int64_t at, float *__restrict to) {
    const float *a = from[0] + at, *b = from[1] + at, *c = from[2] + at, *d = from[3] + at;
    static_assert(PATCH == 4, "four of them");
    for (int64_t x = 0; x < COLUMNS; ++x) to[4 * x] = a[x], to[4 * x + 1] = b[x], to[4 * x + 2] = c[x], to[4 * x + 3] = d[x];
}

inline void lay_out(const Decoder &net, const Inputs &inputs, int64_t row, const float (*out)[PLACES], float *levels,
                    float *spread) {
    float anchor[CELLS];
    anchor_of(net, inputs, row, anchor);
    const float *profile = inputs.profile + row * CELLS;
    for (int64_t step = 0; step < STEPS; ++step) {
        const int64_t above = step % PATCH * PATCH, at = step / PATCH * COLUMNS;
        float moved[CELLS], scale[CELLS];
        spread_out(out + above, at, moved);
        spread_out(out + PATCH * PATCH + above, at, scale);
        for (int64_t c = 0; c < CELLS; ++c) {
            const float level = net.keep[step][c] * anchor[c] + net.ramps[step] * profile[c] + 8 * moved[c];
            levels[step * CELLS + c] = level > 0 ? (level < 63 ? level : 63.0f) : 0.0f;
        }
        for (int64_t c = 0; c < CELLS; ++c) {
            const float log = scale[c] > -4 ? (scale[c] < 4 ? scale[c] : 4.0f) : -4.0f;
            spread[step * CELLS + c] = exponential(log);
        }
    }
}

void write(const Decoder &net, const Inputs &inputs, float *scratch, float *levels, float *spread) {
    const int64_t n = inputs.n;
    float *known = scratch, *x = known + n * net.n_known, *more = x + n * net.hidden, *images = more + n * net.hidden;
    for (int64_t row = 0; row < n; ++row) tell(net, inputs, row, known + row * net.n_known);
    run(net.condition, known, x, n);
    for (int64_t row = 0; row < n; ++row) {
        const float *chunk = net.chunks.data() + inputs.index[row] * net.hidden;
        for (int64_t i = 0; i < net.hidden; ++i) x[row * net.hidden + i] += chunk[i];
    }
    gelu(x, n * net.hidden);
    run(net.condition_second, x, more, n);
    gelu(more, n * net.hidden);
    for (int64_t i = 0; i < n * net.hidden; ++i) x[i] += more[i];
    run(net.expand, x, images, n);
    alignas(64) float out[N_HEAD][PLACES];
    for (int64_t row = 0; row < n; ++row) {
        finish(net, *(const Image *)(images + row * IMAGE), out);
        lay_out(net, inputs, row, out, levels + row * STEPS * CELLS, spread + row * STEPS * CELLS);
    }
}

}  // namespace

#define MIAO_TEXT_(name) #name
#define MIAO_TEXT(name) MIAO_TEXT_(name)
const miao_decoder::Variant miao_decoder::VARIANT = {MIAO_TEXT(VARIANT), PANEL, write};
