// The course of a note: its levels and its pitch at knots, as course.py has it. Rows of levels are shared, never copied: by
// all notes that play a chunk, and by the blocks that are still being made while the note goes on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "_oscillators.h"

namespace miao {

// Rows of a chunk and the frequency of each over that of its note; the last of a row's cells is how far it was reached.
struct Rows {
    int64_t n, n_cells;
    std::vector<float> levels;
    std::vector<double> bends;

    const float *row(int64_t k) const { return levels.data() + k * n_cells; }
};
using RowsPointer = std::shared_ptr<const Rows>;

// What a note sounds like but for its levels; as in oscillators.NotePart.
struct Sound {
    std::vector<double> ratios;
    std::vector<int32_t> cells;
    std::vector<float> shares, offsets, gains, balance;
    bool is_wide;
};

// Knots that lie one after another, and what holds their rows.
struct Knots {
    std::vector<double> at, hz;  // hz[i]: from knot i to the next, unbent
    std::vector<const float *> rows;
    std::vector<std::pair<RowsPointer, int64_t>> owners;  // and how many of the knots are theirs

    int64_t size() const { return (int64_t)at.size(); }

    void push(const RowsPointer &from, int64_t first, int64_t n) {
        for (int64_t k = first; k < first + n; ++k) rows.push_back(from->row(k));
        owners.emplace_back(from, n);
    }

    void keep_first(int64_t n) {
        at.resize((size_t)n), rows.resize((size_t)n), hz.resize((size_t)std::max<int64_t>(n - 1, 0));
        int64_t held = 0;
        size_t owner = 0;
        for (; owner < owners.size() && held < n; ++owner) {
            owners[owner].second = std::min(owners[owner].second, n - held);
            held += owners[owner].second;
        }
        owners.resize(owner);
    }

    void drop_first(int64_t n) {
        at.erase(at.begin(), at.begin() + n);
        rows.erase(rows.begin(), rows.begin() + n);
        hz.erase(hz.begin(), hz.begin() + std::min(n, (int64_t)hz.size()));
        size_t owner = 0;
        while (owner < owners.size() && n >= owners[owner].second) n -= owners[owner++].second;
        owners.erase(owners.begin(), owners.begin() + (int64_t)owner);
        if (n) owners.front().second -= n;
    }

    Knots first(int64_t n) const {
        Knots some{{at.begin(), at.begin() + n}, {hz.begin(), hz.begin() + n - 1}, {rows.begin(), rows.begin() + n}, {}};
        for (int64_t held = 0, owner = 0; held < n; held += owners[(size_t)owner++].second)
            some.owners.push_back(owners[(size_t)owner]);
        return some;
    }

    int64_t at_or_behind(double moment) const { return std::lower_bound(at.begin(), at.end(), moment) - at.begin(); }
    int64_t behind(double moment) const { return std::upper_bound(at.begin(), at.end(), moment) - at.begin(); }
};

// What is heard of a note in a block: a NotePart and all that it points to.
struct Part {
    std::vector<double> knots, pitch_knots, phase;  // pitch knots: empty where they are the knots
    Knots held;
    std::shared_ptr<const Sound> sound;
    int64_t n_cells;
    float factor = 1;

    NotePart note() const {
        const Sound &s = *sound;
        const std::vector<double> &pitch = pitch_knots.empty() ? knots : pitch_knots;
        return {(int64_t)knots.size(), (int64_t)pitch.size(), n_cells, (int64_t)s.ratios.size(), knots.data(), pitch.data(),
                phase.data(), held.rows.data(), s.ratios.data(), s.cells.data(), s.shares.data(), s.offsets.data(),
                s.gains.data(), s.balance.data(), s.is_wide, factor};
    }
};

class Course {
  public:
    Course(double hz, int64_t n_cells, std::shared_ptr<const Sound> sound)
        : sound(std::move(sound)), n_cells(n_cells), half_hz(0.5 * hz) {}

    const std::shared_ptr<const Sound> sound;
    const int64_t n_cells;
    Knots knots;
    double phase = 0, bend = 1;  // cycles at the first knot; frequency at the last one over the note's
    int64_t changes = 0;  // so often its knots have become others, but for those forgotten

    double last() const { return knots.at.back(); }

    // Rows from `first` on, behind the knots that are there; a pitch runs straight from one to the next.
    void append(const RowsPointer &rows, double start, const double *times, int64_t first) {
        ++changes;
        const double *bends = rows->bends.data();
        if (knots.size()) knots.hz.push_back(half_hz * (bend + bends[first]));
        for (int64_t k = first; k + 1 < rows->n; ++k) knots.hz.push_back(half_hz * (bends[k + 1] + bends[k]));
        for (int64_t k = first; k < rows->n; ++k) knots.at.push_back(start + times[k]);
        knots.push(rows, first, rows->n - first);
        bend = bends[rows->n - 1];
    }

    // A silent knot so long after the last one, at its pitch.
    void fall_silent(double seconds) {
        std::vector<float> silent((size_t)n_cells, 0.0f);
        silent.back() = 1;
        append(one_row(std::move(silent)), last(), &seconds, 0);
    }

    // Forgets the knots from a moment on: the last one is the next row, reached as far as it is by then.
    void truncate(double moment) {
        ++changes;
        const int64_t right = knots.at_or_behind(moment);
        if (right == 0) return knots.keep_first(1);
        const double *at = knots.at.data();
        const float share = (float)((moment - at[right - 1]) / (at[right] - at[right - 1]));
        std::vector<float> row(knots.rows[(size_t)right], knots.rows[(size_t)right] + n_cells);
        row.back() *= share;
        const double hz = knots.hz[(size_t)right - 1];
        knots.keep_first(right);
        bend = 0.5 * hz / half_hz;
        knots.at.push_back(moment);
        knots.hz.push_back(hz);
        knots.push(one_row(std::move(row)), 0, 1);
    }

    // Goes on as another course does behind the last knot.
    void rejoin(const Course &other) {
        ++changes;
        const int64_t first = other.knots.behind(last());
        for (int64_t k = std::max<int64_t>(first - 1, 0); k < (int64_t)other.knots.hz.size(); ++k)
            knots.hz.push_back(other.knots.hz[(size_t)k]);
        for (int64_t k = first; k < other.knots.size(); ++k) knots.at.push_back(other.knots.at[(size_t)k]);
        int64_t passed = 0;
        for (const auto &[rows, n] : other.knots.owners) {
            const int64_t skipped = std::min(std::max<int64_t>(first - passed, 0), n);
            for (int64_t k = passed + skipped; k < passed + n; ++k) knots.rows.push_back(other.knots.rows[(size_t)k]);
            if (skipped < n) knots.owners.emplace_back(rows, n - skipped);
            passed += n;
        }
        bend = other.bend;
    }

    float loudest_at(double moment) const {
        const float *row = knots.rows[(size_t)std::min(knots.at_or_behind(moment), knots.size() - 1)];
        return *std::max_element(row, row + n_cells - 1);
    }

    // How many knots lie before a sample.
    int64_t before(double sample, double rate) const {
        const auto is_before = [rate](double time, double sample) { return time * rate < sample; };
        return std::lower_bound(knots.at.begin(), knots.at.end(), sample, is_before) - knots.at.begin();
    }

    // What is heard of it in a block; knots behind that are forgotten. Between `cells` the pitch is bent, cell by cell.
    std::unique_ptr<Part> part(int64_t begin, int64_t n_samples, double rate, const double *cells, const double *bent,
                               int64_t n_bent) {
        const double end = (double)(begin + n_samples);
        const int64_t n_before = before(end, rate), stop = std::min(n_before + 1, knots.size());
        if (stop < 2) return nullptr;
        auto part = std::make_unique<Part>();
        part->sound = sound, part->n_cells = n_cells;
        part->held = knots.first(stop);
        part->knots.reserve((size_t)stop), part->phase.reserve((size_t)stop);
        const std::vector<double> &at = part->held.at;
        for (double time : at) part->knots.push_back(time * rate - (double)begin);
        const int64_t last = whole(before(end - PAST, rate) - 1);  // knot that is passed, for the noise, too
        part->phase.push_back(phase);
        double there = phase;
        if (!n_bent) {
            for (int64_t k = 0; k + 1 < stop; ++k) {
                part->phase.push_back(part->phase.back() + part->held.hz[(size_t)k] * (at[(size_t)k + 1] - at[(size_t)k]));
                if (k + 1 == last) there = part->phase.back();
            }
        } else {
            part->pitch_knots.push_back(part->knots[0]);
            int64_t cell = std::upper_bound(cells, cells + n_bent, at[0]) - cells;  // the next one
            for (int64_t k = 0; k + 1 < stop; ++k) {
                for (double moment = at[(size_t)k]; moment < at[(size_t)k + 1];) {
                    const double next = cell < n_bent ? std::min(cells[cell], at[(size_t)k + 1]) : at[(size_t)k + 1];
                    const double factor = bent[std::max<int64_t>(cell - 1, 0)];
                    part->phase.push_back(part->phase.back() + part->held.hz[(size_t)k] * factor * (next - moment));
                    part->pitch_knots.push_back(next * rate - (double)begin);
                    moment = next;
                    while (cell < n_bent && cells[cell] <= moment) ++cell;
                }
                if (k + 1 == last) there = part->phase.back();
            }
        }
        if (last) phase = there, knots.drop_first(last);
        return part;
    }

    // Forgets the knots before the last one at or before a moment; gives how many.
    int64_t pass_by(double moment) {
        const int64_t passed = whole(knots.behind(moment) - 1);
        if (passed) knots.drop_first(passed);
        return passed;
    }

  private:
    double half_hz;

    RowsPointer one_row(std::vector<float> row) const {
        return std::make_shared<const Rows>(Rows{1, n_cells, std::move(row), {bend}});
    }

    // How many knots may be forgotten where `last` is the last one passed: a row left on the way needs the one before it.
    int64_t whole(int64_t last) const {
        while (last > 0 && knots.rows[(size_t)last][n_cells - 1] != 1) --last;
        return std::max<int64_t>(last, 0);
    }
};

}  // namespace miao
