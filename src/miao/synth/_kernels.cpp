// miao._kernels: the loops of _oscillators.cpp for Python, in the fastest form that this processor can run.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/unique_ptr.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "../_processor.h"
#include "_brightness.h"
#include "_course.h"
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

template <class A>
static A field(const nb::tuple &part, size_t i) {
    return nb::cast<A>(part[i], false);  // without conversion: what it makes would not outlive this line
}

static void require(bool fits) {
    if (!fits) throw nb::value_error("the arrays of a note do not fit together, see oscillators.NotePart");
}

// Memory of this thread to work in, of which nothing is known: what is taken anew is handed over page by page.
static void *scratch_of(size_t bytes) {
    static thread_local std::unique_ptr<char[]> memory;
    static thread_local size_t size = 0;
    if (size < bytes) {
        memory.reset();
        memory.reset(new char[bytes]);
        size = bytes;
    }
    return memory.get();
}

// The fields of oscillators.NotePart.
static NotePart to_note(const nb::tuple &part, int64_t n_bands, std::vector<const float *> &rows) {
    require(part.size() == 12);
    auto knots = field<Array<double, nb::ndim<1>>>(part, 0), pitch_knots = field<Array<double, nb::ndim<1>>>(part, 1);
    auto phase = field<Array<double, nb::ndim<1>>>(part, 2);
    auto levels = field<Array<float, nb::ndim<2>>>(part, 3);
    auto offsets = field<Array<float, nb::ndim<1>>>(part, 4);
    auto ratios = field<Array<double, nb::ndim<1>>>(part, 5);
    auto cells = field<Array<int32_t, nb::ndim<1>>>(part, 6);
    auto shares = field<Array<float, nb::ndim<1>>>(part, 7);
    auto gains = field<Array<float, nb::shape<-1, 3>>>(part, 8);
    auto balance = field<Array<float, nb::shape<-1, 2>>>(part, 9);
    const size_t n = knots.shape(0), n_cells = levels.shape(1), partials = ratios.shape(0), bands = (size_t)n_bands;
    require(phase.shape(0) == pitch_knots.shape(0) && levels.shape(0) == n && n_cells >= bands + 3);
    require(offsets.shape(0) == partials && cells.shape(0) == partials && shares.shape(0) == partials);
    require(gains.shape(0) == partials && balance.shape(0) == bands && n_cells <= MOST_CELLS);
    const int32_t last = (int32_t)(n_cells - bands - 3);  // the cell before the last one of a partial
    for (size_t p = 0; p < partials; ++p) require(cells.data()[p] >= 0 && cells.data()[p] <= last);
    for (size_t row = 0; row < n; ++row) rows.push_back(levels.data() + row * n_cells);
    return {(int64_t)n, (int64_t)pitch_knots.shape(0), (int64_t)n_cells, (int64_t)partials, knots.data(), pitch_knots.data(),
            phase.data(), rows.data(), ratios.data(), cells.data(), shares.data(), offsets.data(), gains.data(),
            balance.data(), nb::cast<bool>(part[10]), nb::cast<float>(part[11])};
}

// The notes of a part, all that they point to, and where they are added.
struct Order {
    Block block;
    std::vector<nb::object> kept;  // so that they live on whatever happens to the list
    std::vector<NotePart> notes;
    std::vector<std::vector<const float *>> rows;
    Loops loops;
    bool is_extra;
    size_t bytes = SHARED_BYTES;  // to work in
};

using Table = Array<float, nb::ndim<2>>;
using Places = Array<int64_t, nb::shape<-1, 2>>;

static Order to_order(const Out &out, const nb::list &parts, const Table &table, const Places &places, bool is_extra) {
    const int64_t n_bands = (int64_t)table.shape(0), n_table = (int64_t)table.shape(1);
    require(n_table > 0 && !(n_table & (n_table - 1)) && n_bands <= MOST_BANDS && (int64_t)places.shape(0) == n_bands);
    Order order{to_block(out), {}, {}, {}, {n_bands, n_table, table.data(), places.data()}, is_extra};
    order.rows.resize(parts.size());
    for (nb::handle part : parts) {
        order.kept.push_back(nb::borrow(part));
        if (nb::isinstance<Part>(part)) {
            const Part &own = nb::cast<const Part &>(part);
            require((int64_t)own.sound->balance.size() == 2 * n_bands && own.n_cells >= n_bands + 3);
            order.notes.push_back(own.note());
        } else {
            order.notes.push_back(to_note(nb::cast<nb::tuple>(part), n_bands, order.rows[order.notes.size()]));
        }
        order.bytes += (size_t)scratch_bytes(order.notes.back().n_partials);
    }
    return order;
}

static void add(const Variant &variant, const Order &order, int64_t begin, const Scale &scale) {
    variant.add_notes(order.block, order.notes.data(), (int64_t)order.notes.size(), order.loops, begin, order.is_extra, scale,
                      scratch_of(order.bytes));
}

static nb::object bind_notes(const Variant &variant) {
    return nb::cpp_function(
        [variant](Out out, nb::list parts, Table table, Places places, int64_t begin, bool is_extra, float silent,
                  float octaves, float floor) {
            const Order order = to_order(out, parts, table, places, is_extra);
            nb::gil_scoped_release release;
            add(variant, order, begin, {silent, octaves, floor});
        },
        "out"_a.noconvert(), "parts"_a, "table"_a.noconvert(), "places"_a.noconvert(), "begin"_a, "is_extra"_a, "silent"_a,
        "octaves"_a, "floor"_a);
}

// Orders of which any number of threads take the next one each until there is none; none of them needs Python.
struct Work {
    Work(const Variant &variant, nb::object table, int64_t begin, const Scale &scale)
        : variant(variant), table(std::move(table)), begin(begin), scale(scale) {}

    const Variant &variant;
    nb::object table;
    int64_t begin;
    Scale scale;
    std::vector<Order> orders;
    std::atomic<size_t> next{0};

    void run() {
        nb::gil_scoped_release release;
        for (size_t i = next++; i < orders.size(); i = next++) {
            const Order &order = orders[i];
            std::fill_n(order.block.left, order.block.n_samples, 0.0f);
            std::fill_n(order.block.right, order.block.n_samples, 0.0f);
            add(variant, order, begin, scale);
        }
    }
};

static nb::object bind_work(const Variant &variant) {
    return nb::cpp_function(
        [&variant](nb::list orders, nb::object table, int64_t begin, float silent, float octaves, float floor) {
            auto work = std::make_unique<Work>(variant, table, begin, Scale{silent, octaves, floor});
            for (nb::handle one : orders) {
                const nb::tuple fields = nb::cast<nb::tuple>(one);
                require(fields.size() == 4);
                work->orders.push_back(to_order(field<Out>(fields, 0), nb::cast<nb::list>(fields[1]),
                                                nb::cast<Table>(table, false), field<Places>(fields, 2),
                                                nb::cast<bool>(fields[3])));
                work->orders.back().kept.push_back(nb::borrow(one));
            }
            return work;
        },
        "orders"_a, "table"_a, "begin"_a, "silent"_a, "octaves"_a, "floor"_a);
}

template <class T>
static nb::object array_of(std::vector<T> values, std::initializer_list<size_t> shape) {
    auto *kept = new std::vector<T>(std::move(values));
    nb::capsule owner(kept, [](void *p) noexcept { delete (std::vector<T> *)p; });
    return nb::cast(nb::ndarray<nb::numpy, T>(kept->data(), shape.size(), shape.begin(), owner));
}

static nb::object levels_of(const std::vector<const float *> &rows, int64_t n_cells) {
    std::vector<float> levels;
    levels.reserve(rows.size() * (size_t)n_cells);
    for (const float *row : rows) levels.insert(levels.end(), row, row + n_cells);
    return array_of(std::move(levels), {rows.size(), (size_t)n_cells});
}

struct Heard {  // what Python holds of rows
    RowsPointer rows;
};

static void bind_rows(nb::module_ &module) {
    nb::class_<Heard>(module, "Rows")
        .def("__init__",
             [](Heard *self, Array<float, nb::ndim<2>> levels, Array<double, nb::ndim<1>> bends) {
                 const size_t n = levels.shape(0);
                 if (!n || bends.shape(0) != n) throw nb::value_error("rows of levels and their bends do not fit together");
                 const std::vector<float> cells(levels.data(), levels.data() + levels.size());
                 new (self) Heard{std::make_shared<const Rows>(
                     Rows{(int64_t)n, (int64_t)levels.shape(1), cells, {bends.data(), bends.data() + n}})};
             },
             "levels"_a, "bends"_a)
        .def("__len__", [](const Heard &self) { return self.rows->n; })
        .def_prop_ro("levels", [](const Heard &self) {
            return array_of(std::vector<float>(self.rows->levels), {(size_t)self.rows->n, (size_t)self.rows->n_cells});
        })
        .def_prop_ro("bends", [](const Heard &self) {
            return array_of(std::vector<double>(self.rows->bends), {(size_t)self.rows->n});
        });
    nb::class_<Part>(module, "Part")
        .def("scaled", [](const Part &self, float factor) {
            auto other = std::make_unique<Part>(self);
            other->factor *= factor;
            return other;
        }, "factor"_a)
        .def("arrays", [](const Part &self) {  // the fields of oscillators.NotePart
            const Sound &s = *self.sound;
            const size_t partials = s.ratios.size(), bands = s.balance.size() / 2;
            const std::vector<double> &pitch_knots = self.pitch_knots.empty() ? self.knots : self.pitch_knots;
            return nb::make_tuple(
                array_of(std::vector<double>(self.knots), {self.knots.size()}),
                array_of(std::vector<double>(pitch_knots), {pitch_knots.size()}),
                array_of(std::vector<double>(self.phase), {self.phase.size()}), levels_of(self.held.rows, self.n_cells),
                array_of(std::vector<float>(s.offsets), {partials}), array_of(std::vector<double>(s.ratios), {partials}),
                array_of(std::vector<int32_t>(s.cells), {partials}), array_of(std::vector<float>(s.shares), {partials}),
                array_of(std::vector<float>(s.gains), {partials, 3}), array_of(std::vector<float>(s.balance), {bands, 2}),
                s.is_wide, self.factor);
        });
}

static void bind_course(nb::module_ &module) {
    nb::class_<Course>(module, "Course")
        .def("__init__",
             [](Course *self, double hz, size_t n_cells, Array<double, nb::ndim<1>> ratios,
                Array<int32_t, nb::ndim<1>> cells, Array<float, nb::ndim<1>> shares, Array<float, nb::ndim<1>> offsets,
                Array<float, nb::shape<-1, 3>> gains, Array<float, nb::shape<-1, 2>> balance,
                bool is_wide) {
                 const size_t n = ratios.shape(0), bands = balance.shape(0);
                 require(cells.shape(0) == n && shares.shape(0) == n && offsets.shape(0) == n && gains.shape(0) == n);
                 require(n_cells >= bands + 3 && n_cells <= (size_t)MOST_CELLS);
                 for (size_t p = 0; p < n; ++p)
                     require(cells.data()[p] >= 0 && cells.data()[p] <= (int32_t)(n_cells - bands - 3));
                 const auto copied = [](const auto &array) {
                     return std::vector(array.data(), array.data() + array.size());
                 };
                 new (self) Course(hz, (int64_t)n_cells, std::make_shared<const Sound>(Sound{
                     copied(ratios), copied(cells), copied(shares), copied(offsets), copied(gains), copied(balance),
                     is_wide}));
             },
             "hz"_a, "n_cells"_a, "ratios"_a.noconvert(), "cells"_a.noconvert(), "shares"_a.noconvert(),
             "offsets"_a.noconvert(), "gains"_a.noconvert(), "balance"_a.noconvert(), "is_wide"_a)
        .def("__len__", [](const Course &self) { return self.knots.size(); })
        .def_rw("phase", &Course::phase)
        .def_ro("changes", &Course::changes)
        .def_prop_ro("last", &Course::last)
        .def_prop_ro("times", [](const Course &self) {
            return array_of(std::vector<double>(self.knots.at), {self.knots.at.size()});
        })
        .def_prop_ro("hz", [](const Course &self) {
            return array_of(std::vector<double>(self.knots.hz), {self.knots.hz.size()});
        })
        .def_prop_ro("levels", [](const Course &self) { return levels_of(self.knots.rows, self.n_cells); })
        .def("copy", [](const Course &self) { return std::make_unique<Course>(self); })
        .def("append",
             [](Course &self, const Heard &heard, double start, Array<double, nb::ndim<1>> times, int64_t first) {
                 require(heard.rows->n_cells == self.n_cells && (int64_t)times.shape(0) == heard.rows->n && first >= 0);
                 if (first < heard.rows->n) self.append(heard.rows, start, times.data(), first);
             },
             "heard"_a, "start"_a, "times"_a.noconvert(), "first"_a)
        .def("fall_silent", &Course::fall_silent, "seconds"_a)
        .def("truncate", &Course::truncate, "moment"_a)
        .def("rejoin", &Course::rejoin, "other"_a)
        .def("loudest_at", &Course::loudest_at, "moment"_a)
        .def("pass_by", &Course::pass_by, "moment"_a)
        .def("span",
             [](const Course &self, int64_t begin, int64_t n_samples, double rate) -> nb::object {
                 const int64_t stop = std::min(self.before((double)(begin + n_samples), rate) + 1, self.knots.size());
                 if (stop < 2) return nb::none();
                 return nb::make_tuple(self.knots.at[0], self.knots.at[(size_t)stop - 1]);
             },
             "begin"_a, "n_samples"_a, "rate"_a)
        .def("part",
             [](Course &self, int64_t begin, int64_t n_samples, double rate) {
                 return self.part(begin, n_samples, rate, nullptr, nullptr, 0);
             },
             "begin"_a, "n_samples"_a, "rate"_a)
        .def("bent_part",
             [](Course &self, int64_t begin, int64_t n_samples, double rate, Array<double, nb::ndim<1>> cells,
                Array<double, nb::ndim<1>> bends) {
                 require(cells.shape(0) == bends.shape(0) && cells.shape(0) > 0);
                 return self.part(begin, n_samples, rate, cells.data(), bends.data(), (int64_t)cells.shape(0));
             },
             "begin"_a, "n_samples"_a, "rate"_a, "cells"_a.noconvert(), "bends"_a.noconvert());
}

static nb::object brightened(Array<float, nb::ndim<2>> rows, Array<float, nb::ndim<1>> settings, Array<float, nb::ndim<1>> lifts,
                             Array<float, nb::ndim<1>> weights, float dark, float louder, float near_levels, float far_levels,
                             float per_level) {
    const size_t n = rows.shape(0), n_cells = rows.shape(1);
    require(settings.shape(0) == n && n_cells > 1 && lifts.shape(0) + 1 == n_cells && weights.shape(0) + 1 == n_cells);
    std::vector<float> bright(rows.size());
    const BrightnessLaw law{dark, louder, near_levels, far_levels, per_level};
    for (size_t k = 0; k < n; ++k)
        brighten(rows.data() + k * n_cells, bright.data() + k * n_cells, (int64_t)n_cells, settings.data()[k], lifts.data(),
                 weights.data(), law);
    return array_of(std::move(bright), {n, n_cells});
}

NB_MODULE(_kernels, module) {
    module.doc() = "The compiled loops of miao.oscillators; `variants` holds all that this processor can run.";
    bind_rows(module);
    bind_course(module);
    module.def("brightened", &brightened, "rows"_a.noconvert(), "settings"_a.noconvert(), "lifts"_a.noconvert(),
               "weights"_a.noconvert(), "dark"_a, "louder"_a, "near_levels"_a, "far_levels"_a, "per_level"_a);
    nb::class_<Work>(module, "Work").def("run", &Work::run);
    nb::dict variants;
    for (const Variant *variant : {
#ifdef MIAO_X86
             &avx512, &avx2,
#endif
             &plain}) {
        if (!miao_processor::can_run(variant->name)) continue;
        nb::object partials = bind_partials(*variant), notes = bind_notes(*variant), work = bind_work(*variant);
        if (variants.size() == 0) {  // the fastest comes first
            module.attr("add_partials") = partials;
            module.attr("add_notes") = notes;
            module.attr("work_on_notes") = work;
        }
        variants[variant->name] = nb::make_tuple(partials, notes, work);
    }
    module.attr("variants") = variants;
}
