// miao._kernels: the loops of _oscillators.cpp for Python, in the fastest form that this processor can run.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_AMD64))
#include <windows.h>
#endif

#include "_oscillators.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace miao;

template <class T, class... Shape>
using Array = nb::ndarray<const T, Shape..., nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::shape<2, -1>, nb::device::cpu>;

static bool can_run(const Variant &variant) {
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

static Block to_block(const Out &out) {
    if (out.shape(1) > 1 && out.stride(1) != 1) throw nb::value_error("out must be contiguous along samples");
    return {out.data(), out.data() + out.stride(0), (int64_t)out.shape(1)};
}

static nb::object bind_partials(const Variant &variant) {
    return nb::cpp_function(
        [variant](Out out, Array<double, nb::ndim<1>> knots, Array<double, nb::ndim<1>> phase,
                  Array<float, nb::ndim<2>> amplitudes, Array<double, nb::ndim<1>> ratios,
                  Array<float, nb::ndim<1>> offsets, Array<float, nb::shape<-1, 2>> gains, double floor) {
            size_t n = knots.shape(0), partials = ratios.shape(0);
            if (phase.shape(0) != n || amplitudes.shape(0) != n || amplitudes.shape(1) != partials ||
                offsets.shape(0) != partials || gains.shape(0) != partials)
                throw nb::value_error("the shapes of a note's partials do not fit together");
            nb::gil_scoped_release release;
            variant.add_partials(to_block(out),
                                 {(int64_t)n, (int64_t)partials, knots.data(), phase.data(), amplitudes.data(),
                                  ratios.data(), offsets.data(), gains.data(), (float)floor});
        },
        "out"_a.noconvert(), "knots"_a.noconvert(), "phase"_a.noconvert(), "amplitudes"_a.noconvert(),
        "ratios"_a.noconvert(), "offsets"_a.noconvert(), "gains"_a.noconvert(), "floor"_a);
}

static nb::object bind_noise(const Variant &variant) {
    return nb::cpp_function(
        [variant](Out out, Array<double, nb::ndim<1>> knots, Array<float, nb::ndim<2>> gains,
                  Array<float, nb::shape<-1, 2>> balance, Array<float, nb::ndim<2>> table,
                  Array<int64_t, nb::shape<-1, 2>> offsets, double floor) {
            size_t n = knots.shape(0), bands = table.shape(0), length = table.shape(1);
            if (gains.shape(0) != n || gains.shape(1) != bands || balance.shape(0) != bands ||
                offsets.shape(0) != bands || length == 0 || (length & (length - 1)))
                throw nb::value_error("the shapes of a note's noise do not fit together");
            nb::gil_scoped_release release;
            variant.add_noise(to_block(out), {(int64_t)n, (int64_t)bands, (int64_t)length, knots.data(), gains.data(),
                                              balance.data(), table.data(), offsets.data(), (float)floor});
        },
        "out"_a.noconvert(), "knots"_a.noconvert(), "gains"_a.noconvert(), "balance"_a.noconvert(),
        "table"_a.noconvert(), "offsets"_a.noconvert(), "floor"_a);
}

NB_MODULE(_kernels, module) {
    module.doc() = "The compiled loops of miao.oscillators; `variants` holds all that this processor can run.";
    nb::dict variants;
    for (const Variant *variant : {
#ifdef MIAO_X86
             &avx512, &avx2,
#endif
             &plain}) {
        if (!can_run(*variant)) continue;
        nb::object partials = bind_partials(*variant), noise = bind_noise(*variant);
        if (variants.size() == 0) {  // the fastest comes first
            module.attr("add_partials") = partials;
            module.attr("add_noise") = noise;
        }
        variants[variant->name] = nb::make_tuple(partials, noise);
    }
    module.attr("variants") = variants;
}
