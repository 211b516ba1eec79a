// miao._kernels: the loops of _oscillators.cpp for Python, in the fastest form that this processor can run.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <vector>

#include "../_processor.h"
#include "_oscillators.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace miao;

template <class T, class... Shape>
using Array = nb::ndarray<const T, Shape..., nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::shape<2, -1>, nb::device::cpu>;

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
            const Block block = to_block(out);
            nb::gil_scoped_release release;
            const Partials note{(int64_t)n, (int64_t)n, (int64_t)partials, knots.data(), knots.data(), phase.data(),
                                amplitudes.data(), ratios.data(), offsets.data(), gains.data(), (float)floor};
            std::vector<double> scratch((size_t)scratch_bytes(note) / sizeof(double) + 1);
            variant.add_partials(block, note, scratch.data());
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

template <class A>
static A field(const nb::tuple &part, size_t i) {
    return nb::cast<A>(part[i], false);  // without conversion: what it makes would not outlive this line
}

static void require(bool fits) {
    if (!fits) throw nb::value_error("the arrays of a note do not fit together, see oscillators.NotePart");
}

// The fields of oscillators.NotePart.
static NotePart to_note(const nb::tuple &part, const Array<float, nb::ndim<2>> &table,
                        std::vector<const float *> &rows) {
    require(part.size() == 11);
    auto knots = field<Array<double, nb::ndim<1>>>(part, 0), pitch_knots = field<Array<double, nb::ndim<1>>>(part, 1);
    auto phase = field<Array<double, nb::ndim<1>>>(part, 2);
    auto levels = field<Array<float, nb::ndim<2>>>(part, 3);
    auto offsets = field<Array<float, nb::ndim<1>>>(part, 4);
    auto noise_offsets = field<Array<int64_t, nb::shape<-1, 2>>>(part, 5);
    auto ratios = field<Array<double, nb::ndim<1>>>(part, 6);
    auto cells = field<Array<int32_t, nb::ndim<1>>>(part, 7);
    auto shares = field<Array<float, nb::ndim<1>>>(part, 8);
    auto gains = field<Array<float, nb::shape<-1, 2>>>(part, 9);
    auto balance = field<Array<float, nb::shape<-1, 2>>>(part, 10);
    const size_t n = knots.shape(0), n_cells = levels.shape(1), partials = ratios.shape(0), bands = table.shape(0);
    require(phase.shape(0) == pitch_knots.shape(0) && levels.shape(0) == n && n_cells >= bands + 3);
    require(offsets.shape(0) == partials && cells.shape(0) == partials && shares.shape(0) == partials);
    require(gains.shape(0) == partials && balance.shape(0) == bands && noise_offsets.shape(0) == bands);
    const int32_t last = (int32_t)(n_cells - bands - 3);  // the cell before the last one of a partial
    for (size_t p = 0; p < partials; ++p) require(cells.data()[p] >= 0 && cells.data()[p] <= last);
    require(n_cells <= MOST_CELLS);
    for (size_t row = 0; row < n; ++row) rows.push_back(levels.data() + row * n_cells);
    return {(int64_t)n, (int64_t)pitch_knots.shape(0), (int64_t)n_cells, (int64_t)partials, (int64_t)bands,
            (int64_t)table.shape(1), knots.data(), pitch_knots.data(), phase.data(), rows.data(), ratios.data(),
            cells.data(), shares.data(), offsets.data(), gains.data(), balance.data(), table.data(),
            noise_offsets.data()};
}

static nb::object bind_notes(const Variant &variant) {
    return nb::cpp_function(
        [variant](Out out, nb::list parts, Array<float, nb::ndim<2>> table, float silent, float octaves, float floor,
                  float masked) {
            require(table.shape(1) > 0 && !(table.shape(1) & (table.shape(1) - 1)));
            const Block block = to_block(out);
            std::vector<nb::tuple> kept;  // so that the arrays live on whatever happens to the list
            std::vector<NotePart> notes;
            std::vector<std::vector<const float *>> rows(parts.size());
            int64_t bytes = SHARED_BYTES;
            for (nb::handle part : parts) {
                kept.push_back(nb::cast<nb::tuple>(part));
                notes.push_back(to_note(kept.back(), table, rows[notes.size()]));
                bytes += scratch_bytes(notes.back().n_partials, notes.back().n_bands);
            }
            nb::gil_scoped_release release;
            std::vector<double> scratch((size_t)bytes / sizeof(double) + 1);
            variant.add_notes(block, notes.data(), (int64_t)notes.size(), {silent, octaves, floor, masked}, scratch.data());
        },
        "out"_a.noconvert(), "parts"_a, "table"_a.noconvert(), "silent"_a, "octaves"_a, "floor"_a, "masked"_a);
}

NB_MODULE(_kernels, module) {
    module.doc() = "The compiled loops of miao.oscillators; `variants` holds all that this processor can run.";
    nb::dict variants;
    for (const Variant *variant : {
#ifdef MIAO_X86
             &avx512, &avx2,
#endif
             &plain}) {
        if (!miao_processor::can_run(variant->name)) continue;
        nb::object partials = bind_partials(*variant), noise = bind_noise(*variant), notes = bind_notes(*variant);
        if (variants.size() == 0) {  // the fastest comes first
            module.attr("add_partials") = partials;
            module.attr("add_noise") = noise;
            module.attr("add_notes") = notes;
        }
        variants[variant->name] = nb::make_tuple(partials, noise, notes);
    }
    module.attr("variants") = variants;
}
