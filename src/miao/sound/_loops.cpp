// miao.sound._loops: the room's convolution, the limiter, the loudness filters and the quantiser, compiled. What each
// of them is to do says its NumPy twin in convolution.py, limiter.py, loudness.py and quantiser.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "_chain.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace miao_sound;

namespace {

using Floats = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;
using Cube = nb::ndarray<const float, nb::shape<2, 2, -1>, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::shape<2, -1>, nb::device::cpu>;
template <class T, class... Shape>
using Array = nb::ndarray<T, Shape..., nb::c_contig, nb::device::cpu>;

const float *row_of(const Floats &samples, size_t channel) {
    if (samples.shape(1) > 1 && samples.stride(1) != 1) throw nb::value_error("samples must be contiguous along time");
    return samples.data() + (int64_t)channel * samples.stride(0);
}

// The chain's own, from and to arrays of Python.
class BoundConvolver : public Convolver {
  public:
    using Convolver::Convolver;
    void process(Floats samples, Array<float, nb::shape<2, -1>> out) {
        require(samples.shape(0) == 2 && samples.shape(1) == out.shape(1), "samples and out are [2, n]");
        const float *left = row_of(samples, 0), *right = row_of(samples, 1);
        nb::gil_scoped_release release;
        Convolver::process(left, right, (int64_t)samples.shape(1), out.data());
    }
};

class BoundLimiter : public Limiter {
  public:
    BoundLimiter(int64_t channels, int64_t half, double ceiling, double safe_peak, double decay, double smallest,
                 Array<const float, nb::shape<KERNELS, TAPS>> kernels, const char *name)
        : Limiter(channels, half, ceiling, safe_peak, decay, smallest, kernels.data(), name), n_channels((size_t)channels) {}
    void process(Floats samples, Array<float, nb::ndim<2>> out) {
        require(samples.shape(0) == n_channels && out.shape(0) == n_channels && out.shape(1) == samples.shape(1),
                "samples and out are [channels, n]");
        std::vector<const float *> rows;
        for (size_t c = 0; c < n_channels; ++c) rows.push_back(row_of(samples, c));
        nb::gil_scoped_release release;
        Limiter::process(rows.data(), (int64_t)samples.shape(1), out.data());
    }

  private:
    size_t n_channels;
};

// Each sample waits for the one before it, so four stretches of the samples are filtered side by side; each begins
// `reach` samples early, so far behind which the filters have forgotten what was.
void weigh_stretches(const std::vector<const float *> &rows, size_t n, size_t reach, const double *filters, double *state,
                     double *to) {
    const Variant &variant = variant_of("");
    const size_t stretch = n / 4, rest = n - 4 * stretch;
    double now[4][8] = {}, first[4][8];
    const float *lines[8];
    double *outs[4];
    std::vector<double> nowhere(reach);
    for (size_t k = 0; k < 4; ++k) {
        for (size_t c = 0; c < 2; ++c) lines[k + 4 * c] = rows[c] + std::max(k, (size_t)1) * stretch - reach;
        outs[k] = nowhere.data();
    }
    variant.weigh(lines, (int64_t)reach, filters, now, outs);
    for (size_t c = 0; c < 2; ++c)
        for (size_t i = 0; i < 4; ++i) now[i][4 * c] = state[4 * c + i];  // the first stretch goes on from what was
    for (size_t k = 0; k < 4; ++k) {
        for (size_t c = 0; c < 2; ++c) lines[k + 4 * c] = rows[c] + k * stretch;
        outs[k] = to + k * stretch;
    }
    variant.weigh(lines, (int64_t)stretch, filters, now, outs);
    for (size_t c = 0; c < 2; ++c)
        for (size_t i = 0; i < 4; ++i) first[i][4 * c] = now[i][4 * c + 3];
    for (size_t k = 0; k < 4; ++k) outs[k] = k ? nowhere.data() : to + 4 * stretch;
    for (size_t i = 0; i < 8; ++i) lines[i] = rows[i / 4] + 4 * stretch;
    for (auto &values : first)
        for (size_t c = 0; c < 2; ++c)
            for (size_t k = 1; k < 4; ++k) values[k + 4 * c] = values[4 * c];
    variant.weigh(lines, (int64_t)rest, filters, first, outs);
    for (size_t c = 0; c < 2; ++c)
        for (size_t i = 0; i < 4; ++i) {
            const double value = first[i][4 * c];
            state[4 * c + i] = std::fabs(value) < 1e-30 ? 0 : value;
        }
}

// Samples through two biquads in double precision; `state` goes on from call to call. Beyond `reach` samples they
// remember nothing; 0 where that is not known.
void weighted_squares(Floats samples, Array<const double, nb::shape<2, 5>> filters,
                      Array<double, nb::shape<-1, 2, 2>> state, int64_t reach, Array<double, nb::ndim<1>> out) {
    require(samples.shape(0) == state.shape(0) && samples.shape(1) == out.shape(0), "samples, state and out do not fit");
    const size_t n = samples.shape(1);
    const double *f = filters.data();
    double *to = out.data();
    std::vector<const float *> rows;
    for (size_t c = 0; c < samples.shape(0); ++c) rows.push_back(row_of(samples, c));
    nb::gil_scoped_release release;
    const size_t stretch = n / 4;
    if (reach > 0 && rows.size() == 2 && stretch >= 2 * (size_t)reach) {
        weigh_stretches(rows, n, (size_t)reach, f, state.data(), to);
        return;
    }
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

struct Gains {  // [2, n], or one that stays for all samples
    const float *channel[2];
    int64_t step;
};

Gains gains_of(const Floats &gains, size_t n) {
    require(gains.shape(0) == 2 && gains.shape(1) == n, "gains are [2, n]");
    const int64_t step = n > 1 ? gains.stride(1) : 0;
    require(step == 0 || step == 1, "gains are contiguous along time, or the same throughout");
    return {{gains.data(), gains.data() + gains.stride(0)}, step};
}

struct Send {
    const float *extra[2];  // what is sent beyond the stem, or null
    Gains gains;
    float *to[2];
};

// A stem behind its fader into a row of the mix, and from there into its sends: each (extra or None, gains, sum).
void mix(Floats stem, Floats gains, Out row, nb::list sends, const char *name) {
    const size_t n = stem.shape(1);
    require(stem.shape(0) == 2 && row.shape(1) == n && (n < 2 || row.stride(1) == 1), "stem and row are [2, n]");
    const float *from[2] = {row_of(stem, 0), row_of(stem, 1)};
    const Gains line = gains_of(gains, n);
    const Variant &variant = variant_of(name);
    std::vector<Send> all;
    for (nb::handle each : sends) {
        nb::tuple send = nb::cast<nb::tuple>(each);
        Send one = {{nullptr, nullptr}, gains_of(nb::cast<Floats>(send[1], false), n), {nullptr, nullptr}};
        if (!send[0].is_none()) {
            const Floats extra = nb::cast<Floats>(send[0], false);
            require(extra.shape(0) == 2 && extra.shape(1) == n, "what is sent beyond a stem is [2, n]");
            for (size_t c = 0; c < 2; ++c) one.extra[c] = row_of(extra, c);
        }
        const Out sum = nb::cast<Out>(send[2], false);
        require(sum.shape(1) == n && (n < 2 || sum.stride(1) == 1), "what is sent is [2, n]");
        for (int64_t c = 0; c < 2; ++c) one.to[c] = sum.data() + c * sum.stride(0);
        all.push_back(one);
    }
    // Python is not let go for so short a time: to get hold of it again may take a hundred times as long
    constexpr int64_t PIECE = 1024;
    float behind[PIECE], beyond[PIECE];
    const float one = 1;
    for (int64_t c = 0; c < 2; ++c)
        for (int64_t at = 0; at < (int64_t)n; at += PIECE) {
            const int64_t count = std::min(PIECE, (int64_t)n - at);
            const float *gain = line.channel[c] + at * line.step;
            variant.turn_up(from[c] + at, gain, line.step, count, behind);
            variant.add_turned_up(behind, &one, 0, count, row.data() + c * row.stride(0) + at);
            for (const Send &send : all) {
                const float *source = behind;
                if (send.extra[c]) {
                    std::copy(behind, behind + count, beyond);
                    variant.add_turned_up(send.extra[c] + at, gain, line.step, count, beyond);
                    source = beyond;
                }
                variant.add_turned_up(source, send.gains.channel[c] + at * send.gains.step, send.gains.step, count,
                                      send.to[c] + at);
            }
        }
}

// The highest amplitude of samples [channels, n].
float peak(Floats samples) {
    float highest = 0;
    for (size_t c = 0; c < samples.shape(0); ++c)
        highest = std::max(highest, variant_of("").peak(row_of(samples, c), (int64_t)samples.shape(1)));
    return highest;
}

bool is_silent(Floats samples) {
    constexpr int64_t PIECE = 4096;
    const Variant &variant = variant_of("");
    const int64_t n = (int64_t)samples.shape(1);
    for (size_t c = 0; c < samples.shape(0); ++c)
        for (int64_t at = 0; at < n; at += PIECE)
            if (variant.peak(row_of(samples, c) + at, std::min(PIECE, n - at)) > 0) return false;
    return true;
}

}  // namespace

NB_MODULE(_loops, module) {
    nb::set_leak_warnings(false);  // when a rendering is interrupted, its threads may still hold what they work with
    module.doc() = "The compiled loops of miao.sound; `variants` names all kinds that this processor can run, best first.";
    nb::list names;
    for (const Variant *variant : ALL)
        if (can_run(variant->name)) names.append(variant->name);
    module.attr("variants") = names;
    nb::class_<Responses>(module, "Responses")
        .def("__init__", [](Responses *to, Cube responses, int64_t size, const char *name) {
            nb::gil_scoped_release release;
            new (to) Responses(responses.data(), (int64_t)responses.shape(2), size, name);
        }, "responses"_a, "size"_a, "variant"_a = "");
    nb::class_<BoundConvolver>(module, "Convolver")
        .def(nb::init<std::shared_ptr<Responses>>(), "responses"_a)
        .def("process", &BoundConvolver::process, "samples"_a.noconvert(), "out"_a.noconvert());
    nb::class_<BoundLimiter>(module, "Limiter")
        .def(nb::init<int64_t, int64_t, double, double, double, double, Array<const float, nb::shape<KERNELS, TAPS>>,
                      const char *>(),
             "channels"_a, "half"_a, "ceiling"_a, "safe_peak"_a, "decay"_a, "smallest"_a, "kernels"_a, "variant"_a = "")
        .def_ro("most", &BoundLimiter::most)
        .def("process", &BoundLimiter::process, "samples"_a.noconvert(), "out"_a.noconvert());
    module.def("weighted_squares", &weighted_squares, "samples"_a.noconvert(), "filters"_a.noconvert(),
               "state"_a.noconvert(), "reach"_a, "out"_a.noconvert());
    module.def("mix", &mix, "stem"_a.noconvert(), "gains"_a.noconvert(), "row"_a.noconvert(), "sends"_a, "variant"_a = "");
    module.def("peak", &peak, "samples"_a.noconvert());
    module.def("is_silent", &is_silent, "samples"_a.noconvert());
    module.def("quantise16", &quantise<int16_t>, "samples"_a.noconvert(), "first"_a, "scale"_a, "is_dithered"_a,
               "out"_a.noconvert(), "variant"_a = "");
    module.def("quantise32", &quantise<int32_t>, "samples"_a.noconvert(), "first"_a, "scale"_a, "is_dithered"_a,
               "out"_a.noconvert(), "variant"_a = "");
}
