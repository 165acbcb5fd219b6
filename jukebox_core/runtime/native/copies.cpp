// Copies of numbers, converted, that look for those which are not finite on the way: a pass of its own over weights
// would cost a quarter of the copy.

#include "weights.h"

extern "C" {

enum Number : int32_t { FLOAT, BFLOAT, HALF };

int32_t copy_finite(const void* from, int32_t from_number, void* to, int32_t to_number, int64_t count,
                    int64_t threads);
}

namespace {

constexpr uint32_t INFINITE = 0x7f800000;  // bits of infinity; those of NaN are above it

struct Half {
    uint16_t bits;
};

inline float load(const Half* at) {  // infinity and NaN become numbers beyond the largest half, see `magnitude`
    const uint32_t bits = at->bits;
    const float scaled = from_bits((bits & 0x7fff) << 13) * 0x1p112f;
    return from_bits(to_bits(scaled) | (bits & 0x8000) << 16);
}

// Returns bits that are INFINITE or above if, and only if, a stored number is not finite.
inline uint32_t magnitude(const float* at) { return to_bits(*at) & 0x7fffffff; }
inline uint32_t magnitude(const uint16_t* at) { return uint32_t(*at & 0x7fff) << 16; }
inline uint32_t magnitude(const Half* at) { return (at->bits & 0x7c00) == 0x7c00 ? INFINITE : 0; }

// Copies numbers; returns the largest magnitude.
template <class From, class To> uint32_t copy_some(const From* __restrict from, To* __restrict to, int64_t count) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t read = magnitude(from + i);
        store(to + i, load(from + i));
        const uint32_t written = magnitude(to + i), larger = read > written ? read : written;
        largest = larger > largest ? larger : largest;
    }
    return largest;
}

template <class From, class To> bool copy(const From* from, To* to, int64_t count, int64_t threads) {
    if (threads == 1) return copy_some(from, to, count) < INFINITE;
    uint32_t largest = 0;
#pragma omp parallel num_threads(int(threads)) reduction(max : largest)
    {
        const int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
        const int64_t begin = count * thread / team, end = count * (thread + 1) / team;
        largest = copy_some(from + begin, to + begin, end - begin);
    }
    return largest < INFINITE;
}

template <class From>
bool copy_to_number(const From* from, void* to, int32_t to_number, int64_t count, int64_t threads) {
    return to_number == FLOAT ? copy(from, (float*)to, count, threads) : copy(from, (uint16_t*)to, count, threads);
}

}  // namespace

// Returns 1 if all numbers are finite, before and after the conversion, else 0. Nothing is converted to HALF.
int32_t copy_finite(const void* from, int32_t from_number, void* to, int32_t to_number, int64_t count,
                    int64_t threads) {
    switch (from_number) {
        case FLOAT: return copy_to_number((const float*)from, to, to_number, count, threads);
        case BFLOAT: return copy_to_number((const uint16_t*)from, to, to_number, count, threads);
        default: return copy_to_number((const Half*)from, to, to_number, count, threads);
    }
}
