// What a transform is told before its first time: its twiddles, and where which frequency comes out.
#include <cmath>
#include <vector>

#include "_signal.h"

namespace miao_sound {

static bool needs_halves(int64_t n) {
    while (n > LAST) n /= 4;
    return n != LAST;
}

int64_t n_twiddles(int64_t n) {
    int64_t floats = 0;
    if (needs_halves(n)) {
        floats += n;
        n /= 2;
    }
    for (; n > LAST; n /= 4) floats += 6 * (n / 4);
    return floats + 6 * (LAST * LAST / 4);
}

// Twiddles in the order of the passes; and where which frequency comes out.
void fill(int64_t n, float *twiddles, int32_t *frequency, int32_t *mirror) {
    const double circle = 2 * 3.14159265358979323846;
    float *w = twiddles;
    auto turn = [&](int64_t points, int64_t power, int64_t count, int64_t repeated) {
        for (int part = 0; part < 2; ++part)
            for (int64_t j = 0; j < count; ++j) {
                const double angle = -circle * (double)(power * j) / (double)points;
                for (int64_t lane = 0; lane < repeated; ++lane) *w++ = (float)(part ? std::sin(angle) : std::cos(angle));
            }
    };
    int64_t block = n;
    if (needs_halves(n)) {
        turn(n, 1, n / 2, 1);
        block /= 2;
    }
    for (; block > LAST; block /= 4)
        for (int power = 1; power < 4; ++power) turn(block, power, block / 4, 1);
    for (int power = 1; power < 4; ++power) turn(LAST, power, LAST / 4, LAST);

    std::vector<int32_t> place((size_t)n);
    for (int64_t at = 0; at < n; ++at) {
        int64_t row = at / (LAST * LAST) * (LAST * LAST), inside = at % (LAST * LAST);
        int64_t index = row + inside % LAST * LAST + inside / LAST;  // before the squares were turned over
        int64_t points = n, step = 1, found = 0;
        if (needs_halves(n)) {
            found += index / (points / 2);
            index %= points / 2;
            points /= 2;
            step = 2;
        }
        for (; points > 1; points /= 4, step *= 4) {
            found += step * (index / (points / 4));
            index %= points / 4;
        }
        frequency[at] = (int32_t)found;
        place[(size_t)found] = (int32_t)at;
    }
    for (int64_t at = 0; at < n; ++at) mirror[at] = place[(size_t)((n - frequency[at]) % n)];
}

}  // namespace miao_sound
