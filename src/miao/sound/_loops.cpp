// miao.sound._loops: the room's convolution, the limiter, the loudness filters and the quantiser, compiled. What each
// of them is to do says its NumPy twin in convolution.py, limiter.py, loudness.py and quantiser.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <vector>

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_AMD64))
#include <windows.h>
#endif

#include "_signal.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace miao_sound;

namespace miao_sound {

static bool needs_halves(int64_t n) {
    while (n > LAST) n /= 4;
    return n != LAST;
}

int64_t n_twiddles(int64_t n) {
    int64_t floats = 0;
    if (needs_halves(n)) {
        floats += n;
        n /= 2;
    }
    for (; n > LAST; n /= 4) floats += 6 * (n / 4);
    return floats + 6 * (LAST * LAST / 4);
}

// Twiddles in the order of the passes; and where which frequency comes out.
void fill(int64_t n, float *twiddles, int32_t *frequency, int32_t *mirror) {
    const double circle = 2 * 3.14159265358979323846;
    float *w = twiddles;
    auto turn = [&](int64_t points, int64_t power, int64_t count, int64_t repeated) {
        for (int part = 0; part < 2; ++part)
            for (int64_t j = 0; j < count; ++j) {
                const double angle = -circle * (double)(power * j) / (double)points;
                for (int64_t lane = 0; lane < repeated; ++lane) *w++ = (float)(part ? std::sin(angle) : std::cos(angle));
            }
    };
    int64_t block = n;
    if (needs_halves(n)) {
        turn(n, 1, n / 2, 1);
        block /= 2;
    }
    for (; block > LAST; block /= 4)
        for (int power = 1; power < 4; ++power) turn(block, power, block / 4, 1);
    for (int power = 1; power < 4; ++power) turn(LAST, power, LAST / 4, LAST);

    std::vector<int32_t> place((size_t)n);
    for (int64_t at = 0; at < n; ++at) {
        int64_t row = at / (LAST * LAST) * (LAST * LAST), inside = at % (LAST * LAST);
        int64_t index = row + inside % LAST * LAST + inside / LAST;  // before the squares were turned over
        int64_t points = n, step = 1, found = 0;
        if (needs_halves(n)) {
            found += index / (points / 2);
            index %= points / 2;
            points /= 2;
            step = 2;
        }
        for (; points > 1; points /= 4, step *= 4) {
            found += step * (index / (points / 4));
            index %= points / 4;
        }
        frequency[at] = (int32_t)found;
        place[(size_t)found] = (int32_t)at;
    }
    for (int64_t at = 0; at < n; ++at) mirror[at] = place[(size_t)((n - frequency[at]) % n)];
}

}  // namespace miao_sound

namespace {

using Floats = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;
using Cube = nb::ndarray<const float, nb::shape<2, 2, -1>, nb::c_contig, nb::device::cpu>;
template <class T, class... Shape>
using Array = nb::ndarray<T, Shape..., nb::c_contig, nb::device::cpu>;

bool can_run(const Variant &variant) {
#if defined(MIAO_X86) && defined(__GNUC__)
    __builtin_cpu_init();
    if (&variant == &avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (&variant == &avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(MIAO_X86)
    if (&variant == &avx512) return IsProcessorFeaturePresent(41);  // PF_AVX512F_INSTRUCTIONS_AVAILABLE
    if (&variant == &avx2) return IsProcessorFeaturePresent(40);    // PF_AVX2_INSTRUCTIONS_AVAILABLE
#endif
    return &variant == &plain;
}

const Variant *const ALL[] = {
#ifdef MIAO_X86
    &avx512, &avx2,
#endif
    &plain,
};

const Variant &variant_of(const char *name) {
    for (const Variant *variant : ALL)
        if (can_run(*variant) && (!*name || !std::strcmp(name, variant->name))) return *variant;
    throw nb::value_error("no such variant runs here");
}

const float *row_of(const Floats &samples, size_t channel) {
    if (samples.shape(1) > 1 && samples.stride(1) != 1) throw nb::value_error("samples must be contiguous along time");
    return samples.data() + (int64_t)channel * samples.stride(0);
}

void require(bool fits, const char *what) {
    if (!fits) throw nb::value_error(what);
}

// A convolution of two channels with two by two responses, as one of complex numbers: left + i right.
class Convolver {
  public:
    Convolver(Cube responses, int64_t size, const char *name) : variant(variant_of(name)), size(size), n(2 * size) {
        require(size >= 512 && !(size & (size - 1)), "a partition is a power of two from 512 on");
        twiddles.resize((size_t)n_twiddles(n));
        mirror.resize((size_t)n);
        std::vector<int32_t> frequency((size_t)n);
        fill(n, twiddles.data(), frequency.data(), mirror.data());
        transform = {n, twiddles.data(), mirror.data()};
        const int64_t length = (int64_t)responses.shape(2);
        n_parts = std::max<int64_t>((length + size - 1) / size, 1);
        std::vector<float> one((size_t)(2 * n)), other((size_t)(2 * n));
        for (int64_t part = 0; part < n_parts; ++part) {
            const int64_t count = std::max<int64_t>(std::min(size, length - part * size), 0);
            auto load = [&](std::vector<float> &to, int64_t speaker) {  // what both ears hear of a speaker
                std::fill(to.begin(), to.end(), 0.0f);
                for (int64_t ear = 0; ear < 2; ++ear) {
                    const float *from = responses.data() + (2 * ear + speaker) * length + part * size;
                    std::copy(from, from + count, to.data() + ear * n);
                }
                variant.forward(transform, to.data(), to.data() + n);
            };
            load(one, 0);
            load(other, 1);
            std::vector<float> a((size_t)(2 * n)), b((size_t)(2 * n));
            const float half = 0.5f / (float)n;  // backward transforms are n times too large
            for (int64_t k = 0; k < n; ++k) {
                a[k] = half * (one[k] + other[n + k]);
                a[n + k] = half * (one[n + k] - other[k]);
                b[k] = half * (one[k] - other[n + k]);
                b[n + k] = half * (one[n + k] + other[k]);
            }
            direct.push_back(std::move(a));
            crossed.push_back(std::move(b));
        }
        past.assign((size_t)n_parts, {});
        filling.assign((size_t)n, 0.0f);
        overlap.assign((size_t)n, 0.0f);
        to_come.assign((size_t)(2 * n), 0.0f);
        now.assign((size_t)(2 * n), 0.0f);
    }

    void process(Floats samples, Array<float, nb::shape<2, -1>> out) {
        require(samples.shape(0) == 2 && samples.shape(1) == out.shape(1), "samples and out are [2, n]");
        const float *left = row_of(samples, 0), *right = row_of(samples, 1);
        const int64_t total = (int64_t)samples.shape(1);
        float *to = out.data();
        nb::gil_scoped_release release;
        for (int64_t done = 0; done < total;) {
            const int64_t count = std::min(size - n_filled, total - done);
            std::copy(left + done, left + done + count, filling.data() + n_filled);
            std::copy(right + done, right + done + count, filling.data() + size + n_filled);
            if (!is_filling)
                is_filling = variant.peak(left + done, count) > 0 || variant.peak(right + done, count) > 0;
            transform_filling(n_filled + count);
            for (int64_t ear = 0; ear < 2; ++ear)
                for (int64_t s = 0; s < count; ++s)
                    to[ear * total + done + s] = now[ear * n + n_filled + s] + overlap[ear * size + n_filled + s];
            n_filled += count;
            done += count;
            if (n_filled == size) turn();
        }
    }

    int64_t tail_length(int64_t response_length) const { return response_length - 1; }

  private:
    struct Spectrum {
        std::vector<float> z, mirrored;
    };

    // What the filling partition and all before it make of the partition, and of the next one.
    void transform_filling(int64_t filled) {
        if (!is_filling && n_sounding <= 0) {
            if (!now_is_silent) std::fill(now.begin(), now.end(), 0.0f);
            now_is_silent = true;
            return;
        }
        now_is_silent = false;
        now = to_come;
        if (is_filling) {
            current.z.assign((size_t)(2 * n), 0.0f);
            std::copy(filling.data(), filling.data() + filled, current.z.data());
            std::copy(filling.data() + size, filling.data() + size + filled, current.z.data() + n);
            variant.forward(transform, current.z.data(), current.z.data() + n);
            current.mirrored.resize((size_t)(2 * n));
            for (int64_t k = 0; k < n; ++k) {
                current.mirrored[k] = current.z[mirror[k]];
                current.mirrored[n + k] = -current.z[n + mirror[k]];
            }
            variant.add_products(n, direct[0].data(), crossed[0].data(), current.z.data(), current.mirrored.data(),
                                 now.data());
        }
        variant.backward(transform, now.data(), now.data() + n);
    }

    void turn() {
        for (int64_t ear = 0; ear < 2; ++ear)
            std::copy(now.data() + ear * n + size, now.data() + ear * n + n, overlap.data() + ear * size);
        at = (at + n_parts - 1) % n_parts;  // the newest first
        n_sounding = is_filling ? n_parts : n_sounding - 1;
        if (is_filling)
            std::swap(past[at], current);
        else
            past[at] = {};
        std::fill(to_come.begin(), to_come.end(), 0.0f);
        for (int64_t part = 1; part < n_parts; ++part) {
            const Spectrum &spectrum = past[(at + part - 1) % n_parts];
            if (spectrum.z.empty()) continue;
            variant.add_products(n, direct[part].data(), crossed[part].data(), spectrum.z.data(),
                                 spectrum.mirrored.data(), to_come.data());
        }
        is_filling = false;
        n_filled = 0;
    }

    const Variant &variant;
    int64_t size, n, n_parts = 0, at = 0, n_filled = 0, n_sounding = 0;
    bool is_filling = false, now_is_silent = true;
    std::vector<float> twiddles, filling, overlap, to_come, now;
    std::vector<int32_t> mirror;
    Transform transform;
    std::vector<std::vector<float>> direct, crossed;
    std::vector<Spectrum> past;
    Spectrum current;
};

// The gain of limiter.Limiter: see there.
class Limiter {
  public:
    Limiter(int64_t channels, int64_t half, double ceiling, double safe_peak, double decay, double smallest,
            Array<const float, nb::shape<KERNELS, TAPS>> kernels, const char *name)
        : variant(variant_of(name)), channels(channels), half(half), ceiling(ceiling), safe_peak((float)safe_peak),
          keep(std::exp(-decay)), smallest(smallest), taps(kernels.data(), kernels.data() + KERNELS * TAPS) {
        require(channels > 0 && half > 0, "a limiter needs channels and a window");
        window = 2 * half - 1;
        latency = TAPS / 2 + window - 1;
        line.resize((size_t)channels);
        for (auto &channel : line) channel.assign((size_t)latency, 0.0f);
        past.assign((size_t)channels, std::vector<float>(TAPS - 1, 0.0f));
        for (auto &box : boxes) box.values.assign((size_t)half, 0.0);
    }

    double most = 0;  // reduction so far

    // As many samples as go in come out, `latency` later.
    void process(Floats samples, Array<float, nb::ndim<2>> out) {
        require((int64_t)samples.shape(0) == channels && (int64_t)out.shape(0) == channels &&
                    out.shape(1) == samples.shape(1), "samples and out are [channels, n]");
        const int64_t n = (int64_t)samples.shape(1);
        std::vector<const float *> rows((size_t)channels);
        for (int64_t c = 0; c < channels; ++c) rows[c] = row_of(samples, (size_t)c);
        nb::gil_scoped_release release;
        if (reductions.size() < (size_t)n) reductions.resize((size_t)n);
        const bool is_idle = !find_reductions(rows, n);
        for (int64_t c = 0; c < channels; ++c) {
            auto &delayed = line[c];
            delayed.insert(delayed.end(), rows[c], rows[c] + n);
            float *to = out.data() + c * n;
            if (is_idle)
                std::copy(delayed.data(), delayed.data() + n, to);
            else
                for (int64_t s = 0; s < n; ++s) to[s] = delayed[s] * (float)(1 - reductions[s]);
            delayed.erase(delayed.begin(), delayed.begin() + n);
        }
    }

  private:
    struct Box {  // a running mean over `half` values
        std::vector<double> values;
        int64_t at = 0, n_sounding = 0;
        double sum = 0;
        double next(double value) {
            double &oldest = values[at];
            n_sounding += (value != 0) - (oldest != 0);
            sum = n_sounding ? sum + (value - oldest) : 0;
            oldest = value;
            at = at + 1 == (int64_t)values.size() ? 0 : at + 1;
            return sum / (double)values.size();
        }
    };

    // 1 - gain for n samples; false if all of it is 0.
    bool find_reductions(const std::vector<const float *> &rows, int64_t n) {
        const int64_t before = TAPS - 1;
        std::vector<std::vector<float>> lines((size_t)channels);
        float highest[ROW];
        for (int64_t c = 0; c < channels; ++c) {
            lines[c] = past[c];
            lines[c].insert(lines[c].end(), rows[c], rows[c] + n);
            lines[c].resize((size_t)(before + n + ROW), 0.0f);
            std::copy(lines[c].end() - ROW - before, lines[c].end() - ROW, past[c].begin());
        }
        // whether anything in a row's reach could lie above the ceiling; a reach is TAPS / ROW rows and one more
        const int64_t n_rows = (n + ROW - 1) / ROW, reach = (TAPS + ROW - 1) / ROW + 1;
        std::vector<float> loud((size_t)(n_rows + reach), 0.0f);
        for (int64_t r = 0; r < n_rows + reach - 1; ++r) {
            const int64_t from = r * ROW, to = std::min(from + ROW, before + n);
            for (int64_t c = 0; c < channels && from < to; ++c)
                loud[r] = std::max(loud[r], variant.peak(lines[c].data() + from, to - from));
        }
        bool is_working = false;
        for (int64_t row = 0; row < n_rows; ++row) {
            const int64_t from = row * ROW, count = std::min<int64_t>(ROW, n - from);
            const float around = *std::max_element(loud.begin() + row, loud.begin() + row + reach);
            const bool is_loud = around >= safe_peak;
            if (!is_loud && wishes.empty() && released == 0 && !boxes[0].n_sounding && !boxes[1].n_sounding) {
                std::fill(reductions.begin() + from, reductions.begin() + from + count, 0.0);
                last_between = 0;  // anything below the ceiling
                clock += count;
                continue;
            }
            is_working = true;
            for (float &value : highest) value = 0;
            if (is_loud)
                for (int64_t c = 0; c < channels; ++c) variant.look_between(lines[c].data() + from, taps.data(), highest);
            for (int64_t s = 0; s < count; ++s) {
                float peak = std::max(highest[s], last_between);
                last_between = highest[s];
                // the sample itself: HALF_TAPS before what is coming in
                for (int64_t c = 0; c < channels; ++c)
                    peak = std::max(peak, std::fabs(lines[c][from + s + TAPS / 2 - 1]));
                reductions[from + s] = next(peak > ceiling ? 1 - ceiling / (double)peak : 0.0);
                most = std::max(most, reductions[from + s]);
            }
        }
        return is_working;
    }

    // The reduction at a sample from the wish that enters: held for the whole window, let go slowly, rounded by two boxes.
    double next(double wish) {
        while (!wishes.empty() && wishes.back().second <= wish) wishes.pop_back();
        if (wish > 0) wishes.emplace_back(clock, wish);
        while (!wishes.empty() && wishes.front().first <= clock - window) wishes.pop_front();
        ++clock;
        const double held = wishes.empty() ? 0.0 : wishes.front().second;
        released = std::max(held, released * keep);
        if (released < smallest) released = 0;
        return boxes[1].next(boxes[0].next(released));
    }

    const Variant &variant;
    int64_t channels, half, window, latency, clock = 0;
    double ceiling;
    float safe_peak, last_between = 0;
    double keep, smallest, released = 0;
    std::vector<float> taps;
    std::vector<std::vector<float>> line, past;
    std::deque<std::pair<int64_t, double>> wishes;  // decreasing
    Box boxes[2];
    std::vector<double> reductions;
};

// Samples through two biquads in double precision; `state` goes on from call to call.
void weighted_squares(Floats samples, Array<const double, nb::shape<2, 5>> filters,
                      Array<double, nb::shape<-1, 2, 2>> state, Array<double, nb::ndim<1>> out) {
    require(samples.shape(0) == state.shape(0) && samples.shape(1) == out.shape(0), "samples, state and out do not fit");
    const size_t n = samples.shape(1);
    const double *f = filters.data();
    double *to = out.data();
    std::vector<const float *> rows;
    for (size_t c = 0; c < samples.shape(0); ++c) rows.push_back(row_of(samples, c));
    nb::gil_scoped_release release;
    std::fill(to, to + n, 0.0);
    auto run = [&](size_t c, auto n_channels) {
        constexpr int N = decltype(n_channels)::value;
        double s[N][4];
        for (int i = 0; i < N; ++i) std::copy_n(state.data() + 4 * (c + i), 4, s[i]);
        for (size_t t = 0; t < n; ++t) {
            double sum = 0;
            for (int i = 0; i < N; ++i) {
                const double x = rows[c + i][t];
                const double y = f[0] * x + s[i][0];
                s[i][0] = (f[1] * x + s[i][1]) - f[3] * y;
                s[i][1] = f[2] * x - f[4] * y;
                const double z = f[5] * y + s[i][2];
                s[i][2] = (f[6] * y + s[i][3]) - f[8] * z;
                s[i][3] = f[7] * y - f[9] * z;
                sum += z * z;
            }
            to[t] += sum;
        }
        for (int i = 0; i < N; ++i)
            for (int k = 0; k < 4; ++k) state.data()[4 * (c + i) + k] = std::fabs(s[i][k]) < 1e-30 ? 0 : s[i][k];
    };
    size_t c = 0;
    for (; c + 2 <= rows.size(); c += 2) run(c, std::integral_constant<int, 2>());
    for (; c < rows.size(); ++c) run(c, std::integral_constant<int, 1>());
}

// Whole numbers [n, channels] of 16 or 32 bits from samples; gives how many were beyond full scale, and how many not finite.
template <class T>
nb::tuple quantise(Floats samples, uint64_t first, float scale, bool is_dithered, Array<T, nb::ndim<2>> out,
                   const char *name) {
    require(samples.shape(1) == out.shape(0) && samples.shape(0) == out.shape(1), "samples and out do not fit");
    const Variant &variant = variant_of(name);
    const int64_t n = (int64_t)samples.shape(1), channels = (int64_t)samples.shape(0);
    std::vector<const float *> rows;
    for (int64_t c = 0; c < channels; ++c) rows.push_back(row_of(samples, (size_t)c));
    T *to = out.data();
    int64_t counts[2] = {0, 0};
    {
        nb::gil_scoped_release release;
        constexpr int64_t PIECE = 4096;
        std::vector<int32_t> piece(PIECE);
        for (int64_t at = 0; at < n; at += PIECE)
            for (int64_t c = 0; c < channels; ++c) {
                const int64_t count = std::min(PIECE, n - at);
                const uint32_t position = (uint32_t)((first + (uint64_t)at) * (uint64_t)channels + (uint64_t)c);
                variant.quantise(rows[c] + at, count, position, (uint32_t)channels, scale, is_dithered, piece.data(), counts);
                for (int64_t s = 0; s < count; ++s) to[(at + s) * channels + c] = (T)piece[s];
            }
    }
    return nb::make_tuple(counts[0], counts[1]);
}

}  // namespace

NB_MODULE(_loops, module) {
    module.doc() = "The compiled loops of miao.sound; `variants` names all kinds that this processor can run, best first.";
    nb::list names;
    for (const Variant *variant : ALL)
        if (can_run(*variant)) names.append(variant->name);
    module.attr("variants") = names;
    nb::class_<Convolver>(module, "Convolver")
        .def(nb::init<Cube, int64_t, const char *>(), "responses"_a, "size"_a, "variant"_a = "")
        .def("process", &Convolver::process, "samples"_a.noconvert(), "out"_a.noconvert());
    nb::class_<Limiter>(module, "Limiter")
        .def(nb::init<int64_t, int64_t, double, double, double, double, Array<const float, nb::shape<KERNELS, TAPS>>,
                      const char *>(),
             "channels"_a, "half"_a, "ceiling"_a, "safe_peak"_a, "decay"_a, "smallest"_a, "kernels"_a, "variant"_a = "")
        .def_ro("most", &Limiter::most)
        .def("process", &Limiter::process, "samples"_a.noconvert(), "out"_a.noconvert());
    module.def("weighted_squares", &weighted_squares, "samples"_a.noconvert(), "filters"_a.noconvert(),
               "state"_a.noconvert(), "out"_a.noconvert());
    module.def("quantise16", &quantise<int16_t>, "samples"_a.noconvert(), "first"_a, "scale"_a, "is_dithered"_a,
               "out"_a.noconvert(), "variant"_a = "");
    module.def("quantise32", &quantise<int32_t>, "samples"_a.noconvert(), "first"_a, "scale"_a, "is_dithered"_a,
               "out"_a.noconvert(), "variant"_a = "");
}
