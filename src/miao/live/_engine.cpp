// miao.live._engine: the live engine for Python, its callback for PortAudio, and a clock in place of a sound card.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <thread>

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

#include "_engine.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace miao_live;

namespace {

template <class T, class... Shape>
using Array = nb::ndarray<const T, Shape..., nb::c_contig, nb::device::cpu>;

template <class T, class A>
std::vector<T> copied(const A &array) {
    return std::vector<T>(array.data(), array.data() + array.size());
}

void require(bool fits, const char *what) {
    if (!fits) throw nb::value_error(what);
}

// PortAudio's callback; `status` has its bit 2 set where the card ran out of samples.
constexpr unsigned long UNDERFLOW_BIT = 4;
int portaudio_callback(const void *, void *out, unsigned long n, const void *, unsigned long status, void *engine) {
    ((Engine *)engine)->serve((float *)out, (int64_t)n, status & UNDERFLOW_BIT);
    return 0;
}

// Asks for the priority that a sound card's thread has; where that is not allowed, nothing changes.
void hurry() {
#ifdef __linux__
    sched_param wanted{};
    wanted.sched_priority = 70;
    pthread_setschedparam(pthread_self(), SCHED_FIFO, &wanted);
#endif
}

// Calls the engine as a sound card would, block by block; one that comes a whole block late counts as a dropout.
class Clock {
  public:
    Clock(Engine &engine, int64_t block) : engine(engine), block(block), thread([this] { run(); }) {}
    ~Clock() { stop(); }
    void stop() {
        if (!thread.joinable()) return;
        is_over = true;
        thread.join();
    }

  private:
    void run() {
        using namespace std::chrono;
        hurry();
        std::vector<float> out((size_t)(2 * block));
        const nanoseconds period(block * 1000000000 / engine.plan.rate);
        auto due = steady_clock::now();
        while (!is_over) {
            const bool is_late = steady_clock::now() > due + period;
            engine.serve(out.data(), block, is_late);
            due += period;
            if (is_late) due = steady_clock::now();
            std::this_thread::sleep_until(due);
        }
    }

    Engine &engine;
    const int64_t block;
    std::atomic<bool> is_over{false};
    std::thread thread;
};

// A thread of that priority which does nothing but wake up at each block's time: what it misses, the machine withholds.
class Watch {
  public:
    explicit Watch(double seconds) : period((int64_t)(seconds * 1e9)), thread([this] { run(); }) {}
    ~Watch() { stop(); }
    void stop() {
        if (!thread.joinable()) return;
        is_over = true;
        thread.join();
    }
    // How often it woke up, how often a period and more too late, and by how much at the most.
    nb::tuple counts() const { return nb::make_tuple(n_woken.load(), n_late.load(), 1e-9 * (double)worst_ns.load()); }

  private:
    void run() {
        using namespace std::chrono;
        hurry();
        for (auto due = steady_clock::now() + period; !is_over; due += period) {
            std::this_thread::sleep_until(due);
            const nanoseconds late = steady_clock::now() - due;
            add(n_woken, 1);
            add(n_late, late >= period);
            keep_highest(worst_ns, (int64_t)late.count());
            if (late >= period) due = steady_clock::now();
        }
    }

    const std::chrono::nanoseconds period;
    std::atomic<int64_t> n_woken{0}, n_late{0}, worst_ns{0};
    std::atomic<bool> is_over{false};
    std::thread thread;
};

class Bound {
  public:
    Bound(int64_t rate, int64_t n_parts, int64_t n_slots, Array<float, nb::ndim<2>> noise, int64_t n_cells, double silent,
          double octaves, double floor, nb::tuple law, double gain, double room_level, nb::tuple chorus, nb::object room, nb::object limiter)
        : slots((size_t)n_slots) {
        require(rate >= 8000 && n_parts > 0 && n_slots > 0, "an engine needs a rate, parts and slots");
        std::unique_ptr<Message> first_room = room.is_none() ? nullptr : room_of(room);
        std::unique_ptr<miao_sound::Limiter> last;
        if (!limiter.is_none()) {
            auto args = nb::cast<nb::tuple>(limiter);
            auto kernels = nb::cast<Array<float, nb::shape<miao_sound::KERNELS, miao_sound::TAPS>>>(args[5]);
            last = std::make_unique<miao_sound::Limiter>(
                2, nb::cast<int64_t>(args[0]), nb::cast<double>(args[1]), nb::cast<double>(args[2]),
                nb::cast<double>(args[3]), nb::cast<double>(args[4]), kernels.data(), "");
        }
        const Plan plan{rate, n_parts, n_slots, n_cells, (int64_t)noise.shape(0), (int64_t)noise.shape(1), 1024,
                        silent, octaves, floor, gain, room_level, law_of(law)};
        const auto number = [&](size_t i) { return nb::cast<double>(chorus[i]); };
        const Chorus swinging((double)rate, number(0), number(1), number(2), number(3));
        engine = std::make_unique<Engine>(plan, noise.data(), swinging, std::move(first_room), std::move(last));
        for (int slot = (int)n_slots - 1; slot >= 0; --slot) slots[(size_t)((int)n_slots - 1 - slot)] = slot;
    }

    // The slot of a new note, or -1 where all are taken.
    int start(int64_t handle, int part, int pitch, double start, double glide, double glide_seconds, double phase, float send,
              bool may_be_late, Array<double, nb::ndim<1>> ratios, Array<int32_t, nb::ndim<1>> cells,
              Array<float, nb::ndim<1>> shares, Array<float, nb::ndim<1>> offsets, Array<float, nb::shape<-1, 3>> gains,
              Array<float, nb::shape<-1, 2>> balance, Array<int64_t, nb::shape<-1, 2>> places, bool is_wide, Array<float, nb::ndim<1>> lifts,
              Array<float, nb::ndim<1>> weights) {
        const size_t n = ratios.shape(0), bands = (size_t)engine->plan.n_bands;
        require(part >= 0 && part < engine->plan.n_parts && pitch >= 0 && pitch < N_PITCHES, "no such part or pitch");
        require(cells.size() == n && shares.size() == n && offsets.size() == n && gains.shape(0) == n && n <= miao_live::MOST_PARTIALS &&
                    balance.shape(0) == bands && places.shape(0) == bands &&
                    (int64_t)lifts.size() == engine->plan.n_cells - 1 && weights.size() == lifts.size(),
                "the arrays of a note do not fit together");
        for (size_t p = 0; p < n; ++p)
            require(cells.data()[p] >= 0 && cells.data()[p] <= engine->plan.n_cells - (int64_t)bands - 3, "a cell too far");
        if (slots.empty()) return -1;
        auto message = std::make_unique<Message>();
        message->kind = Message::START;
        message->slot = slots.back();
        Sound &sound = message->sound;
        const double rate = (double)engine->plan.rate;
        sound.part = part, sound.pitch = pitch, sound.handle = handle, sound.start = start * rate, sound.glide = glide;
        sound.glide_samples = glide_seconds * rate, sound.phase = phase, sound.send = send, sound.may_be_late = may_be_late;
        sound.ratios = copied<double>(ratios), sound.cells = copied<int32_t>(cells), sound.shares = copied<float>(shares);
        sound.offsets = copied<float>(offsets), sound.gains = copied<float>(gains), sound.balance = copied<float>(balance);
        sound.places = copied<int64_t>(places), sound.is_wide = is_wide;
        sound.lifts = copied<float>(lifts), sound.weights = copied<float>(weights);
        const int slot = slots.back();
        if (!send_off(message)) return -1;
        slots.pop_back();
        return slot;
    }

    bool knots(int slot, int64_t handle, int64_t first, Array<double, nb::ndim<1>> times, Array<double, nb::ndim<1>> hz,
               Array<float, nb::ndim<2>> levels, bool is_written) {
        require(slot >= 0 && slot < engine->plan.n_slots, "no such slot");
        require(hz.size() == times.size() && levels.shape(0) == times.size() &&
                    (int64_t)levels.shape(1) == engine->plan.n_cells, "the arrays of knots do not fit together");
        auto message = std::make_unique<Message>();
        message->kind = Message::KNOTS;
        message->slot = slot, message->handle = handle;
        message->knots.first = first, message->knots.is_written = is_written;
        message->knots.at = copied<double>(times);
        for (double &at : message->knots.at) at *= (double)engine->plan.rate;
        message->knots.hz = copied<double>(hz);
        message->knots.levels = copied<float>(levels);
        return send_off(message);
    }

    bool step(int part, int name, double value, double time) {
        require(part >= 0 && part < engine->plan.n_parts && name >= 0 && name < N_NAMES + 2 * N_PITCHES, "no such part or controller");
        auto message = std::make_unique<Message>();
        message->kind = Message::STEP;
        message->part = part, message->name = name, message->value = value, message->time = time * (double)engine->plan.rate;
        return send_off(message);
    }

    // Steps that were told and are still to come are not taken: another player tells what is.
    bool begin_again() {
        auto message = std::make_unique<Message>();
        message->kind = Message::AGAIN;
        return send_off(message);
    }

    // What is sent goes to another room from the next block on, or to none; false where the queue is full.
    bool change_room(nb::object room) {
        std::unique_ptr<Message> message = room_of(room);
        return send_off(message);
    }

    // What has happened since: notes that are over, and notes that are heard as (handle, sample, of the block, its ns).
    nb::tuple reports() {
        nb::list over, heard;
        Report report;
        while (engine->outbox.pop(report)) {
            if (report.kind == Report::SPENT) {
                delete report.message;
            } else if (report.kind == Report::OVER) {
                slots.push_back(report.slot);
                over.append(report.handle);
            } else {
                heard.append(nb::make_tuple(report.handle, report.sample, report.block, report.clock_ns));
            }
        }
        return nb::make_tuple(over, heard);
    }

    void render(nb::ndarray<float, nb::shape<2, -1>, nb::c_contig, nb::device::cpu> out) {
        nb::gil_scoped_release release;
        engine->process(out.data(), out.data() + out.shape(1), (int64_t)out.shape(1));
        rendered += (int64_t)out.shape(1);
        engine->clock_sample.store(rendered);
    }

    // Interleaved samples that have been played since `taping` began, as many as there are or fit.
    int64_t taped(nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu> out) {
        int64_t n = 0;
        while (n < (int64_t)out.size() && engine->tape.pop(out.data()[n])) ++n;
        return n;
    }

    nb::dict counts() const {
        const Counts &c = engine->counts;
        nb::dict found;
        for (auto [name, value] : {std::pair<const char *, int64_t>{"blocks", c.blocks}, {"dropouts", c.dropouts},
                                   {"own_dropouts", c.own_dropouts},
                                   {"overruns", c.overruns}, {"late", c.late}, {"waited", c.waited}, {"voices", c.voices},
                                   {"most_voices", c.most_voices}, {"busy_ns", c.busy_ns}, {"longest_ns", c.longest_ns}, {"most_worked_ns", c.most_worked_ns},
                                   {"last_ns", c.last_ns}, {"lost_samples", c.lost_samples}, {"block_samples", engine->block_samples}})
            found[name] = value;
        return found;
    }

    void start_clock(int64_t block) {
        require(block > 0, "a block has samples");
        stop_clock();
        clock = std::make_unique<Clock>(*engine, block);
    }
    void stop_clock() {
        nb::gil_scoped_release release;
        clock.reset();
    }

    double sample_at(int64_t ns) const { return engine->sample_at(ns); }
    void set_taping(bool is_on) { engine->is_taping.store(is_on, std::memory_order_release); }
    uintptr_t address() const { return (uintptr_t)engine.get(); }

  private:
    static miao::BrightnessLaw law_of(const nb::tuple &law) {
        const auto number = [&](size_t i) { return nb::cast<float>(law[i]); };
        return {number(0), number(1), number(2), number(3), number(4)};
    }

    static std::unique_ptr<Message> room_of(const nb::object &room) {
        auto message = std::make_unique<Message>();
        message->kind = Message::ROOM;
        if (room.is_none()) return message;
        auto responses = nb::cast<Array<float, nb::shape<2, 2, -1>>>(room);
        nb::gil_scoped_release release;  // many transforms
        message->n_tail = (int64_t)responses.shape(2);
        message->room = std::make_unique<miao_sound::Convolver>(
            std::make_shared<miao_sound::Responses>(responses.data(), message->n_tail, 512, ""));
        return message;
    }

    bool send_off(std::unique_ptr<Message> &message) {
        if (!engine->inbox.push(message.get())) return false;
        message.release();
        return true;
    }

    std::unique_ptr<Engine> engine;
    std::vector<int> slots;
    int64_t rendered = 0;
    std::unique_ptr<Clock> clock;  // goes before the engine does
};

}  // namespace

NB_MODULE(_engine, module) {
    module.doc() = "The live engine, see live/player.py.";
    module.attr("callback") = (uintptr_t)&portaudio_callback;
    module.def("now_ns", &now_ns);
    nb::class_<Watch>(module, "Watch")
        .def(nb::init<double>(), "seconds"_a)
        .def("stop", [](Watch &watch) { nb::gil_scoped_release release; watch.stop(); })
        .def("counts", &Watch::counts);
    nb::class_<Bound>(module, "Engine")
        .def(nb::init<int64_t, int64_t, int64_t, Array<float, nb::ndim<2>>, int64_t, double, double, double, nb::tuple, double, double, nb::tuple,
                      nb::object, nb::object>(),
             "rate"_a, "n_parts"_a, "n_slots"_a, "noise"_a, "n_cells"_a, "silent"_a, "octaves"_a, "floor"_a, "law"_a, "gain"_a,
             "room_level"_a, "chorus"_a, "room"_a.none(), "limiter"_a.none())
        .def("start", &Bound::start)
        .def("knots", &Bound::knots)
        .def("step", &Bound::step)
        .def("begin_again", &Bound::begin_again)
        .def("change_room", &Bound::change_room, "room"_a.none())
        .def("reports", &Bound::reports)
        .def("render", &Bound::render, "out"_a.noconvert())
        .def("taped", &Bound::taped, "out"_a.noconvert())
        .def("counts", &Bound::counts)
        .def("start_clock", &Bound::start_clock)
        .def("stop_clock", &Bound::stop_clock)
        .def("sample_at", &Bound::sample_at)
        .def("set_taping", &Bound::set_taping)
        .def_prop_ro("address", &Bound::address);
}
