// miao.bank._nets: the audio decoder for Python, in the fastest form that this processor can run.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "../_processor.h"
#include "_decoder.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace miao_decoder;

namespace {

template <class T, class... Shape>
using Array = nb::ndarray<const T, Shape..., nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::shape<-1, STEPS, CELLS>, nb::c_contig, nb::device::cpu>;

const Variant *const ALL[] = {
#ifdef MIAO_X86
    &avx512, &avx2,
#endif
    &plain,
};

void require(bool fits) {
    if (!fits) throw nb::value_error("the arrays of a decoder do not fit together");
}

template <class T>
Array<T> array_of(const nb::dict &weights, const char *name, std::initializer_list<int64_t> shape) {
    if (!weights.contains(name)) throw nb::value_error(name);
    Array<T> array = nb::cast<Array<T>>(weights[name], false);
    int64_t size = 1;
    for (int64_t n : shape) size *= n;
    require((int64_t)array.size() == size);
    return array;
}

void copy(const nb::dict &weights, const char *name, float *to, std::initializer_list<int64_t> shape) {
    const Array<float> array = array_of<float>(weights, name, shape);
    std::copy_n(array.data(), array.size(), to);
}

template <class T>
std::vector<T> packed(const T *weights, int64_t n_out, int64_t n_in, int64_t panel) {
    require(n_out % panel == 0);
    std::vector<T> all((size_t)(n_out * n_in));
    for (int64_t o = 0; o < n_out; ++o)
        for (int64_t k = 0; k < n_in; ++k)
            all[(size_t)((o - o % panel) * n_in + k * panel + o % panel)] = weights[o * n_in + k];
    return all;
}

Dense dense(const nb::dict &weights, const char *name, const char *bias, int64_t n_out, int64_t n_in, int64_t panel) {
    Dense layer{n_in, n_out, packed(array_of<float>(weights, name, {n_out, n_in}).data(), n_out, n_in, panel), {}, {}, {}};
    layer.scale.assign((size_t)n_out, 1.0f);
    layer.bias.resize((size_t)n_out);
    copy(weights, bias, layer.bias.data(), {n_out});
    return layer;
}

// Its outputs are told place by place and kept channel by channel.
Dense expanding(const nb::dict &weights, int64_t n_in, int64_t panel) {
    const Array<int8_t> bytes = array_of<int8_t>(weights, "expand", {IMAGE, n_in});
    const Array<float> scale = array_of<float>(weights, "expand_scale", {IMAGE});
    const Array<float> bias = array_of<float>(weights, "expand_bias", {IMAGE});
    std::vector<int8_t> turned((size_t)(IMAGE * n_in));
    Dense layer{n_in, IMAGE, {}, {}, std::vector<float>(IMAGE), std::vector<float>(IMAGE)};
    for (int64_t place = 0; place < PLACES; ++place)
        for (int64_t c = 0; c < CHANNELS; ++c) {
            const int64_t from = place * CHANNELS + c, to = c * PLACES + place;
            std::copy_n(bytes.data() + from * n_in, n_in, turned.data() + to * n_in);
            layer.scale[(size_t)to] = scale.data()[from], layer.bias[(size_t)to] = bias.data()[from];
        }
    layer.bytes = packed(turned.data(), IMAGE, n_in, panel);
    return layer;
}

void read(const nb::dict &weights, const char *weight, const char *bias, Depthwise &to) {
    copy(weights, weight, to.weight[0], {CHANNELS, 9});
    copy(weights, bias, to.bias, {CHANNELS});
}
void read(const nb::dict &weights, const char *weight, const char *bias, Norm &to) {
    copy(weights, weight, to.weight, {CHANNELS});
    copy(weights, bias, to.bias, {CHANNELS});
}

class BoundDecoder {
  public:
    BoundDecoder(nb::dict weights, bool is_attack, int64_t voice_width, int64_t context_width, int64_t hidden,
                 int64_t n_indices, const char *name) {
        for (const Variant *one : ALL)
            if (!variant && miao_processor::can_run(one->name) && (!*name || !std::strcmp(name, one->name))) variant = one;
        if (!variant) throw nb::value_error("no such variant runs here");
        const int64_t panel = variant->panel;
        net.is_attack = is_attack, net.voice_width = voice_width, net.context_width = context_width;
        net.hidden = hidden, net.n_indices = n_indices, net.n_known = voice_width + SCALARS + CELLS + context_width;
        net.chunks.resize((size_t)(n_indices * hidden));
        copy(weights, "chunks", net.chunks.data(), {n_indices, hidden});
        net.condition = dense(weights, "condition", "condition_bias", hidden, net.n_known, panel);
        net.condition_second = dense(weights, "condition_second", "condition_second_bias", hidden, hidden, panel);
        net.expand = expanding(weights, hidden, panel);
        read(weights, "before", "before_bias", net.before);
        read(weights, "parallel", "parallel_bias", net.parallel);
        read(weights, "after", "after_bias", net.after);
        read(weights, "before_norm", "before_norm_bias", net.before_norm);
        read(weights, "attention_norm", "attention_norm_bias", net.attention_norm);
        read(weights, "after_norm", "after_norm_bias", net.after_norm);
        copy(weights, "temperature", net.temperature, {HEADS});
        copy(weights, "project", net.project[0], {3 * CHANNELS, CHANNELS});
        copy(weights, "project_bias", net.project_bias, {3 * CHANNELS});
        copy(weights, "merge", net.merge[0], {CHANNELS, CHANNELS});
        copy(weights, "merge_bias", net.merge_bias, {CHANNELS});
        copy(weights, "head", net.head[0], {N_HEAD, CHANNELS});
        copy(weights, "head_bias", net.head_bias, {N_HEAD});
        copy(weights, "keep", net.keep[0], {STEPS, CELLS});
        copy(weights, "ramps", net.ramps, {STEPS});
    }

    void write(Array<float, nb::ndim<2>> embedding, Array<float, nb::shape<-1, CELLS>> profile, Array<float, nb::ndim<1>> pitch,
               Array<float, nb::ndim<1>> velocity, Array<int64_t, nb::ndim<1>> index, Array<float, nb::ndim<1>> age,
               nb::object previous, Array<float, nb::ndim<2>> context, Out levels, Out spread) const {
        const size_t n = pitch.shape(0);
        require(embedding.shape(0) == n && profile.shape(0) == n && velocity.shape(0) == n && index.shape(0) == n);
        require(age.shape(0) == n && context.shape(0) == n && levels.shape(0) == n && spread.shape(0) == n);
        require((int64_t)embedding.shape(1) == net.voice_width && (int64_t)context.shape(1) == net.context_width);
        for (size_t row = 0; row < n; ++row) require(index.data()[row] >= 0 && index.data()[row] < net.n_indices);
        Inputs inputs{(int64_t)n, embedding.data(), profile.data(), pitch.data(), velocity.data(), age.data(), nullptr,
                      context.data(), index.data()};
        if (!net.is_attack) {
            const auto before = nb::cast<Array<float, nb::shape<-1, CELLS>>>(previous, false);
            require(before.shape(0) == n);
            inputs.previous = before.data();
        }
        nb::gil_scoped_release release;
        // kept by the thread: what is taken anew is handed over page by page
        static thread_local std::unique_ptr<float[]> scratch;
        static thread_local int64_t size = 0;
        if (size < scratch_floats(net, inputs.n)) {
            size = scratch_floats(net, inputs.n);
            scratch.reset();
            scratch.reset(new float[(size_t)size]);
        }
        variant->write(net, inputs, scratch.get(), levels.data(), spread.data());
    }

  private:
    Decoder net;
    const Variant *variant = nullptr;
};

}  // namespace

NB_MODULE(_nets, module) {
    nb::set_leak_warnings(false);
    module.doc() = "The compiled audio decoder; `variants` names all kinds that this processor can run, best first.";
    nb::list names;
    for (const Variant *variant : ALL)
        if (miao_processor::can_run(variant->name)) names.append(variant->name);
    module.attr("variants") = names;
    nb::class_<BoundDecoder>(module, "Decoder")
        .def(nb::init<nb::dict, bool, int64_t, int64_t, int64_t, int64_t, const char *>(), "weights"_a, "is_attack"_a,
             "voice_width"_a, "context_width"_a, "hidden"_a, "n_indices"_a, "variant"_a = "")
        .def("write", &BoundDecoder::write, "embedding"_a.noconvert(), "profile"_a.noconvert(), "pitch"_a.noconvert(),
             "velocity"_a.noconvert(), "index"_a.noconvert(), "age"_a.noconvert(), "previous"_a.none(),
             "context"_a.noconvert(), "levels"_a.noconvert(), "spread"_a.noconvert());
}
