// The live engine: makes blocks from notes whose chunks were written ahead of need. `process` is what a sound card
// calls: in it nothing waits, nothing is allocated and no Python runs. All that happens comes through a queue of
// messages, and goes back through another one to be freed.
#pragma once

#include <atomic>
#include <chrono>
#include <ctime>
#include <memory>

#include "../_processor.h"
#include "../sound/_chain.h"
#include "../synth/_brightness.h"
#include "../synth/_oscillators.h"
#include "_voices.h"

namespace miao_live {

inline int64_t now_ns() {
    using namespace std::chrono;
    return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

// Processor time of this thread, without what the system gave to others meanwhile; the clock where none is kept.
inline int64_t worked_ns() {
#ifdef CLOCK_THREAD_CPUTIME_ID
    timespec t;
    if (!clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t)) return t.tv_sec * 1000000000LL + t.tv_nsec;
#endif
    return now_ns();
}

// What one thread alone counts, and others read.
inline void add(std::atomic<int64_t> &count, int64_t more) {
    count.store(count.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}
inline void keep_highest(std::atomic<int64_t> &highest, int64_t value) {
    if (value > highest.load(std::memory_order_relaxed)) highest.store(value, std::memory_order_relaxed);
}

// One thread pushes, one pops; neither ever waits.
template <class T>
class Queue {
  public:
    explicit Queue(size_t size) : ring(size + 1) {}
    bool push(const T &item) {
        const size_t at = tail.load(std::memory_order_relaxed), next = at + 1 == ring.size() ? 0 : at + 1;
        if (next == head.load(std::memory_order_acquire)) return false;
        ring[at] = item;
        tail.store(next, std::memory_order_release);
        return true;
    }
    bool pop(T &item) {
        const size_t at = head.load(std::memory_order_relaxed);
        if (at == tail.load(std::memory_order_acquire)) return false;
        item = ring[at];
        head.store(at + 1 == ring.size() ? 0 : at + 1, std::memory_order_release);
        return true;
    }
    size_t room() const {
        const size_t used = (tail.load(std::memory_order_acquire) + ring.size() - head.load(std::memory_order_acquire)) % ring.size();
        return ring.size() - 1 - used;
    }

  private:
    std::vector<T> ring;
    std::atomic<size_t> head{0}, tail{0};
};

struct Message {
    enum Kind { START, KNOTS, STEP, AGAIN, ROOM } kind = START;
    int slot = 0;
    int64_t handle = 0;
    Sound sound;
    Knots knots;
    int part = 0, name = 0;
    double value = 0, time = 0;
    std::unique_ptr<miao_sound::Convolver> room;  // none: what is sent goes nowhere
    int64_t n_tail = 0;                           // samples that it sounds on
};

struct Report {
    enum Kind { SPENT, OVER, HEARD } kind = SPENT;
    Message *message = nullptr;
    int slot = 0;
    int64_t handle = 0, sample = 0, block = 0, clock_ns = 0;  // of HEARD: its first sample, that of the block, when
};

// A room that is sent to, or was: what is sent to it fades in when it is entered and out when it is left; then what it
// holds sounds on. As `ChangingRoom` of room.py.
struct Entered {
    Message *message = nullptr;  // that brought it, and goes back when it is over
    double level = 0;            // of what is sent to it
    bool is_left = false, is_pushed_out = false;  // for a room that comes after too many
    int64_t since_left = 0;
};
constexpr int MOST_ROOMS = 4;
constexpr double CHANGE_SECONDS = 0.05;

struct Counts {  // written by the callback alone
    // of the dropouts those before which a block of ours asked for more processor time than it lasts; others are the system's
    std::atomic<int64_t> blocks{0}, dropouts{0}, own_dropouts{0}, overruns{0}, late{0}, waited{0}, voices{0}, most_voices{0};
    std::atomic<int64_t> busy_ns{0}, longest_ns{0}, most_worked_ns{0}, last_ns{0}, lost_samples{0};
};

inline const miao::Variant &best_loops() {
#ifdef MIAO_X86
    for (const miao::Variant *variant : {&miao::avx512, &miao::avx2})
        if (miao_processor::can_run(variant->name)) return *variant;
#endif
    return miao::plain;
}

struct Plan {
    int64_t rate, n_parts, n_slots, n_cells, n_bands, n_table, most_samples;
    double silent, octaves, floor, gain, room_level;
    miao::BrightnessLaw law;
};

class Engine {
  public:
    Engine(const Plan &plan, const float *noise, const Chorus &chorus, std::unique_ptr<Message> room,
           std::unique_ptr<miao_sound::Limiter> limiter)
        : plan(plan), loops(best_loops()), table(noise, noise + plan.n_bands * plan.n_table), chorus(chorus),
          limiter(std::move(limiter)), inbox(1 << 16), outbox((1 << 16) + (1 << 14)),
          tape((size_t)plan.rate * 2 * 8), voices((size_t)plan.n_slots), parts((size_t)plan.n_parts) {
        for (Voice &voice : voices) voice.allot((int)plan.n_cells);
        const size_t n = (size_t)plan.most_samples;
        active.reserve(voices.size());
        for (std::vector<float> *line : {&stem, &extra, &own, &mix, &sent, &wet, &finished, &sent_to_chorus,
                                         &gains[0], &gains[1], &gains[2]}) line->resize(2 * n);
        notes.reserve(voices.size()), heard.reserve(voices.size());
        knots_at.resize(voices.size() * MOST_KNOTS), rows.resize(knots_at.size());
        bright.resize(voices.size() * MOST_BRIGHT * (size_t)plan.n_cells);
        fine_at.resize(knots_at.size() + 65536);  // bends come on top
        fine_phase.resize(fine_at.size());
        if (this->limiter) this->limiter->reserve(plan.most_samples);
        if (room) rooms[0].message = room.release(), rooms[0].level = 1;
        scratch.resize((size_t)(miao::SHARED_BYTES + plan.n_slots * miao::scratch_bytes(MOST_PARTIALS)) / 8 + 8);
    }
    ~Engine() {
        for (Entered &entered : rooms) delete entered.message;
        delete coming_room;
        Message *message;
        while (inbox.pop(message)) delete message;
        Report report;
        while (outbox.pop(report)) delete report.message;
    }

    // The next samples, as [2, n]; of any length.
    void process(float *left, float *right, int64_t n) {
        for (int64_t done = 0; done < n;) {
            const int64_t count = std::min(n - done, plan.most_samples);
            block(count);
            std::copy(finished.data(), finished.data() + count, left + done);
            std::copy(finished.data() + count, finished.data() + 2 * count, right + done);
            done += count;
        }
    }

    // What a sound card asks for: the same, interleaved, with the clock kept and the time it takes counted.
    void serve(float *out, int64_t n, bool is_dropout) {
        const int64_t began = now_ns(), worked_before = worked_ns();
        sequence.fetch_add(1, std::memory_order_acq_rel);
        clock_ns.store(began, std::memory_order_relaxed);
        clock_sample.store(position, std::memory_order_relaxed);
        block_samples.store(n, std::memory_order_relaxed);
        sequence.fetch_add(1, std::memory_order_acq_rel);
        for (int64_t done = 0; done < n;) {
            const int64_t count = std::min(n - done, plan.most_samples);
            block(count);
            for (int64_t s = 0; s < count; ++s) {
                out[2 * (done + s)] = finished[s];
                out[2 * (done + s) + 1] = finished[count + s];
            }
            done += count;
        }
        if (is_taping.load(std::memory_order_acquire))
            for (int64_t s = 0; s < 2 * n; ++s)
                if (!tape.push(out[s])) add(counts.lost_samples, 1);
        const int64_t took = now_ns() - began, worked = worked_ns() - worked_before;
        add(counts.blocks, 1);
        add(counts.dropouts, is_dropout);
        add(counts.own_dropouts, is_dropout && was_too_long);
        add(counts.overruns, took * plan.rate > n * 1000000000);
        was_too_long = worked * plan.rate > n * 1000000000;
        add(counts.busy_ns, took);
        counts.last_ns.store(took, std::memory_order_relaxed);
        keep_highest(counts.longest_ns, took);
        keep_highest(counts.most_worked_ns, worked);
    }

    // Where the sample clock stands at a time: samples, going on smoothly from the block that began last.
    double sample_at(int64_t ns) const {
        for (;;) {
            const uint32_t before = sequence.load(std::memory_order_acquire);
            const int64_t clock = clock_ns.load(std::memory_order_relaxed), at = clock_sample.load(std::memory_order_relaxed);
            const int64_t n = block_samples.load(std::memory_order_relaxed);
            std::atomic_thread_fence(std::memory_order_acquire);
            if (before % 2 || before != sequence.load(std::memory_order_relaxed)) continue;
            const double since = std::max((double)(ns - clock) * 1e-9 * (double)plan.rate, 0.0);
            return (double)at + std::min(since, (double)n);
        }
    }

    const Plan plan;
    Counts counts;
    std::atomic<int64_t> clock_ns{0}, clock_sample{0}, block_samples{0};
    std::atomic<bool> is_taping{false};

  private:
    void block(int64_t n) {
        take_messages();
        const double begin = (double)position, end = begin + (double)n, rate = (double)plan.rate;
        std::fill(mix.begin(), mix.begin() + 2 * n, 0.0f);
        std::fill(sent.begin(), sent.begin() + 2 * n, 0.0f);
        std::fill(sent_to_chorus.begin(), sent_to_chorus.begin() + 2 * n, 0.0f);
        active.clear();
        for (Voice &voice : voices)
            if (voice.is_on) active.push_back(&voice);
        for (size_t p = 0; p < parts.size(); ++p) {
            Part &part = parts[p];
            part.look(begin, rate);
            std::fill(stem.begin(), stem.begin() + 2 * n, 0.0f);
            bool has_extra = false;
            notes.clear(), heard.clear();
            n_knots = n_fine = n_bright = 0;
            for (Voice *one : active) {
                Voice &voice = *one;
                if (voice.sound.part != (int)p) continue;
                if (voice.n && !voice.is_written && voice.at[voice.n - 1] < end && voice.at[0] < end) {
                    voice.wait_until(end, (int)plan.n_cells);
                    add(counts.waited, 1);
                }
                if (!hear(voice, part, n)) continue;
                heard.push_back(&voice);
                has_extra = has_extra || voice.sound.send != 1;
            }
            const bool is_heard = !heard.empty();
            if (is_heard) add_notes(stem.data(), n, false);
            if (has_extra) {
                std::fill(extra.begin(), extra.begin() + 2 * n, 0.0f);
                for (size_t i = 0; i < heard.size(); ++i) notes[i].factor = heard[i]->sound.send - 1;
                add_notes(extra.data(), n, true);
            }
            for (Voice *voice : heard) pass(*voice, end);
            move_faders(part, (int)p, n);
            if (!is_heard) continue;
            for (int64_t s = 0; s < 2 * n; ++s) {
                const float gain = gains[LINE][s], line = stem[s] * gain;
                mix[s] += line;
                sent[s] += (has_extra ? line + extra[s] * gain : line) * gains[REVERB_SEND][s];
                sent_to_chorus[s] += line * gains[CHORUS_SEND][s];
            }
        }
        const float level = (float)plan.room_level;
        for (int64_t s = 0; s < 2 * n; ++s) sent[s] *= level;
        for (Entered &entered : rooms)
            if (entered.message) add_room(entered, n);
        chorus.add(sent_to_chorus.data(), n, mix.data());
        const float gain = (float)plan.gain;
        if (gain != 1)
            for (int64_t s = 0; s < 2 * n; ++s) mix[s] *= gain;
        if (limiter) {
            const float *rows[2] = {mix.data(), mix.data() + n};
            limiter->process(rows, n, finished.data());
        } else {
            std::copy(mix.begin(), mix.begin() + 2 * n, finished.begin());
        }
        for (size_t slot = 0; slot < voices.size(); ++slot)
            if (voices[slot].is_on && voices[slot].end() + (double)miao::PAST <= end) {  // its noise is over, too
                voices[slot].is_on = false;
                Report report;
                report.kind = Report::OVER, report.slot = (int)slot, report.handle = voices[slot].sound.handle;
                outbox.push(report);
            }
        const int64_t n_on = (int64_t)active.size();
        counts.voices.store(n_on, std::memory_order_relaxed);
        if (n_on > counts.most_voices.load(std::memory_order_relaxed))
            counts.most_voices.store(n_on, std::memory_order_relaxed);
        position += n;
    }

    void take_messages() {
        Message *message;
        // what has been taken must find room to go back
        enter_room();
        while (outbox.room() > (size_t)(plan.n_slots * 2 + MOST_ROOMS + 3) && inbox.pop(message)) {
            if (message->kind == Message::ROOM) {
                if (coming_room) send_back(coming_room);  // that one is not wanted any more
                coming_room = message;
                enter_room();
                continue;
            }
            if (message->kind == Message::STEP) {
                parts[(size_t)message->part].tell(message->name, message->value, std::max(message->time, (double)position));
            } else if (message->kind == Message::AGAIN) {
                for (Part &part : parts) part.take_back((double)position);
            } else if (message->kind == Message::START) {
                std::swap(voices[(size_t)message->slot].sound, message->sound);
                voices[(size_t)message->slot].begin();
            } else {
                Voice &voice = voices[(size_t)message->slot];
                if (voice.is_on && voice.sound.handle == message->handle)
                    add(counts.late, voice.take(message->knots, (double)position, (int)plan.n_cells, plan.silent, plan.octaves));
            }
            send_back(message);
        }
    }

    void send_back(Message *message) {
        Report report;
        report.kind = Report::SPENT, report.message = message;
        outbox.push(report);
    }

    // The room that was asked for is entered and the others are left, once there is a place for it.
    void enter_room() {
        if (!coming_room) return;
        Entered *place = nullptr, *oldest = nullptr;
        for (Entered &entered : rooms) {
            if (!entered.message)
                place = &entered;
            else if (entered.is_left && (!oldest || entered.since_left > oldest->since_left))
                oldest = &entered;
        }
        if (!place && coming_room->room) {
            if (oldest) oldest->is_pushed_out = true;  // it fades out in this block
            return;
        }
        for (Entered &entered : rooms) entered.is_left = true;
        if (coming_room->room)
            *place = Entered{coming_room, 0, false, false, 0};
        else
            send_back(coming_room);
        coming_room = nullptr;
    }

    // What a room makes of what is sent, added to the mix.
    void add_room(Entered &entered, int64_t n) {
        const double goal = entered.is_left ? 0 : 1, step = 1 / (CHANGE_SECONDS * (double)plan.rate);
        const float *from = sent.data();
        if (entered.level != goal || goal == 0) {
            for (int64_t s = 0; s < n; ++s) {
                const float gain = (float)entered.level;
                own[s] = gain * sent[s], own[n + s] = gain * sent[n + s];
                entered.level = goal > 0 ? std::min(entered.level + step, 1.0) : std::max(entered.level - step, 0.0);
            }
            from = own.data();
        }
        entered.message->room->process(from, from + n, n, wet.data());
        for (int64_t s = 0; s < n; ++s) {
            const float gain = entered.is_pushed_out ? 1 - (float)(s + 1) / (float)n : 1;
            mix[s] += gain * wet[s], mix[n + s] += gain * wet[n + s];
        }
        if (entered.is_left && entered.level == 0) entered.since_left += n;
        if (entered.is_pushed_out || entered.since_left > entered.message->n_tail) {
            send_back(entered.message);
            entered = Entered{};
        }
    }

    // What is heard of a voice in the block goes to the notes of its part: `Course.part` of course.py.
    bool hear(Voice &voice, const Part &part, int64_t n) {
        const double begin = (double)position, end = begin + (double)n, rate = (double)plan.rate;
        int stop = 0;
        while (stop < voice.n && voice.at[stop] < end) ++stop;
        stop = std::min(stop + 1, voice.n);
        if (stop < 2 || n_fine == (int64_t)fine_at.size()) return false;
        double *at = knots_at.data() + n_knots, *fine = fine_at.data() + n_fine, *phases = fine_phase.data() + n_fine;
        const float **levels = rows.data() + n_knots;
        for (int k = 0; k < stop; ++k) at[k] = voice.at[k] - begin, levels[k] = voice.levels.data() + (int64_t)k * plan.n_cells;
        if (part.is_bright) brighten(voice, part, stop, levels);
        voice.passed = 0;
        while (voice.passed + 1 < stop && voice.at[voice.passed + 1] < end - (double)miao::PAST) ++voice.passed;
        while (voice.passed && levels[voice.passed][plan.n_cells - 1] != 1) --voice.passed;  // needs the row before
        const bool is_bent = part.moves_pitch(voice.sound.pitch) || voice.sound.glide != 0;
        double phase = voice.sound.phase, moment = voice.at[0], cell_end = -INFINITE, bent = 1;
        int64_t count = 0;
        fine[0] = moment - begin, phases[0] = phase, count = 1;
        for (int k = 0; k + 1 < stop; ++k) {
            while (moment < voice.at[k + 1]) {
                double to_moment = voice.at[k + 1];
                if (is_bent) {
                    if (moment >= cell_end) {
                        const double cell = std::floor(moment / GRID) * GRID;
                        cell_end = cell + GRID;
                        bent = std::exp2(cents_at(voice, part, cell, rate) / 1200);
                    }
                    to_moment = std::min(to_moment, cell_end);
                }
                phase += voice.hz[k] * bent * (to_moment - moment) / rate;
                moment = to_moment;
                if (n_fine + count == (int64_t)fine_at.size()) return false;
                fine[count] = moment - begin, phases[count] = phase, ++count;
            }
            if (k + 1 == voice.passed) voice.phase_passed = phase;
        }
        const Sound &sound = voice.sound;
        notes.push_back({stop, count, plan.n_cells, (int64_t)sound.ratios.size(), at, fine, phases, levels,
                         sound.ratios.data(), sound.cells.data(), sound.shares.data(), sound.offsets.data(),
                         sound.gains.data(), sound.balance.data(), sound.is_wide, 1.0f});
        n_knots += stop, n_fine += count;
        return true;
    }

    // The notes of a part, all together.
    void add_notes(float *to, int64_t n, bool is_extra) {
        const miao::Loops noise{plan.n_bands, plan.n_table, table.data(), heard[0]->sound.places.data()};
        loops.add_notes({to, to + n, n}, notes.data(), (int64_t)notes.size(), noise, position, is_extra,
                        {(float)plan.silent, (float)plan.octaves, (float)plan.floor}, scratch.data());
    }

    // Once a block of it has been made.
    void pass(Voice &voice, double end) {
        if (voice.passed) {
            voice.drop(voice.passed, (int)plan.n_cells);
            voice.sound.phase = voice.phase_passed;
        }
        if (!voice.has_sounded && std::ceil(voice.sound.start) < end) {
            voice.has_sounded = true;
            Report report;
            report.kind = Report::HEARD, report.handle = voice.sound.handle, report.block = clock_sample.load(std::memory_order_relaxed);
            report.sample = (int64_t)std::ceil(voice.sound.start), report.clock_ns = clock_ns.load(std::memory_order_relaxed);
            outbox.push(report);
        }
    }

    double cents_at(const Voice &voice, const Part &part, double cell, double rate) const {
        double cents = part.cents(std::max(cell, voice.sound.start), voice.sound.start, voice.sound.pitch, rate);
        if (voice.sound.glide != 0) {
            const double left = 1 - (cell - voice.sound.start) / std::max(voice.sound.glide_samples, 1e-3 * rate);
            cents += 100 * voice.sound.glide * std::min(std::max(left, 0.0), 1.0);
        }
        return cents;
    }

    // The levels of the voice's first knots as bright as they are to be, some of them elsewhere: `Brightness` of brightness.py.
    void brighten(Voice &voice, const Part &part, int stop, const float **levels) {
        for (int k = 0; k < stop; ++k) {
            double &setting = voice.brightness[k];
            if (setting == UNDECIDED) setting = part.moves[BRIGHTNESS].in_force(voice.at[k ? k - 1 : 0]);
            if (setting == 0 || (size_t)((n_bright + 1) * plan.n_cells) > bright.size()) continue;
            float *to = bright.data() + n_bright++ * plan.n_cells;
            miao::brighten(levels[k], to, plan.n_cells, (float)setting, voice.sound.lifts.data(), voice.sound.weights.data(),
                           plan.law);
            levels[k] = to;
        }
    }

    // The gains of a part for the block: `Fader.gains` of desk.py, for all its faders.
    void move_faders(Part &part, int p, int64_t n) {
        const double span = SMOOTHING_SECONDS * (double)plan.rate, end = (double)(position + n);
        int64_t written[N_FADERS];
        std::fill(written, written + N_FADERS, position);
        const auto write = [&](Fader fader, int64_t stop) {
            const int64_t from = written[fader];
            if (from >= stop) return;
            float *to = gains[fader].data() + (from - position);
            part.faders[fader].write(from, stop, span, to, to + n);
            written[fader] = stop;
        };
        int done = 0;
        for (; done < part.n_coming && part.coming[done].time < end; ++done) {
            const Coming &step = part.coming[done];
            const Fader fader = fader_of(step.name);
            const bool is_ramp = is_busy(p, step.time);
            part.values[step.name] = step.value;
            if (!is_ramp) write(fader, std::min(std::max((int64_t)std::ceil(step.time), position), position + n));
            part.set(fader, step.time, is_ramp);
        }
        std::copy(part.coming + done, part.coming + part.n_coming, part.coming);
        part.n_coming -= done;
        for (int fader = 0; fader < N_FADERS; ++fader) {
            write((Fader)fader, position + n);
            part.faders[fader].forget(end - span);
        }
    }

    bool is_busy(int p, double time) const {
        for (const Voice *voice : active)
            if (voice->sound.part == p && voice->n && voice->sound.start < time && time < voice->end()) return true;
        return false;
    }

    const miao::Variant &loops;
    std::vector<float> table;
    Chorus chorus;
    std::unique_ptr<miao_sound::Limiter> limiter;
    Entered rooms[MOST_ROOMS];
    Message *coming_room = nullptr;

  public:
    Queue<Message *> inbox;
    Queue<Report> outbox;
    Queue<float> tape;

  private:
    std::vector<Voice> voices;
    std::vector<Part> parts;
    std::vector<Voice *> active;
    bool was_too_long = false;
    std::atomic<uint32_t> sequence{0};
    int64_t position = 0;
    std::vector<float> stem, extra, own, mix, sent, wet, finished, sent_to_chorus, gains[N_FADERS];
    std::vector<double> fine_at, fine_phase, knots_at, scratch;
    std::vector<const float *> rows;
    std::vector<miao::NotePart> notes;  // of a part,
    std::vector<Voice *> heard;         // and whose they are
    std::vector<float> bright;          // rows of them that are not as bright as their voice
    int64_t n_knots = 0, n_fine = 0, n_bright = 0;  // of these notes
};

}  // namespace miao_live
