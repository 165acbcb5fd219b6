// Matrix products in three precisions.
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

// Activations as operands, [groups][I / R][rows of the group]. With int8 weights, each block of BLOCK inputs of a row
// has a scale and an initial value of its sums: [groups][blocks][rows of the group].
struct Operands {
    int32_t* at;
    float* scale;
    int32_t* start;
    int64_t rows, inputs;
    int64_t blocks() const { return (inputs + BLOCK - 1) / BLOCK; }
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

// Returns the size of the group that begins at `row`: a power of two, at most GROUP.
inline int64_t group_size(int64_t row, int64_t rows) {
    int64_t size = GROUP;
    while (size > rows - row) size /= 2;
    return size;
}

// Converts one row of activations to operands.
template <int32_t P> void set_operands(Operands& to, int64_t row, const float* values) {
    int64_t first = row - row % GROUP;
    while (first + group_size(first, to.rows) <= row) first += group_size(first, to.rows);
    const int64_t size = group_size(first, to.rows), R = Weights<P>::R;
    int32_t* at = to.at + first * (to.inputs / R) + (row - first);
    if (P == FLOAT32) {
        for (int64_t i = 0; i < to.inputs; i++) at[i * size] = int32_t(to_bits(values[i]));
    } else if (P == BFLOAT16) {
        for (int64_t i = 0; i < to.inputs / 2; i++)
            at[i * size] = int32_t(bfloat_bits(values[2 * i]) | bfloat_bits(values[2 * i + 1]) << 16);
    } else {
        const int64_t block_at = first * to.blocks() + (row - first);
        for (int64_t block = 0; block < to.blocks(); block++) {
            const int64_t count = std::min(BLOCK, to.inputs - block * BLOCK);
            int8_t whole[BLOCK];
            const Rounded rounded = quantise_int8(values + block * BLOCK, count, whole);
            to.scale[block_at + block * size] = rounded.scale;
            to.start[block_at + block * size] = rounded.start;
            for (int64_t i = 0; i < count; i += 4) std::memcpy(at + (block * BLOCK + i) / 4 * size, whole + i, 4);
        }
    }
}

// Multiplies N vectors of a panel with a group of M rows; arguments as of `multiply_panel`.
template <int32_t P, int M, int N>
inline void multiply_vectors(const typename Weights<P>::Element* weight, int64_t inputs, const int32_t* x,
                             const float* scale, const int32_t* start, int64_t ahead, float* sums) {
    using W = Weights<P>;
    const int64_t block = P == INT8 ? BLOCK : inputs;
    floats total[M][N] = {};
    for (int64_t begin = 0; begin < inputs; begin += block) {
        typename W::Sum part[M][N] = {};
        if constexpr (P == INT8)
            for (int m = 0; m < M; m++)
                for (int v = 0; v < N; v++) part[m][v] += start[m];
        for (int64_t i = begin; i < std::min(begin + block, inputs); i += W::R, weight += W::R * PANEL, x += M) {
            decltype(W::read(weight)) read[N];
            for (int v = 0; v < N; v++) read[v] = W::read(weight + W::R * LANES * v);
            if (ahead)
                for (int64_t byte = 0; byte < int64_t(W::R * PANEL * sizeof *weight); byte += 64)
                    __builtin_prefetch((const char*)(weight + ahead) + byte, 0, 2);
            for (int m = 0; m < M; m++)
                for (int v = 0; v < N; v++) part[m][v] = W::add(part[m][v], read[v], x[m]);
        }
        for (int m = 0; m < M; m++)
            for (int v = 0; v < N; v++)
                if constexpr (P == INT8) total[m][v] += W::number(part[m][v]) * scale[m];
                else total[m][v] = part[m][v];
        if constexpr (P == INT8) scale += M, start += M;
    }
    for (int m = 0; m < M; m++)
        for (int v = 0; v < N; v++) *(floats*)(sums + m * PANEL + v * LANES) = total[m][v];
}

// Multiplies a panel with a group of M rows: sums is [M, PANEL]. `ahead` is the distance of the panel to prefetch, in
// elements; 0: none.
template <int32_t P, int M>
inline void multiply_panel(const typename Weights<P>::Element* weight, int64_t inputs, const int32_t* x,
                           const float* scale, const int32_t* start, int64_t ahead, float* sums) {
    using W = Weights<P>;
    constexpr int N = M < 4 ? V : TOGETHER;
    for (int first = 0; first < V; first += N)
        multiply_vectors<P, M, N>(weight + W::R * LANES * first, inputs, x, scale, start, ahead, sums + LANES * first);
}

// Computes the panels [begin, end) for all rows; calls `emit(row, first output, values, count)` for `count` outputs of
// a row at a time.
template <int32_t P, class Emit>
void multiply_panels(const Matrix& matrix, const Operands& x, int64_t begin, int64_t end, Emit emit) {
    const auto* weights = (const typename Weights<P>::Element*)matrix.weight;
    const int64_t inputs = matrix.inputs, panel_size = inputs * PANEL;
    float sums[GROUP * PANEL];
    for (int64_t panel = begin; panel < end; panel++) {
        const auto* weight = weights + panel * panel_size;
        const int64_t output = panel * PANEL;
        const int count = int(std::min(PANEL, matrix.outputs - output));
        for (int64_t row = 0, size; row < x.rows; row += size) {
            size = group_size(row, x.rows);
            const int64_t ahead = row && row + size == x.rows && panel + 1 < end ? panel_size : 0;
            const int32_t* at = x.at + row * (inputs / Weights<P>::R);
            const float* scale = x.scale + row * x.blocks();
            const int32_t* start = x.start + row * x.blocks();
            if (size == 8) multiply_panel<P, GROUP>(weight, inputs, at, scale, start, ahead, sums);
            else if (size == 4) multiply_panel<P, 4>(weight, inputs, at, scale, start, ahead, sums);
            else if (size == 2) multiply_panel<P, 2>(weight, inputs, at, scale, start, ahead, sums);
            else multiply_panel<P, 1>(weight, inputs, at, scale, start, ahead, sums);
            for (int64_t m = 0; m < size; m++) {
                float* values = sums + m * PANEL;
                if (P == INT8)
                    for (int i = 0; i < count; i++) values[i] *= matrix.scale[output + i];
                for (int i = 0; i < count; i++) values[i] += matrix.bias[output + i];
                emit(row + m, output, values, count);
            }
        }
    }
}

// A thread's share [begin, end) of `count` items.
struct Share {
    int64_t begin, end;
    Share(int64_t count, int64_t thread, int64_t threads)
        : begin(count * thread / threads), end(count * (thread + 1) / threads) {}
};

Share panels(const Matrix& matrix, int64_t thread, int64_t threads) {
    return Share((matrix.outputs + PANEL - 1) / PANEL, thread, threads);
}

// Returns an `emit` that copies outputs to rows of `width`.
inline auto copy_to(float* out, int64_t width) {
    return [=](int64_t row, int64_t output, const float* values, int count) {
        std::copy_n(values, count, out + row * width + output);
    };
}

}  // namespace
