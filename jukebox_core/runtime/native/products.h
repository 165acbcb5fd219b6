// Numbers of three precisions, and products of rows with matrices of them.
//
// A matrix [I, O] lies in panels of `PANEL` outputs, [panels][I / R][PANEL][R] with R inputs beside each other, which
// is how the processor multiplies small numbers (`packed` in matrices.py). An output is summed over its inputs in their
// order, whatever the batch, the tile and the number of threads: a sample's numbers are the same, bit for bit, in every
// batch.
//
// Where weights are bfloat16, what they multiply is rounded to it; where they are int8, it is rounded to 8 bits of the
// largest of its block of 64 inputs. Sums are float32, or whole numbers within a block.

#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define WIDE 1
#else
#define WIDE 0
#endif

extern "C" {

enum Precision : int32_t { FLOAT32, BFLOAT16, INT8 };

struct Matrix {  // mirrored in matrices.py; the structures below in walk.py
    const void* weight;
    const float* scale;  // [O], of int8 weights
    const float* bias;   // [O]
    int64_t inputs, outputs;
};
}

namespace {

typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef int32_t ints __attribute__((vector_size(64), aligned(4)));

constexpr int64_t LANES = 16;           // outputs in one vector
constexpr int V = 2;                    // vectors in a panel
constexpr int64_t PANEL = V * LANES;    // outputs in a panel
constexpr int64_t GROUP = WIDE ? 8 : 4;  // most samples that share one read of a weight
constexpr int64_t BLOCK = 64;           // inputs of a row that share a scale where weights are int8

// --- numbers ---------------------------------------------------------------------------------------------------------

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

// What a precision stores, and how it multiplies: `R` inputs at a time, with an operand of 32 bits for each row.
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

template <> struct Weights<INT8> {  // stored plus 128, which `Rounded::start` takes away again
    typedef uint8_t Element;
    typedef ints Sum;
    static constexpr int64_t R = 4;
    static ints read(const uint8_t* at) { return *(const ints*)at; }
    static ints add(ints sum, ints weights, int32_t x) {
#if WIDE && defined(__AVX512VNNI__)
        return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(x));
#else
        for (int byte = 0; byte < 32; byte += 8) sum += (weights >> byte & 255) * int32_t(int8_t(x >> byte));
        return sum;
#endif
    }
    static floats number(ints sum) { return __builtin_convertvector(sum, floats); }
};

// What a matrix multiplies: rows of numbers as operands, [groups][I / R][rows of the group]. Where weights are int8, a
// block of BLOCK inputs of a row has a scale, and a number where its sums start: [groups][blocks][rows of the group].
struct Operands {
    int32_t* at;
    float* scale;
    int32_t* start;
    int64_t rows, inputs;
    int64_t blocks() const { return (inputs + BLOCK - 1) / BLOCK; }
};

struct Rounded {
    float scale;    // of the numbers of 8 bits
    int32_t start;  // where their sums with a matrix start
};

// Rounds numbers, or what is above zero in them, to 8 bits of the largest.
template <bool RELU = false> Rounded round_to_whole(const float* values, int64_t count, int8_t* whole) {
    typedef int8_t Bytes __attribute__((vector_size(LANES), aligned(1)));
    const int64_t even = count / LANES * LANES;
    floats last = {};  // what is left where LANES do not divide the count
    if (even < count) std::memcpy(&last, values + even, size_t(count - even) * 4);
    const auto relu = [](floats value) { return RELU ? (value > 0 ? value : floats{}) : value; };
    const auto read = [&](int64_t i) { return relu(*(const floats*)(values + i)); };

    ints most = {};  // of numbers above zero, the larger has the larger bits
    const auto look = [&](floats value) {
        const ints bits = (ints)value & 0x7fffffff;
        most = bits > most ? bits : most;
    };
    for (int64_t i = 0; i < even; i += LANES) look(read(i));
    look(relu(last));
    int32_t largest_bits = 0;
    for (int lane = 0; lane < LANES; lane++) largest_bits = std::max(largest_bits, most[lane]);
    const float largest = from_bits(uint32_t(largest_bits)), per_unit = largest > 0 ? 127 / largest : 0;

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

// Lays one row of numbers out as operands.
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
            const Rounded rounded = round_to_whole(values + block * BLOCK, count, whole);
            to.scale[block_at + block * size] = rounded.scale;
            to.start[block_at + block * size] = rounded.start;
            for (int64_t i = 0; i < count; i += 4) std::memcpy(at + (block * BLOCK + i) / 4 * size, whole + i, 4);
        }
    }
}

// Multiplies a panel with a group of M rows: sums is [M, PANEL]. Where it is told how far on the next panel lies, it
// asks for it meanwhile.
template <int32_t P, int M>
inline void multiply_panel(const typename Weights<P>::Element* weight, int64_t inputs, const int32_t* x,
                           const float* scale, const int32_t* start, int64_t ahead, float* sums) {
    using W = Weights<P>;
    const int64_t block = P == INT8 ? BLOCK : inputs;
    floats total[M][V] = {};
    for (int64_t begin = 0; begin < inputs; begin += block) {
        typename W::Sum part[M][V] = {};
        if constexpr (P == INT8)
            for (int m = 0; m < M; m++)
                for (int v = 0; v < V; v++) part[m][v] += start[m];
        for (int64_t i = begin; i < std::min(begin + block, inputs); i += W::R, weight += W::R * PANEL, x += M) {
            decltype(W::read(weight)) read[V];
            for (int v = 0; v < V; v++) read[v] = W::read(weight + W::R * LANES * v);
            if (ahead)
                for (int64_t byte = 0; byte < int64_t(W::R * PANEL * sizeof *weight); byte += 64)
                    __builtin_prefetch((const char*)(weight + ahead) + byte, 0, 2);
            for (int m = 0; m < M; m++)
                for (int v = 0; v < V; v++) part[m][v] = W::add(part[m][v], read[v], x[m]);
        }
        for (int m = 0; m < M; m++)
            for (int v = 0; v < V; v++)
                if constexpr (P == INT8) total[m][v] += W::number(part[m][v]) * scale[m];
                else total[m][v] = part[m][v];
        if constexpr (P == INT8) scale += M, start += M;
    }
    for (int m = 0; m < M; m++)
        for (int v = 0; v < V; v++) *(floats*)(sums + m * PANEL + v * LANES) = total[m][v];
}

// Computes the panels [begin, end) of all rows; gives `count` outputs of a row at once to `take(row, first output,
// values, count)`.
template <int32_t P, class Take>
void multiply_panels(const Matrix& matrix, const Operands& x, int64_t begin, int64_t end, Take take) {
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
                take(row + m, output, values, count);
            }
        }
    }
}

// A thread's share [begin, end) of `count` things.
struct Share {
    int64_t begin, end;
    Share(int64_t count, int64_t thread, int64_t threads)
        : begin(count * thread / threads), end(count * (thread + 1) / threads) {}
};

Share panels(const Matrix& matrix, int64_t thread, int64_t threads) {
    return Share((matrix.outputs + PANEL - 1) / PANEL, thread, threads);
}

// Returns what puts outputs into rows of `width`.
inline auto copy_to(float* out, int64_t width) {
    return [=](int64_t row, int64_t output, const float* values, int count) {
        std::copy_n(values, count, out + row * width + output);
    };
}

}  // namespace
