// What the live engine knows of a sounding note and of a part: the compiled twin of synth/course.py (`Course.part`),
// synth/parts.py (`Part`, `Steps`) and sound/desk.py (`Fader`). Times are samples; nothing here allocates once made.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace miao_live {

constexpr double INFINITE = 1e300;
constexpr double GRID = 128;         // bends are constant between multiples of these samples
constexpr double VIBRATO_HZ = 5.5;
constexpr double VIBRATO_CENTS = 50;
constexpr double SMOOTHING_SECONDS = 0.005;  // of bends and faders
constexpr double KEPT_SECONDS = 0.1;         // of bends behind a block
constexpr double PI = 3.14159265358979323846;
constexpr int MOST_KNOTS = 256;   // of a note, from the one passed last on
constexpr int MOST_PARTIALS = 512;  // of a note
constexpr int MOST_STEPS = 1024;  // of a controller that are remembered; of more the newest are merged
constexpr int MOST_KEY_STEPS = 64;  // of the pressure of a key
constexpr int N_PITCHES = 128;
constexpr int MOST_BRIGHT = 32;     // rows of a note in a block, in the mean of all notes, that are not as its voice has them
constexpr double UNDECIDED = 2;     // of a setting, which is -1 to 1

// A controller over time, as far back as it is still asked about: `Steps` of parts.py.
template <int MOST>
struct StepsOf {
    double at[MOST], values[MOST];
    int n = 1;

    StepsOf() { at[0] = -INFINITE, values[0] = 0; }

    void add(double time, double value) {
        if (time <= at[n - 1] || n == MOST)
            values[n - 1] = value;
        else if (value != values[n - 1])
            at[n] = time, values[n++] = value;
    }

    void forget(double before) {
        int n_passed = 0;
        while (n_passed + 1 < n && at[n_passed + 1] <= before) ++n_passed;
        if (!n_passed) return;
        std::copy(at + n_passed, at + n, at);
        std::copy(values + n_passed, values + n, values);
        n -= n_passed;
        at[0] = -INFINITE;
    }

    void take_back(double after) {
        while (n > 1 && at[n - 1] > after) --n;
    }

    bool is_still() const {
        for (int i = 0; i < n; ++i)
            if (values[i] != 0) return false;
        return true;
    }

    double in_force(double time) const {
        int place = n - 1;
        while (place > 0 && at[place] > time) --place;
        return values[place];
    }

    // Of the last `span` samples before a time, but not of what was before `since`.
    double mean(double time, double since, double span) const {
        const double begin = std::max(time - span, since);
        int place = n - 1;
        while (place > 0 && at[place] > time) --place;
        if (at[place] <= begin) return values[place];
        double sum = 0, upper = time;
        for (int i = place; i >= 0 && upper > begin; --i) {
            const double lower = std::max(at[i], begin);
            sum += values[i] * (upper - lower);
            upper = lower;
        }
        return sum / std::max(time - begin, 1e-9);
    }
};

using Steps = StepsOf<MOST_STEPS>;

enum Name { BEND, MODULATION, PRESSURE, BRIGHTNESS, VOLUME, EXPRESSION, PAN, REVERB, CHORUS, N_NAMES };  // behind them, the pressure of each key and its tuning (cents)

// A gain that follows its steps in straight ramps, or jumps where nothing sounds: `Fader` of desk.py.
struct Ramp {
    double at[MOST_STEPS];
    float left[MOST_STEPS], right[MOST_STEPS];
    int n = 1;

    void jump(float l, float r) { n = 1, at[0] = -INFINITE, left[0] = l, right[0] = r; }
    void step(double time, float l, float r) {
        if (n == MOST_STEPS) --n;
        at[n] = time, left[n] = l, right[n++] = r;
    }

    // The gains from `begin` to `stop`, written from `to` on.
    void write(int64_t begin, int64_t stop, double span, float *to_left, float *to_right) const {
        if (n == 1) {
            std::fill(to_left, to_left + (stop - begin), left[0]);
            std::fill(to_right, to_right + (stop - begin), right[0]);
            return;
        }
        for (int64_t s = begin; s < stop; ++s) {
            const double from = (double)s - span;
            double l = 0, r = 0, upper = (double)s;
            for (int i = n - 1; i >= 0 && upper > from; --i) {
                const double lower = std::max(at[i], from);
                if (lower >= upper) continue;
                l += left[i] * (upper - lower);
                r += right[i] * (upper - lower);
                upper = lower;
            }
            to_left[s - begin] = (float)(l / span);
            to_right[s - begin] = (float)(r / span);
        }
    }

    void forget(double before) {
        int n_passed = 0;
        while (n_passed + 1 < n && at[n_passed + 1] <= before) ++n_passed;
        if (!n_passed) return;
        std::copy(at + n_passed, at + n, at);
        std::copy(left + n_passed, left + n, left);
        std::copy(right + n_passed, right + n, right);
        n -= n_passed;
    }
};

enum Fader { LINE, REVERB_SEND, CHORUS_SEND, N_FADERS };
inline Fader fader_of(int name) {
    return name == REVERB ? REVERB_SEND : name == CHORUS ? CHORUS_SEND : LINE;
}

struct Coming {
    double time;
    int name;
    double value;
};

struct Part {
    Steps moves[4];  // bend (semitones), modulation, pressure, brightness (-1 to 1)
    StepsOf<MOST_KEY_STEPS> keys[N_PITCHES], tunings[N_PITCHES];
    double values[N_NAMES] = {0, 0, 0, 0, 100.0 / 127, 1, 0, 40.0 / 127, 0};
    Ramp faders[N_FADERS];
    Coming coming[MOST_STEPS];
    int n_coming = 0;
    bool is_moving = false;  // whether anything moves the pitch, as far back as is asked about
    bool is_bright = false;    // whether its brightness has ever been anything but its voices' own
    bool has_pressed = false;  // whether a key has ever been pressed harder,
    bool has_tuned = false;    // or been moved while it may sound

    Part() {
        for (int fader = 0; fader < N_FADERS; ++fader) set((Fader)fader, 0, false);
    }

    void tell(int name, double value, double time) {
        if (name == BRIGHTNESS) {
            const double steps = 127 * value - 64;
            value = std::fabs(steps) < 1e-6 ? 0 : std::max(steps / (steps < 0 ? 64 : 63), -1.0);
            is_bright = is_bright || value != 0;
        }
        if (name <= BRIGHTNESS) {
            moves[name].add(time, value);
            return;
        }
        if (name >= N_NAMES + N_PITCHES) {
            has_tuned = true;
            tunings[name - N_NAMES - N_PITCHES].add(time, value);
            return;
        }
        if (name >= N_NAMES) {
            has_pressed = true;
            keys[name - N_NAMES].add(time, value);
            return;
        }
        if (n_coming == MOST_STEPS) --n_coming;
        int place = n_coming++;
        for (; place > 0 && coming[place - 1].time > time; --place) coming[place] = coming[place - 1];
        coming[place] = {time, name, value};
    }

    // What was told and is still to come is not; keys have not been moved.
    void take_back(double after) {
        n_coming = 0;
        for (Steps &steps : moves) steps.take_back(after);
        for (auto &steps : keys) steps.take_back(after);
        if (has_tuned)
            for (auto &steps : tunings) steps = {};
        has_tuned = false;
    }

    // A fader follows the controllers: in a ramp from a time on, or at once.
    void set(Fader fader, double time, bool is_ramp) {
        double left = values[fader == REVERB_SEND ? REVERB : CHORUS], right = left;
        if (fader == LINE) {
            const double angle = (std::min(std::max(values[PAN], -1.0), 1.0) + 1) * (PI / 4), root = std::sqrt(2.0);
            const double level = values[VOLUME] * values[VOLUME] * values[EXPRESSION] * values[EXPRESSION];
            left = level * root * std::cos(angle), right = level * root * std::sin(angle);
        }
        is_ramp ? faders[fader].step(time, (float)left, (float)right) : faders[fader].jump((float)left, (float)right);
    }

    // Pitch wheel, tuning and vibrato of a note, cents.
    double cents(double time, double start, int pitch, double rate) const {
        const double span = SMOOTHING_SECONDS * rate;
        double depth = std::max(moves[MODULATION].mean(time, start, span), moves[PRESSURE].mean(time, start, span));
        if (has_pressed) depth = std::max(depth, keys[pitch].mean(time, start, span));
        const double vibrato = depth == 0 ? 0 : std::sin(2 * PI * VIBRATO_HZ * (time - start) / rate);
        const double cents = 100 * moves[BEND].mean(time, start, span) + VIBRATO_CENTS * depth * vibrato;
        return has_tuned ? cents + tunings[pitch].mean(time, start, span) : cents;
    }

    void look(double position, double rate) {
        is_moving = false;
        for (Steps &steps : moves) {
            steps.forget(position - KEPT_SECONDS * rate);
            is_moving = is_moving || (&steps != &moves[BRIGHTNESS] && !steps.is_still());
        }
        if (has_pressed)
            for (auto &steps : keys) steps.forget(position - KEPT_SECONDS * rate);
        if (has_tuned)
            for (auto &steps : tunings) steps.forget(position - KEPT_SECONDS * rate);
    }

    bool moves_pitch(int pitch) const {
        return is_moving || (has_pressed && !keys[pitch].is_still()) || (has_tuned && !tunings[pitch].is_still());
    }
};

// What is sent comes back later and earlier in turn: `Chorus` of sound/chorus.py.
class Chorus {
  public:
    Chorus(double rate, double rate_hz, double depth_seconds, double feedback, double level)
        : turn(2 * PI * rate_hz / rate), shortest(SHORTEST_SECONDS * rate), depth(depth_seconds * rate),
          feedback((float)feedback), level((float)level), n_past((int64_t)std::ceil(shortest + depth) + 4) {
        while (size < n_past + 8) size *= 2;
        for (auto &line : lines) line.assign((size_t)size, 0.0f);
    }

    void add(const float *sent, int64_t n, float *out) {
        if (n_quiet >= n_past && std::all_of(sent, sent + 2 * n, [](float x) { return x == 0; })) {
            for (int64_t s = 0; s < n; ++s)
                for (auto &line : lines) line[(size_t)((at + s) & (size - 1))] = 0;
            at += n;
            return;
        }
        for (int64_t s = 0; s < n; ++s, ++at) {
            const double swing = std::sin(turn * (double)at);
            bool is_quiet = true;
            for (int side = 0; side < 2; ++side) {
                const double place = (double)at - shortest - 0.5 * depth * (1 + (side ? -swing : swing));
                const double whole = std::floor(place);
                const float back = between(lines[side], (int64_t)whole, (float)(place - whole));
                float in = sent[side * n + s] + feedback * back;
                if (std::fabs(in) < 1e-12f) in = 0;
                is_quiet = is_quiet && in == 0;
                lines[side][(size_t)(at & (size - 1))] = in;
                out[side * n + s] += level * back;
            }
            n_quiet = is_quiet ? n_quiet + 1 : 0;
        }
    }

  private:
    static constexpr double SHORTEST_SECONDS = 0.004;

    float between(const std::vector<float> &line, int64_t whole, float part) const {
        const auto sample = [&](int64_t k) { return line[(size_t)((whole + k) & (size - 1))]; };
        const float a = sample(-1), b = sample(0), c = sample(1), d = sample(2);
        return b + 0.5f * part * (c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a)));
    }

    double turn, shortest, depth;
    float feedback, level;
    int64_t n_past, size = 16, at = 0, n_quiet = (int64_t)1 << 40;
    std::vector<float> lines[2];
};

// What stays the same while a note sounds, and is made where memory may be asked for.
struct Sound {
    int part = 0, pitch = 0;
    int64_t handle = -1;
    double start = 0, glide = 0, glide_samples = 0, phase = 0;
    float send = 1;
    bool may_be_late = true;  // what comes too late begins as soon as it can; else it is under way already
    std::vector<double> ratios;
    std::vector<int32_t> cells;
    std::vector<float> shares, offsets, gains, balance, lifts, weights;
    std::vector<int64_t> places;  // where its part reads the noise, see oscillators.py
    bool is_wide = false;
};

// Knots from a place in a note's row of knots on: what was there before is forgotten.
struct Knots {
    int64_t first = 0;
    bool is_written = false;  // nothing comes after them
    std::vector<double> at, hz;  // hz[i]: of the interval that ends at knot i
    std::vector<float> levels;   // [n, n_cells]
};

struct Voice {
    Sound sound;
    std::vector<double> at, hz;  // of the knots; hz[i] from knot i to the next
    std::vector<double> brightness;
    std::vector<float> levels;
    int64_t base = 0;    // which of all its knots is the first one here
    int n = 0;
    int passed = 0;            // knots that the block in the making has passed,
    double phase_passed = 0;   // and the phase there
    double latest_hz = 440;
    double shift = 0;    // by how much it lags behind what was told
    bool is_on = false, is_written = false, has_sounded = false;

    void allot(int n_cells) {
        at.resize(MOST_KNOTS);
        hz.resize(MOST_KNOTS);
        brightness.resize(MOST_KNOTS);
        levels.resize((size_t)MOST_KNOTS * (size_t)n_cells);
    }

    void begin() {  // after `sound` has been filled
        base = 0, n = 0, shift = 0;
        is_on = true, is_written = has_sounded = false;
    }

    double end() const { return is_written && n ? at[n - 1] : INFINITE; }

    void drop(int n_passed, int n_cells) {
        std::copy(at.begin() + n_passed, at.begin() + n, at.begin());
        std::copy(hz.begin() + n_passed, hz.begin() + n, hz.begin());
        std::copy(brightness.begin() + n_passed, brightness.begin() + n, brightness.begin());
        std::copy(levels.begin() + (int64_t)n_passed * n_cells, levels.begin() + (int64_t)n * n_cells, levels.begin());
        n -= n_passed;
        base += n_passed;
    }

    void append(double time, double hz_before, const float *row, int n_cells) {
        if (n == MOST_KNOTS) return;
        if (n) hz[n - 1] = latest_hz = hz_before;
        at[n] = time, brightness[n] = UNDECIDED;
        std::copy(row, row + n_cells, levels.data() + (int64_t)n * n_cells);
        ++n;
    }

    // Takes knots; `position` is the next sample. Gives whether they came too late for when they were meant.
    bool take(const Knots &knots, double position, int n_cells, double silent, double octaves) {
        const int n_new = (int)knots.at.size();
        int skipped = 0;
        bool is_late = false;
        is_written = knots.is_written;
        if (!n_new) {
            n = (int)std::min<int64_t>(std::max<int64_t>(knots.first - base, 0), n);
            return false;
        }
        const double first = knots.at[0] + shift, too_early = position - 1e-3;  // beyond what seconds round to
        if (!n) {
            if (sound.may_be_late && first < too_early) {
                is_late = true;
                shift += position - first;
                sound.start += position - first;
            }
            base = knots.first;
        } else {
            int kept = (int)std::min<int64_t>(std::max<int64_t>(knots.first - base, 0), n);
            if (kept < n && first < too_early) {  // too late: what sounds now becomes the first of these knots
                is_late = true;
                int left = 0;
                while (left + 1 < n - 1 && at[left + 1] <= position) ++left;
                if (left + 1 < n && at[left] <= position && at[left + 1] > position) {
                    between(left, (position - at[left]) / (at[left + 1] - at[left]), n_cells, silent, octaves);
                    n = left + 2;
                    at[n - 1] = position;
                } else {
                    n = left + 1;
                }
                shift += position - first;
                base = knots.first + 1 - n;  // its last knot is the first of these
                skipped = 1;
            } else {
                n = kept;
                base = knots.first - n;
            }
        }
        for (int i = skipped; i < n_new; ++i)
            append(knots.at[i] + shift, knots.hz[i], knots.levels.data() + (int64_t)i * n_cells, n_cells);
        return is_late;
    }

    // There should be more of it by now: it stays as it is up to `end`, and what comes then comes later.
    void wait_until(double end, int n_cells) {
        shift += end - at[n - 1];
        const double same = latest_hz;
        if (n == MOST_KNOTS) drop(1, n_cells);
        append(end, same, levels.data() + (int64_t)(n - 1) * n_cells, n_cells);
        --base;
    }

  private:
    // The knot after `left` becomes the token on the straight lines that amplitudes run along.
    void between(int left, double share, int n_cells, double silent, double octaves) {
        float *from = levels.data() + (int64_t)left * n_cells, *to = from + n_cells;
        for (int c = 0; c < n_cells - 1; ++c) {
            const double a = from[c] < 0.5f ? 0 : std::exp2(silent + octaves * from[c]);
            const double b = to[c] < 0.5f ? 0 : std::exp2(silent + octaves * to[c]);
            const double amplitude = (1 - share) * a + share * b;
            to[c] = amplitude > 0 ? (float)std::max((std::log2(amplitude) - silent) / octaves, 0.0) : 0.0f;
        }
        to[n_cells - 1] = 1;
    }
};

}  // namespace miao_live
