// The room's convolution and the limiter, for Python's _loops and for the live engine, which calls them where nothing
// may be allocated: after `reserve` neither does. What each of them is to do says its NumPy twin in convolution.py and
// limiter.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "../_processor.h"
#include "_signal.h"

namespace miao_sound {

using miao_processor::can_run;

inline const Variant *const ALL[] = {
#ifdef MIAO_X86
    &avx512, &avx2,
#endif
    &plain,
};

inline const Variant &variant_of(const char *name) {
    for (const Variant *variant : ALL)
        if (can_run(variant->name) && (!*name || !std::strcmp(name, variant->name))) return *variant;
    throw std::invalid_argument("no such variant runs here");
}

inline void require(bool fits, const char *what) {
    if (!fits) throw std::invalid_argument(what);
}

// Two by two responses, cut into partitions of `size` samples and transformed: what convolvers in one room share.
class Responses {
  public:
    Responses(const float *responses, int64_t length, int64_t size, const char *name)
        : variant(variant_of(name)), size(size), n(2 * size), n_parts(std::max<int64_t>((length + size - 1) / size, 1)) {
        require(size >= 512 && !(size & (size - 1)), "a partition is a power of two from 512 on");
        twiddles.resize((size_t)n_twiddles(n));
        mirror.resize((size_t)n);
        std::vector<int32_t> frequency((size_t)n);
        fill(n, twiddles.data(), frequency.data(), mirror.data());
        transform = {n, twiddles.data(), mirror.data()};
        std::vector<float> one((size_t)(2 * n)), other((size_t)(2 * n));
        for (int64_t part = 0; part < n_parts; ++part) {
            const int64_t count = std::max<int64_t>(std::min(size, length - part * size), 0);
            auto load = [&](std::vector<float> &to, int64_t speaker) {  // what both ears hear of a speaker
                std::fill(to.begin(), to.end(), 0.0f);
                for (int64_t ear = 0; ear < 2; ++ear) {
                    const float *from = responses + (2 * ear + speaker) * length + part * size;
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
    }
    Responses(const Responses &) = delete;  // `transform` points into it

    const Variant &variant;
    const int64_t size, n, n_parts;
    std::vector<float> twiddles;
    std::vector<int32_t> mirror;
    Transform transform;
    std::vector<std::vector<float>> direct, crossed;
};

// A convolution of two channels with two by two responses, as one of complex numbers: left + i right.
class Convolver {
  public:
    explicit Convolver(std::shared_ptr<const Responses> given)
        : responses(std::move(given)), variant(responses->variant), size(responses->size), n(responses->n),
          n_parts(responses->n_parts), past((size_t)n_parts) {
        for (Spectrum &spectrum : past) spectrum.allot(n);
        current.allot(n);
        filling.assign((size_t)n, 0.0f);
        overlap.assign((size_t)n, 0.0f);
        to_come.assign((size_t)(2 * n), 0.0f);
        now.assign((size_t)(2 * n), 0.0f);
    }

    // The answer [2, total] to two rows of samples.
    void process(const float *left, const float *right, int64_t total, float *to) {
        for (int64_t done = 0; done < total;) {
            const int64_t count = std::min(size - n_filled, total - done);
            std::copy(left + done, left + done + count, filling.data() + n_filled);
            std::copy(right + done, right + done + count, filling.data() + size + n_filled);
            for (int64_t from = done, few; !is_filling && from < done + count; from += few) {
                few = std::min<int64_t>(done + count - from, 1024);  // what sounds does so soon
                is_filling = variant.peak(left + from, few) > 0 || variant.peak(right + from, few) > 0;
            }
            transform_filling(n_filled + count);
            for (int64_t ear = 0; ear < 2; ++ear)
                for (int64_t s = 0; s < count; ++s)
                    to[ear * total + done + s] = now[ear * n + n_filled + s] + overlap[ear * size + n_filled + s];
            n_filled += count;
            done += count;
            if (n_filled == size) turn();
        }
    }

  private:
    struct Spectrum {
        std::vector<float> z, mirrored;
        bool is_silent = true;
        void allot(int64_t n) {
            z.assign((size_t)(2 * n), 0.0f);
            mirrored.assign((size_t)(2 * n), 0.0f);
        }
    };

    // What the filling partition and all before it make of the partition, and of the next one.
    void transform_filling(int64_t filled) {
        if (!is_filling && n_sounding <= 0) {
            if (!now_is_silent) std::fill(now.begin(), now.end(), 0.0f);
            now_is_silent = true;
            return;
        }
        now_is_silent = false;
        std::copy(to_come.begin(), to_come.end(), now.begin());
        if (is_filling) {
            std::fill(current.z.begin(), current.z.end(), 0.0f);
            std::copy(filling.data(), filling.data() + filled, current.z.data());
            std::copy(filling.data() + size, filling.data() + size + filled, current.z.data() + n);
            variant.forward(responses->transform, current.z.data(), current.z.data() + n);
            for (int64_t k = 0; k < n; ++k) {
                current.mirrored[k] = current.z[responses->mirror[k]];
                current.mirrored[n + k] = -current.z[n + responses->mirror[k]];
            }
            variant.add_products(n, 0, n, responses->direct[0].data(), responses->crossed[0].data(), current.z.data(), current.mirrored.data(),
                                 now.data());
        }
        variant.backward(responses->transform, now.data(), now.data() + n);
    }

    void turn() {
        for (int64_t ear = 0; ear < 2; ++ear)
            std::copy(now.data() + ear * n + size, now.data() + ear * n + n, overlap.data() + ear * size);
        at = (at + n_parts - 1) % n_parts;  // the newest first
        n_sounding = is_filling ? n_parts : n_sounding - 1;
        if (is_filling)
            std::swap(past[at], current);
        past[at].is_silent = !is_filling;
        std::fill(to_come.begin(), to_come.end(), 0.0f);
        constexpr int64_t PIECE = 1024;  // of the sum, which stays in the cache for all partitions
        for (int64_t first = 0; first < n; first += PIECE)
            for (int64_t part = 1; part < n_parts; ++part) {
                const Spectrum &spectrum = past[(at + part - 1) % n_parts];
                if (spectrum.is_silent) continue;
                variant.add_products(n, first, PIECE, responses->direct[part].data(), responses->crossed[part].data(), spectrum.z.data(),
                                     spectrum.mirrored.data(), to_come.data());
            }
        is_filling = false;
        n_filled = 0;
    }

    const std::shared_ptr<const Responses> responses;
    const Variant &variant;
    const int64_t size, n, n_parts;
    int64_t at = 0, n_filled = 0, n_sounding = 0;
    bool is_filling = false, now_is_silent = true;
    std::vector<float> filling, overlap, to_come, now;
    std::vector<Spectrum> past;
    Spectrum current;
};

// The gain of limiter.Limiter: see there.
class Limiter {
  public:
    Limiter(int64_t channels, int64_t half, double ceiling, double safe_peak, double decay, double smallest,
            const float *kernels, const char *name)
        : variant(variant_of(name)), channels(channels), half(half), ceiling(ceiling), safe_peak((float)safe_peak),
          keep(std::exp(-decay)), smallest(smallest), taps(kernels, kernels + KERNELS * TAPS) {
        require(channels > 0 && half > 0, "a limiter needs channels and a window");
        window = 2 * half - 1;
        latency = TAPS / 2 + window - 1;
        line.resize((size_t)channels);
        for (auto &channel : line) channel.assign((size_t)latency, 0.0f);
        past.assign((size_t)channels, std::vector<float>(TAPS - 1, 0.0f));
        for (auto &box : boxes) box.values.assign((size_t)half, 0.0);
        lines.resize((size_t)channels);
        wishes.ring.resize((size_t)window + 1);
    }

    // Room for n samples at once.
    void reserve(int64_t n) {
        if ((int64_t)reductions.size() >= n) return;
        reductions.resize((size_t)n);
        loud.reserve((size_t)(n / ROW + TAPS / ROW + 8));
        for (auto &channel : line) channel.reserve((size_t)(latency + n));
        for (auto &padded : lines) padded.reserve((size_t)(TAPS + n + ROW));
    }

    double most = 0;  // reduction so far

    // As many samples as go in come out, `latency` later: of rows of n samples, into [channels, n].
    void process(const float *const *rows, int64_t n, float *out) {
        reserve(n);
        const bool is_idle = !find_reductions(rows, n);
        for (int64_t c = 0; c < channels; ++c) {
            auto &delayed = line[c];
            delayed.insert(delayed.end(), rows[c], rows[c] + n);
            float *to = out + c * n;
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
    bool find_reductions(const float *const *rows, int64_t n) {
        const int64_t before = TAPS - 1;
        float highest[ROW];
        for (int64_t c = 0; c < channels; ++c) {
            lines[c].assign(past[c].begin(), past[c].end());
            lines[c].insert(lines[c].end(), rows[c], rows[c] + n);
            lines[c].resize((size_t)(before + n + ROW), 0.0f);
            std::copy(lines[c].end() - ROW - before, lines[c].end() - ROW, past[c].begin());
        }
        // whether anything in a row's reach could lie above the ceiling; a reach is TAPS / ROW rows and one more
        const int64_t n_rows = (n + ROW - 1) / ROW, reach = (TAPS + ROW - 1) / ROW + 1;
        loud.assign((size_t)(n_rows + reach), 0.0f);
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
        if (wish > 0) wishes.push_back({clock, wish});
        while (!wishes.empty() && wishes.front().first <= clock - window) wishes.pop_front();
        ++clock;
        const double held = wishes.empty() ? 0.0 : wishes.front().second;
        released = std::max(held, released * keep);
        if (released < smallest) released = 0;
        return boxes[1].next(boxes[0].next(released));
    }

    // At most `window` wishes and the one that comes in.
    struct Wishes {
        std::vector<std::pair<int64_t, double>> ring;
        size_t first = 0, n = 0;
        bool empty() const { return n == 0; }
        std::pair<int64_t, double> &front() { return ring[first]; }
        std::pair<int64_t, double> &back() { return ring[(first + n - 1) % ring.size()]; }
        void push_back(std::pair<int64_t, double> wish) { ring[(first + n++) % ring.size()] = wish; }
        void pop_back() { --n; }
        void pop_front() { first = (first + 1) % ring.size(), --n; }
    };

    const Variant &variant;
    int64_t channels, half, window, latency, clock = 0;
    double ceiling;
    float safe_peak, last_between = 0;
    double keep, smallest, released = 0;
    std::vector<float> taps;
    std::vector<std::vector<float>> line, past, lines;
    std::vector<float> loud;
    Wishes wishes;  // decreasing
    Box boxes[2];
    std::vector<double> reductions;
};

}  // namespace miao_sound
