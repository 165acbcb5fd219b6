// Weights of matrices in three precisions: their layout, and the operations of a product.
//
// A matrix [I, O] is stored in panels of `PANEL` outputs, [panels][I / R][PANEL][R] with R interleaved inputs, the
// operand layout of dot-product instructions (`packed` in matrices.py). An output is summed over its inputs in order,
// for every batch size, tile and number of threads: the results of a sample are the same, bit for bit, in every batch.
//
// With bfloat16 weights the activations are rounded to bfloat16; with int8 weights they are quantised to int8 in blocks
// of 64 inputs, with a scale for each block. Sums are float32, or int32 within a block.

#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define WIDE 1
#else
#define WIDE 0
#endif

extern "C" {

enum Precision : int32_t { FLOAT32, BFLOAT16, INT8 };

struct Matrix {  // mirrored in matrices.py; structures of other files in decode_step.py and convolution.py
    const void* weight;
    const float* scale;  // [O], of int8 weights
    const float* bias;   // [O]
    int64_t inputs, outputs;
};
}

namespace {

constexpr int64_t PANEL = 32;              // outputs in a panel
constexpr int64_t LANES = WIDE ? 16 : 8;   // outputs in one vector: a wider one than the CPU's would live in memory
constexpr int V = PANEL / LANES;           // vectors in a panel
constexpr int TOGETHER = 2;                // of these, with four rows or more: their sums are kept in registers

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ints __attribute__((vector_size(4 * LANES), aligned(4)));

constexpr int64_t GROUP = WIDE ? 8 : 4;  // samples that share one read of a weight, at most
constexpr int64_t BLOCK = 64;           // inputs of a row that share a scale, with int8 weights

// --- scalars ---------------------------------------------------------------------------------------------------------

inline float from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline uint32_t to_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline uint32_t bfloat_bits(float value) {  // to nearest, ties to even
    const uint32_t bits = to_bits(value);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float load(const float* at) { return *at; }
inline float load(const uint16_t* at) { return from_bits(uint32_t(*at) << 16); }
inline void store(float* at, float value) { *at = value; }
inline void store(uint16_t* at, float value) { *at = uint16_t(bfloat_bits(value)); }

// --- products --------------------------------------------------------------------------------------------------------

// Storage and multiplication of a precision: `R` inputs at a time, with a 32-bit operand for each row.
template <int32_t> struct Weights;

template <> struct Weights<FLOAT32> {
    typedef float Element;
    typedef floats Sum;
    static constexpr int64_t R = 1;
    static floats read(const float* at) { return *(const floats*)at; }
    static floats add(floats sum, floats weights, int32_t x) { return sum + weights * from_bits(uint32_t(x)); }
};

template <> struct Weights<BFLOAT16> {
    typedef uint16_t Element;
    typedef floats Sum;
    static constexpr int64_t R = 2;
    static ints read(const uint16_t* at) { return *(const ints*)at; }
    static floats add(floats sum, ints weights, int32_t x) {
#if WIDE && defined(__AVX512BF16__)
        return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)_mm512_set1_epi32(x));
#else
        sum += (floats)(weights << 16) * from_bits(uint32_t(x) << 16);
        return sum + (floats)(weights & int32_t(0xffff0000)) * from_bits(uint32_t(x) & 0xffff0000u);
#endif
    }
};

template <> struct Weights<INT8> {  // stored plus 128, which `Rounded::start` compensates
    typedef uint8_t Element;
    typedef ints Sum;
    static constexpr int64_t R = 4;
    static ints read(const uint8_t* at) { return *(const ints*)at; }
    static ints add(ints sum, ints weights, int32_t x) {
#if WIDE && defined(__AVX512VNNI__)
        return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(x));
#elif !WIDE && defined(__AVX2__)  // pairs of 16-bit products, which are exact: those of 8-bit operands would saturate
        const __m256i all = (__m256i)weights, values = _mm256_set1_epi32(x);
        const __m256i even = _mm256_madd_epi16(_mm256_and_si256(all, _mm256_set1_epi16(255)),
                                               _mm256_srai_epi16(_mm256_slli_epi16(values, 8), 8));
        const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(all, 8), _mm256_srai_epi16(values, 8));
        return sum + (ints)_mm256_add_epi32(even, odd);
#else
        for (int byte = 0; byte < 32; byte += 8) sum += (weights >> byte & 255) * int32_t(int8_t(x >> byte));
        return sum;
#endif
    }
    static floats number(ints sum) { return __builtin_convertvector(sum, floats); }
};

struct Rounded {
    float scale;    // of the int8 values
    int32_t start;  // initial value of their sums with a matrix
};

// Quantises values, after an optional ReLU, to int8 with one scale.
template <bool RELU = false> Rounded quantise_int8(const float* values, int64_t count, int8_t* whole) {
    typedef int8_t Bytes __attribute__((vector_size(LANES), aligned(1)));
    const int64_t even = count / LANES * LANES;
    floats last = {};  // the remainder where LANES do not divide the count
    if (even < count) std::memcpy(&last, values + even, size_t(count - even) * 4);
    const auto relu = [](floats value) { return RELU ? (value > 0 ? value : floats{}) : value; };
    const auto read = [&](int64_t i) { return relu(*(const floats*)(values + i)); };

    // 1) The largest absolute value: positive floats compare as their bits do.
    ints maxima = {};
    const auto update_maxima = [&](floats value) {
        const ints bits = (ints)value & 0x7fffffff;
        maxima = bits > maxima ? bits : maxima;
    };
    for (int64_t i = 0; i < even; i += LANES) update_maxima(read(i));
    update_maxima(relu(last));
    int32_t largest_bits = 0;
    for (int lane = 0; lane < LANES; lane++) largest_bits = std::max(largest_bits, maxima[lane]);
    const float largest = from_bits(uint32_t(largest_bits)), per_unit = largest > 0 ? 127 / largest : 0;

    // 2) Rounding to nearest, and the sum of the rounded values.
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves the integer in the low bits
    ints sums = {};
    const auto round = [&](floats value) {
        const ints rounded = (ints)(value * per_unit + magic) - int32_t(to_bits(magic));
        sums += rounded;
        return __builtin_convertvector(rounded, Bytes);
    };
    for (int64_t i = 0; i < even; i += LANES) *(Bytes*)(whole + i) = round(read(i));
    if (even < count) {
        const Bytes bytes = round(relu(last));
        std::memcpy(whole + even, &bytes, size_t(count - even));
    }
    // 3) Weights are stored plus 128, so each sum of products starts at -128 times the sum of the values.
    int32_t sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    return {largest / 127, -128 * sum};
}

}  // namespace
